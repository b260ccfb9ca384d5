//! What becomes of calls when processes come, go and die, and when the network between them does what networks do.
//!
//! Processes are this test binary started again ([`instance`]), because only a process can be killed. Each writes down what
//! it begins to carry out before it does; callers ([`load`]) mark each call and write down how it ended. The two lists
//! together say what was lost and what was done twice.

mod instance;
mod killed;
mod load;
mod network;
mod outage;
mod restarts;
mod storms;
mod versions;
