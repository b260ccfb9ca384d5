//! One contract, every engine (memory and SQLite always; PostgreSQL and MariaDB where their URLs are set), and the worker.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod bench;
mod cases;
mod dying;
mod sql_cases;
mod worker_cases;

use bench::Bench;

/// Runs every case on one engine, each in a namespace of its own.
macro_rules! contract {
    ($engine:ident: $($cases:ident::$case:ident),* $(,)?) => {
        mod $engine {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let module = concat!("tasks_", stringify!($case));
                    if let Some(bench) = Bench::$engine(&module[..module.len().min(40)]).await {
                        $cases::$case(&bench).await;
                        bench.remove().await;
                    }
                }
            )*
        }
    };
}

macro_rules! contracts {
    ($($engine:ident)*) => {
        $(contract!($engine:
            cases::claims_are_exclusive_under_concurrency,
            cases::higher_priority_first_then_earlier,
            cases::a_delayed_task_is_not_early,
            cases::only_known_kinds_are_claimed,
            cases::a_unique_key_is_held_until_the_end_or_its_time,
            cases::a_lost_lease_returns_the_task_and_refuses_the_old_worker,
            cases::heartbeats_keep_a_lease,
            cases::a_result_is_kept_for_its_time,
            cases::a_poison_task_lands_in_the_archive,
            cases::people_command_tasks,
            cases::batches_are_large_and_keep_their_order,
            cases::nothing_vanishes_whatever_happens,
            sql_cases::a_task_commits_with_what_made_it_necessary,
            sql_cases::clocks_that_differ_do_not_hand_out_a_task_twice,
        );)*
    };
}

contracts!(memory sqlite postgres mysql);
