//! One contract, every engine: SQLite in a file and in memory always; PostgreSQL and MariaDB where their URLs are set.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod cases;
mod dropped_cases;
mod engine;
mod last_cases;
mod log;
mod migration_cases;
mod rows_cases;

use engine::Engine;

/// Runs every case on one engine, each in a namespace of its own.
macro_rules! contract {
    ($engine:ident: $($cases:ident::$case:ident),* $(,)?) => {
        mod $engine {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let module = format!("t_{}", stringify!($case));
                    if let Some(engine) = Engine::$engine(&module[..module.len().min(40)]).await {
                        $cases::$case(&engine).await;
                    }
                }
            )*
        }
    };
}

macro_rules! contracts {
    ($($engine:ident)*) => {
        $(contract!($engine:
            cases::rows_survive_a_round_trip,
            cases::of_parallel_inserts_of_one_key_exactly_one_wins,
            cases::a_dropped_transaction_leaves_nothing,
            cases::what_waits_for_the_commit_hears_of_no_other_end,
            cases::a_failed_body_leaves_nothing,
            last_cases::what_is_said_last_is_done_with_the_rest_or_not_at_all,
            last_cases::what_fails_last_undoes_the_rest,
            last_cases::what_is_said_last_is_taken_by_the_letter,
            last_cases::much_that_is_said_last_is_said_in_its_order,
            cases::parallel_read_modify_write_loses_nothing,
            cases::what_reads_first_may_write_later,
            cases::a_conflict_runs_the_body_again,
            cases::reads_go_on_while_a_transaction_writes,
            rows_cases::many_rows_are_one_parameter,
            rows_cases::rows_of_one_column_are_plain_values,
            dropped_cases::what_is_given_up_breaks_nothing,
            migration_cases::migrations_run_once_however_often_and_by_whom,
            migration_cases::a_migration_that_fails_is_named_and_goes_on_later,
            migration_cases::a_newer_schema_is_accepted,
            cases::a_full_pool_answers_unavailable_in_time,
            cases::a_slow_query_is_logged_without_its_values,
            cases::foreign_keys_hold,
            cases::equality_is_by_bytes,
            cases::a_closed_database_is_unavailable,
        );)*
    };
}

contracts!(sqlite_file sqlite_memory postgres mysql);
