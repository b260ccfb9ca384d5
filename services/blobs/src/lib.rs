//! Files that users upload: who may, and what a file is.
