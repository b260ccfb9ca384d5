//! What a bus promises to groups: sharing, order, handing over, following the dead, moving.

use std::collections::BTreeSet;
use std::time::Duration;

use mosaic_core::Timestamp;
use mosaic_events::{Change, Delivered, Member, Mode, Position, Start, Topic};
use tokio::time::timeout;

use crate::bench::{Bench, SOON, assert_in_order, gather, group, name, next, take, topic};

async fn join(bench: &Bench) -> Box<dyn Member> {
    bench.elsewhere().subscribe(&topic(), &group("readers")).await.unwrap()
}

/// Reads both members until `n` events came; what each had, and the partitions of each.
async fn take_both(members: [&mut Box<dyn Member>; 2], n: usize) -> Vec<Delivered> {
    let [one, other] = members;
    let mut taken = Vec::new();
    while taken.len() < n {
        let (change, member) = tokio::select! {
            change = next(one) => (change, &mut *one),
            change = next(other) => (change, &mut *other),
        };
        match change {
            Change::Assigned(_) | Change::Lost(_) => {}
            Change::Revoked(partition) => member.release(partition).await.unwrap(),
            Change::Events { partition, events } => {
                member.commit(partition, events.last().unwrap().position).await.unwrap();
                taken.extend(events);
            }
        }
    }
    taken
}

/// Reads changes until the member has `n` partitions.
async fn settle(member: &mut Box<dyn Member>, n: usize) -> BTreeSet<u32> {
    let mut mine = BTreeSet::new();
    while mine.len() != n {
        match next(member).await {
            Change::Assigned(partition) => mine.insert(partition),
            Change::Lost(partition) => mine.remove(&partition),
            Change::Revoked(partition) => {
                member.release(partition).await.unwrap();
                mine.remove(&partition)
            }
            Change::Events { .. } => panic!("nothing was published"),
        };
    }
    mine
}

pub(crate) async fn two_members_share_and_keep_the_order_of_keys(bench: &Bench) {
    let accounts: Vec<String> = (0..40).map(|n| format!("account-{n}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let mut one = join(bench).await;
    bench.publish(&accounts, 0..5).await;
    assert_eq!(take(&mut one, 200).await.len(), 200);
    // The second comes while there is work: half of the partitions change hands, and nothing else changes.
    let mut other = join(bench).await;
    let mut taken = Vec::new();
    for round in 0..10 {
        bench.publish(&accounts, 5 + round..6 + round).await;
        taken.extend(take_both([&mut one, &mut other], 40).await);
    }
    assert_eq!(assert_in_order(&taken, 5), 400);
    let lag = bench.bus.lag(&topic(), &name("readers")).await.unwrap();
    assert!(lag.iter().all(|lag| lag.events == 0), "{lag:?}");
}

pub(crate) async fn positions_survive_a_restart(bench: &Bench) {
    bench.publish(&["a"], 0..10).await;
    let mut member = join(bench).await;
    let (partition, events) = gather(&mut member, 10).await;
    // Committed in the middle of a batch: the rest comes again.
    member.commit(partition, events[3].position).await.unwrap();
    let lag = bench.bus.lag(&topic(), &name("readers")).await.unwrap();
    assert_eq!(lag.iter().map(|lag| lag.events).sum::<u64>(), 6);
    member.leave().await.unwrap();
    let mut member = join(bench).await;
    let taken = take(&mut member, 6).await;
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 4), 6);
}

pub(crate) async fn a_member_that_leaves_hands_over_at_once(bench: &Bench) {
    if !bench.bus.capabilities().balances {
        return the_next_in_line_follows(bench).await;
    }
    bench.bus.declare(&Topic::new(topic())).await.unwrap();
    let mut one = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    assert_eq!(settle(&mut one, 8).await.len(), 8);
    let mut other = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let half = async {
        let mut kept: BTreeSet<u32> = (0..8).collect();
        while kept.len() > 4 {
            if let Change::Revoked(partition) = next(&mut one).await {
                one.release(partition).await.unwrap();
                kept.remove(&partition);
            }
        }
        kept
    };
    let (kept, got) = timeout(SOON, async { tokio::join!(half, settle(&mut other, 4)) })
        .await
        .unwrap();
    assert!(kept.is_disjoint(&got), "{kept:?} {got:?}");
    one.leave().await.unwrap();
    assert_eq!(settle(&mut other, 4).await, kept);
}

/// Where nothing is balanced, the second member has nothing until the first one leaves, and then everything.
async fn the_next_in_line_follows(bench: &Bench) {
    let mut one = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    bench.publish(&["a", "b", "c"], 0..4).await;
    assert_eq!(take(&mut one, 12).await.len(), 12);
    let mut other = bench.elsewhere().subscribe(&topic(), &group("readers")).await.unwrap();
    bench.publish(&["a", "b", "c"], 4..8).await;
    assert!(timeout(Duration::from_millis(300), other.next()).await.is_err());
    one.leave().await.unwrap();
    let taken = take(&mut other, 12).await;
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 4), 12);
}

pub(crate) async fn a_dead_member_is_followed(bench: &Bench) {
    bench.publish(&["a"], 0..10).await;
    let mut dead = join(bench).await;
    let (partition, events) = gather(&mut dead, 10).await;
    dead.commit(partition, events[1].position).await.unwrap();
    drop(dead);
    let mut heir = join(bench).await;
    let taken = take(&mut heir, 8).await;
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 2), 8);
    assert!(
        bench
            .bus
            .lag(&topic(), &name("readers"))
            .await
            .unwrap()
            .iter()
            .all(|lag| lag.events == 0)
    );
}

pub(crate) async fn who_lost_a_partition_cannot_commit(bench: &Bench) {
    if !bench.bus.capabilities().seek_live {
        return;
    }
    bench.publish(&["a"], 0..10).await;
    let mut member = join(bench).await;
    let (partition, events) = gather(&mut member, 10).await;
    let last = events.last().unwrap().position;
    // A move takes the partition from whoever has it, as the end of a lease does.
    bench
        .bus
        .seek(&topic(), &name("readers"), &Position::Beginning)
        .await
        .unwrap();
    assert_eq!(
        member.commit(partition, last).await.unwrap_err().reason(),
        "EVENTS_FENCED"
    );
    assert_eq!(take(&mut member, 10).await.len(), 10);
    member.commit(partition, 3).await.unwrap();
    let lag = bench.bus.lag(&topic(), &name("readers")).await.unwrap();
    assert!(
        lag.iter().all(|lag| lag.events == 0),
        "a commit moved the position back: {lag:?}"
    );
}

pub(crate) async fn a_group_begins_where_it_is_told_and_moves(bench: &Bench) {
    bench.publish(&["a"], 0..5).await;
    let from_end = Mode::Group {
        name: name("late"),
        start: Start::End,
    };
    let mut late = bench.bus.subscribe(&topic(), &from_end).await.unwrap();
    bench.publish(&["a"], 5..7).await;
    let taken = take(&mut late, 2).await;
    let partition = taken[0].0;
    // Brokers begin to count with zero, or with one.
    let third = taken[0].1.position.saturating_sub(2);
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 5), 2);
    let seek = async |to: Position| bench.bus.seek(&topic(), &name("late"), &to).await;
    if !bench.bus.capabilities().seek {
        assert_eq!(
            seek(Position::Beginning).await.unwrap_err().reason(),
            "EVENTS_UNSUPPORTED"
        );
        return;
    }
    late.leave().await.unwrap();
    let positions = [
        (Position::Beginning, 0),
        (
            Position::Offset {
                partition,
                offset: third,
            },
            3,
        ),
        (Position::Time(Timestamp::EPOCH), 0),
    ];
    for (to, first) in positions {
        seek(to).await.unwrap();
        let mut late = bench.bus.subscribe(&topic(), &from_end).await.unwrap();
        let taken = take(&mut late, usize::try_from(7 - first).unwrap()).await;
        assert_in_order(taken.iter().map(|(_, event)| event), first);
        late.leave().await.unwrap();
    }
    seek(Position::Beginning).await.unwrap();
    seek(Position::End).await.unwrap();
    let mut late = bench.bus.subscribe(&topic(), &from_end).await.unwrap();
    bench.publish(&["a"], 7..8).await;
    assert_in_order(take(&mut late, 1).await.iter().map(|(_, event)| event), 7);
    if bench.bus.capabilities().seek_live {
        seek(Position::Beginning).await.unwrap();
        assert_in_order(take(&mut late, 8).await.iter().map(|(_, event)| event), 0);
    }
}

pub(crate) async fn a_paused_partition_rests_alone(bench: &Bench) {
    let mut member = join(bench).await;
    bench.publish(&["a", "b", "c", "d"], 0..1).await;
    let taken = take(&mut member, 4).await;
    let paused = taken[0].0;
    member.pause(paused);
    bench.publish(&["a", "b", "c", "d"], 1..2).await;
    let n_there = taken.iter().filter(|(partition, _)| *partition == paused).count();
    let others = take(&mut member, 4 - n_there).await;
    assert!(others.iter().all(|(partition, _)| *partition != paused));
    assert!(timeout(Duration::from_millis(300), member.next()).await.is_err());
    member.resume(paused);
    let rest = take(&mut member, n_there).await;
    assert!(rest.iter().all(|(partition, _)| *partition == paused));
}
