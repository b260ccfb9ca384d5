//! An application of three modules as its callers see it: together, strictly encoded, apart; whole and in trouble.

mod deadlines;
mod finding;
mod guarding;
mod panics;
mod program;
mod raw;
mod shutdown;
mod stage;
mod streams;
