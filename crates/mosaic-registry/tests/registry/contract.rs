//! What holds for every registry; [`contract`] and [`outage_contract`] make tests of it for a stage.

use std::time::Duration;

use crate::stage::{Breakable, Stage, addresses_of, at, name, sees, soon};

/// Makes one test for each clause of the contract.
macro_rules! contract {
    ($stage:ident) => {
        $crate::contract::clauses!($stage, contract:
            an_announced_instance_appears_and_a_withdrawn_one_disappears,
            two_services_do_not_mix,
            metadata_travels,
            two_entries_of_one_address_are_one_instance,
            a_service_without_instances_is_known_to_have_none,
            watchers_of_one_service_see_the_same_and_late_ones_at_once,
        );
    };
}

/// Makes one test for each clause about outages.
macro_rules! outage_contract {
    ($stage:ident) => {
        $crate::contract::clauses!($stage, outages:
            an_outage_empties_nothing_and_is_told,
            what_changed_in_an_outage_is_seen_after_it,
            a_process_that_starts_in_an_outage_gets_on_after_it,
        );
    };
}

macro_rules! clauses {
    ($stage:ident, $module:ident: $($clause:ident),* $(,)?) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $clause() {
                    if let Some(stage) = <super::$stage as $crate::stage::Stage>::new().await {
                        $crate::contract::$clause(stage).await;
                    }
                }
            )*
        }
    };
}

pub(crate) use {clauses, contract, outage_contract};

pub(crate) async fn an_announced_instance_appears_and_a_withdrawn_one_disappears(mut stage: impl Stage) {
    let process = stage.open();
    let mut watch = process.watch("users");
    stage.announce("users", at("10.0.0.1:9080")).await;
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    assert!(watch.is_live());
    stage.announce("users", at("10.0.0.2:9080")).await;
    let both = sees(&mut watch, &["10.0.0.1:9080", "10.0.0.2:9080"]).await;
    stage.withdraw("users", "10.0.0.1:9080").await;
    let one = sees(&mut watch, &["10.0.0.2:9080"]).await;
    assert!(one.version() > both.version() && one.since() >= both.since());
    stage.withdraw("users", "10.0.0.2:9080").await;
    sees(&mut watch, &[]).await;
}

pub(crate) async fn two_services_do_not_mix(mut stage: impl Stage) {
    let process = stage.open();
    // One name is the beginning of the other.
    let (mut users, mut others) = (process.watch("users"), process.watch("users-2"));
    stage.announce("users", at("10.0.0.1:9080")).await;
    stage.announce("users-2", at("10.0.0.2:9080")).await;
    sees(&mut users, &["10.0.0.1:9080"]).await;
    sees(&mut others, &["10.0.0.2:9080"]).await;
    stage.withdraw("users-2", "10.0.0.2:9080").await;
    sees(&mut others, &[]).await;
    sees(&mut users, &["10.0.0.1:9080"]).await;
}

pub(crate) async fn metadata_travels<S: Stage>(mut stage: S) {
    let process = stage.open();
    let instance = at("10.0.0.1:9080").with("zone", "b \"quoted\" ü");
    stage.announce("users", instance.clone()).await;
    let snapshot = sees(&mut process.watch("users"), &["10.0.0.1:9080"]).await;
    if S::HAS_METADATA {
        assert_eq!(snapshot.instances()[0].zone(), instance.zone());
    }
}

pub(crate) async fn two_entries_of_one_address_are_one_instance(mut stage: impl Stage) {
    let process = stage.open();
    for _ in 0..2 {
        stage.announce("users", at("10.0.0.1:9080")).await;
    }
    stage.announce("users", at("10.0.0.2:9080")).await;
    sees(&mut process.watch("users"), &["10.0.0.1:9080", "10.0.0.2:9080"]).await;
}

pub(crate) async fn a_service_without_instances_is_known_to_have_none(stage: impl Stage) {
    let process = stage.open();
    let mut watch = process.watch("nobody");
    let snapshot = soon("an answer", watch.changed()).await.expect("a snapshot");
    assert_eq!((addresses_of(&snapshot), snapshot.version()), (vec![], 1));
}

pub(crate) async fn watchers_of_one_service_see_the_same_and_late_ones_at_once(mut stage: impl Stage) {
    let process = stage.open();
    stage.announce("users", at("10.0.0.1:9080")).await;
    let mut first = process.watch("users");
    let snapshot = sees(&mut first, &["10.0.0.1:9080"]).await;
    let late = process.registry.watch(&name("users"));
    let known = late.current().expect("what the first watcher knows");
    assert!(
        std::sync::Arc::ptr_eq(&known, &snapshot),
        "one conversation, one snapshot"
    );
}

pub(crate) async fn an_outage_empties_nothing_and_is_told(mut stage: impl Breakable) {
    let process = stage.open();
    stage.announce("users", at("10.0.0.1:9080")).await;
    let mut watch = process.watch("users");
    let before = sees(&mut watch, &["10.0.0.1:9080"]).await;
    stage.break_down().await;
    soon("the outage to be noticed", async {
        while watch.is_live() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(watch.current().as_deref(), Some(&*before));
    stage.mend().await;
    soon("the end of the outage to be noticed", async {
        while !watch.is_live() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Not replaced by an equal one either, nor by an empty one in between.
    assert_eq!(watch.current().as_deref(), Some(&*before));
}

pub(crate) async fn what_changed_in_an_outage_is_seen_after_it(mut stage: impl Breakable) {
    let process = stage.open();
    stage.announce("users", at("10.0.0.1:9080")).await;
    let mut watch = process.watch("users");
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    stage.break_down().await;
    stage.mend().await;
    stage.announce("users", at("10.0.0.2:9080")).await;
    sees(&mut watch, &["10.0.0.1:9080", "10.0.0.2:9080"]).await;
}

pub(crate) async fn a_process_that_starts_in_an_outage_gets_on_after_it(mut stage: impl Breakable) {
    stage.announce("users", at("10.0.0.1:9080")).await;
    stage.break_down().await;
    let process = stage.open();
    let mut watch = process.watch("users");
    // Two attempts and more: the pauses begin with a tenth of a second.
    let early = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
    assert!(early.is_err(), "nothing is known yet, not even that there is nobody");
    assert_eq!((watch.current(), watch.is_live()), (None, false));
    stage.mend().await;
    sees(&mut watch, &["10.0.0.1:9080"]).await;
}
