//! One contract, every engine (memory and SQLite always; PostgreSQL, MariaDB and Redis where their URLs are set), and the worker.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod bench;
mod cases;
mod chain_cases;
mod dying;
mod people_cases;
mod periodic_cases;
mod redis_asynq;
mod redis_cases;
mod redis_place;
mod redis_server;
mod redis_twin;
mod shared_cases;
mod simulation;
mod sql_cases;
mod worker_cases;
mod worker_more_cases;

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
            chain_cases::a_chain_runs_in_its_order_and_hands_results_on,
            chain_cases::a_task_waits_for_all_before_it,
            chain_cases::an_archived_task_holds_up_those_after_it_until_it_is_run_again,
            chain_cases::what_comes_after_a_deleted_task_is_archived_with_the_reason,
            chain_cases::a_task_after_one_that_has_succeeded_runs_at_once,
            chain_cases::a_task_comes_after_the_one_that_holds_the_key,
            chain_cases::two_that_turn_out_to_be_one_are_waited_for_once,
            chain_cases::impossible_chains_are_refused_whole,
            shared_cases::a_group_becomes_one_task_when_it_is_quiet,
            shared_cases::a_group_does_not_wait_for_ever_and_not_when_full,
            shared_cases::nothing_is_merged_twice_and_nothing_left_out,
            shared_cases::no_more_of_a_key_are_active_than_allowed,
            shared_cases::the_turn_of_the_dead_is_free_again,
            shared_cases::a_turn_that_nobody_took_is_not_lost,
            shared_cases::a_limit_holds_whatever_happens,
            shared_cases::starts_of_a_key_keep_their_rate,
            shared_cases::waiting_tasks_can_be_listed_and_run,
            people_cases::a_paused_queue_gives_nothing_and_others_go_on,
            people_cases::queues_say_how_they_stand,
            people_cases::all_of_a_state_are_commanded_page_by_page,
            people_cases::pages_follow_each_other,
            people_cases::a_payload_can_be_mended,
            people_cases::what_travels_beside_the_payload_arrives,
            people_cases::the_oldest_of_too_many_ended_tasks_go,
            periodic_cases::every_tick_fires_once,
            periodic_cases::a_step_is_taken_once_and_not_early,
            periodic_cases::a_late_process_fires_once_by_default,
            periodic_cases::schedules_change_and_go_with_a_deploy,
            sql_cases::effect_and_completion_commit_together,
            sql_cases::what_a_transaction_enqueued_wakes_workers_after_the_commit,
            sql_cases::other_processes_hear_of_new_tasks,
            sql_cases::a_full_disk_loses_nothing,
            sql_cases::a_task_commits_with_what_made_it_necessary,
            sql_cases::clocks_that_differ_do_not_hand_out_a_task_twice,
        );)*
    };
}

contracts!(memory sqlite postgres mysql redis);
