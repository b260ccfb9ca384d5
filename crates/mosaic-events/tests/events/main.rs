//! One contract, every engine (memory and SQLite always; PostgreSQL and MariaDB where their URLs are set), and what stands on it.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod bench;
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
mod brokers;
mod bus_cases;
mod consumer_cases;
mod disk_full;
mod faults;
mod group_cases;
mod inbox_cases;
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
mod outage;
mod outbox_cases;
mod upgrade;

use bench::Bench;

/// Runs every case on one engine, each in a namespace of its own.
macro_rules! contract {
    ($engine:ident: $($cases:ident::$case:ident),* $(,)?) => {
        mod $engine {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let module = concat!("events_", stringify!($case));
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
            bus_cases::what_is_published_comes_once_and_in_order_of_its_key,
            bus_cases::a_batch_of_thousands_is_whole,
            bus_cases::too_large_is_refused_and_nothing_of_the_batch_stays,
            bus_cases::everybody_hears_a_broadcast_from_now_on,
            bus_cases::lag_is_counted_and_goes,
            bus_cases::old_events_are_deleted_by_size,
            group_cases::two_members_share_and_keep_the_order_of_keys,
            group_cases::positions_survive_a_restart,
            group_cases::a_member_that_leaves_hands_over_at_once,
            group_cases::a_dead_member_is_followed,
            group_cases::who_lost_a_partition_cannot_commit,
            group_cases::a_group_begins_where_it_is_told_and_moves,
            group_cases::a_paused_partition_rests_alone,
            consumer_cases::events_are_handled_once_in_order_and_in_their_trace,
            consumer_cases::a_poison_event_becomes_a_dead_letter_and_can_be_replayed,
            consumer_cases::of_a_batch_only_the_poison_event_is_dead,
            consumer_cases::a_failing_key_does_not_hold_up_others_and_keeps_its_order,
            consumer_cases::unknown_events_are_skipped_and_a_stopped_group_goes_on_later,
            consumer_cases::a_graceful_handover_repeats_nothing,
            consumer_cases::every_process_hears_what_is_broadcast,
            inbox_cases::an_event_is_new_once_for_each_consumer,
            inbox_cases::what_is_old_is_forgotten_unless_it_was_handled_late,
            outbox_cases::what_commits_is_published_and_nothing_else,
            outbox_cases::a_relay_that_lost_its_lease_marks_nothing,
            outbox_cases::two_relays_send_everything_once_and_follow_each_other,
            outbox_cases::a_bus_that_is_away_delays_and_poison_does_not_block,
            outbox_cases::tasks_go_to_their_sink_and_old_rows_are_deleted,
        );)*
    };
}

contracts!(memory sqlite sqlite_apart postgres postgres_apart mysql);
#[cfg(feature = "nats")]
contracts!(nats);
#[cfg(feature = "rabbitmq")]
contracts!(rabbitmq);
#[cfg(feature = "kafka")]
contracts!(kafka kafka_mock);
