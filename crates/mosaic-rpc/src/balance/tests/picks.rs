use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[test]
fn nobody_is_nobody_and_one_is_always_the_one() {
    for balance in Balance::ALL {
        let draws = Draws::new(SEED);
        let ask = Ask { key: 1, now_us: NOW };
        assert_eq!(
            Picker::new(balance, Vec::new(), NOW, &draws).pick(ask, &draws, &[]),
            None
        );
        let bench = Bench::new(balance, nodes(1));
        assert_eq!([bench.pick_for(1, &[]), bench.pick_for(1, &[0])], [0, 0], "{balance}");
    }
}

#[test]
fn who_is_avoided_is_not_picked_while_there_is_another() {
    for balance in Balance::ALL {
        for n_nodes in [2, 3, 8] {
            let bench = Bench::new(balance, nodes(n_nodes));
            for only in 0..n_nodes {
                let avoid: Vec<usize> = (0..n_nodes).filter(|position| *position != only).collect();
                assert!((0..100).all(|key| bench.pick_for(key, &avoid) == only), "{balance}");
                assert!((0..100).all(|key| bench.pick_for(key, &[only]) != only), "{balance}");
            }
            let all: Vec<usize> = (0..n_nodes).collect();
            assert!(
                (0..100).all(|key| bench.pick_for(key, &all) < n_nodes),
                "{balance}: somebody must"
            );
        }
    }
}

#[test]
fn turns_of_one_that_is_avoided_are_spread_over_the_others() {
    for balance in [Balance::RoundRobin, Balance::WeightedRoundRobin] {
        let bench = Bench::new(balance, nodes(5));
        let picks: Vec<usize> = (0..20_000).map(|key| bench.pick_for(key, &[0])).collect();
        assert_shares(&shares(&picks, 5), &[0.0, 0.25, 0.25, 0.25, 0.25], 0.015);
    }
}

/// Whatever the fleet looks like: a position that exists, and not an avoided one if there is another.
#[test]
fn a_pick_is_always_good() {
    for seed in 0..3_000_u64 {
        let draws = Draws::new(seed);
        let chance = |n: usize| draws.below(n) == 0;
        let n_nodes = 1 + draws.below(12);
        let mut calls = Vec::new();
        let make = |index: usize| {
            let node = Arc::new(Node::new(&format!("n{index}"), draws.below(1_001) as u32, 5 * SECOND));
            let since = NOW - draws.below(20) as u64 * SECOND;
            if chance(2) {
                node.set_ready(since, Some(draws.below(100_000) as f64))
            } else {
                node.set_warm(since)
            }
            for _ in 0..draws.below(10) {
                let call = node.hold(NOW - draws.below(9_000_000) as u64);
                if chance(3) {
                    call.finish(
                        [Outcome::Failed, Outcome::Answered, Outcome::Abandoned][draws.below(3)],
                        NOW,
                    );
                }
                calls.push(call);
            }
            node
        };
        let nodes: Vec<Arc<Node>> = (0..n_nodes).map(make).collect();
        let avoid: Vec<usize> = (0..draws.below(12)).map(|_| draws.below(n_nodes + 2)).collect();
        let has_other = (0..n_nodes).any(|position| !avoid.contains(&position));
        for balance in Balance::ALL {
            let picker = Picker::new(balance, nodes.clone(), NOW, &draws);
            for _ in 0..5 {
                let ask = Ask {
                    key: draws.next(),
                    now_us: NOW + draws.below(10_000_000) as u64,
                };
                let position = picker.pick(ask, &draws, &avoid).unwrap();
                assert!(position < n_nodes, "seed {seed}: {balance}");
                assert!(
                    !has_other || n_nodes == 1 || !avoid.contains(&position),
                    "seed {seed}: {balance}"
                );
            }
        }
    }
}

/// Threads that pick and call while the fleet, weights and readiness change: nobody panics, nothing is lost.
#[test]
fn threads_pick_while_nodes_change() {
    for balance in Balance::ALL {
        let all = nodes(16);
        let draws = Draws::new(SEED);
        let picker = |n_nodes: usize| Arc::new(Picker::new(balance, all[..n_nodes].to_vec(), NOW, &draws));
        let current = RwLock::new(picker(16));
        let is_over = AtomicBool::new(false);
        let n_picked = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (current, draws, is_over, n_picked) = (&current, &draws, &is_over, &n_picked);
                scope.spawn(move || {
                    let mut calls = std::collections::VecDeque::new();
                    for index in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let picker = current.read().unwrap().clone();
                        let ask = Ask {
                            key: draws.next(),
                            now_us: NOW + index * 10 + thread,
                        };
                        let position = picker.pick(ask, draws, &[3]).unwrap();
                        calls.push_back(picker.nodes()[position].hold(ask.now_us));
                        if calls.len() > 50 {
                            let call = calls.pop_front().unwrap();
                            call.finish(
                                [Outcome::Answered, Outcome::Failed][(index % 2) as usize],
                                ask.now_us + 5,
                            );
                        }
                        n_picked.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for round in 0..60_u32 {
                all[round as usize % 16].set_weight(1 + round);
                all[(round as usize + 5) % 16].set_ready(NOW + u64::from(round), None);
                *current.write().unwrap() = picker(2 + round as usize % 15);
                let before = n_picked.load(Ordering::Relaxed);
                while n_picked.load(Ordering::Relaxed) < before + 50 {
                    std::thread::yield_now();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for node in &all {
            assert_eq!(node.n_in_flight(), 0, "{balance}");
            let latency = node.latency_us(NOW + SECOND);
            assert!((0.0..10.0 * SECOND as f64).contains(&latency), "{balance}: {latency}");
        }
    }
}
