//! What those whom one follows have published.
