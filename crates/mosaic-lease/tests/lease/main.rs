//! One contract, every engine (memory and SQLite always; PostgreSQL, MariaDB and Redis where their URLs are set), then who
//! leads, who takes jobs, and what is left when nodes die, hang or lie.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod bench;
mod cases;
mod jobs;
mod leading;
mod placing;

use bench::Bench;

/// Runs every case on one engine, each in a namespace of its own.
macro_rules! contract {
    ($engine:ident: $($cases:ident::$case:ident),* $(,)?) => {
        mod $engine {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(bench) = Bench::$engine(concat!("lease_", stringify!($case))).await {
                        $cases::$case(&bench).await;
                        bench.remove().await;
                    }
                }
            )*
        }
    };
}

macro_rules! leases {
    ($($engine:ident)*) => {
        $(contract!($engine:
            cases::one_of_many_gets_it,
            cases::numbers_rise_for_ever,
            cases::who_is_late_has_lost,
            cases::names_are_checked,
            cases::loads_are_forgotten,
        );)*
    };
}

macro_rules! tables {
    ($($engine:ident)*) => {
        mod table {
            use super::*;
            $(contract!($engine:
                jobs::a_write_is_fenced,
                jobs::abandoned_rows_are_taken_over,
                jobs::two_never_take_the_same,
            );)*
        }
    };
}

leases!(memory sqlite postgres mysql redis);
tables!(sqlite postgres mysql);
