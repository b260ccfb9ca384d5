//! Who does it: leases with fencing numbers, leaders, and jobs that go to the node with the least to do.
//!
//! A [`Leases`] engine (memory, SQL, Redis) grants a name to one holder for a time, and with each grant a number that only
//! rises. A holder that hangs beyond its lease does not know that it lost it: only the store that it writes to can tell, by
//! refusing a number that is not the last one ([`SqlLeases::check_in`]). That is Kleppmann's fencing token ("How to do distributed
//! locking", 2016); without it a lease is a hint.
//!
//! On leases stand a [`Candidate`], which runs work in one process of many and hands over when told to; [`LoadPolicy`],
//! which lets the lighter node take the job and a leader whose load rises give it away; and [`Jobs`], a table of standing
//! jobs whose rows are taken over when nobody renews them.
//!
//! Promised: two processes never both hold the last number; who dies is followed after its lease; who leaves is followed at
//! once. Not promised: that two never *run* at the same time (the one may hang and wake up: check the number where
//! you write), nor that the lightest node always has the job (see [`LoadPolicy`]).

mod candidate;
mod jobs;
mod lease;
mod load;
mod memory;
mod redis;
mod sql;

pub use candidate::{Candidate, CandidateOptions, Leadership};
pub use jobs::{Job, JobRunner, Jobs};
pub use lease::{Acquired, Holder, Lease, Leases, NAME_MAX, NodeLoad};
pub use load::{LoadPolicy, LoadSource, Turn};
pub use memory::MemoryLeases;
pub use redis::RedisLeases;
pub use sql::{MIGRATIONS, SqlLeases};
