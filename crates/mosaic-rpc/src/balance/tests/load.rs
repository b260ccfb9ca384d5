use super::*;

const BY_LOAD: [Balance; 3] = [Balance::P2c, Balance::LeastActive, Balance::Fastest];

#[test]
fn least_active_fills_up_in_proportion_to_weight() {
    let bench = Bench::new(Balance::LeastActive, weighted(&[100, 200, 400]));
    let calls: Vec<Held> = (0..700).map(|_| bench.node(bench.pick()).hold(NOW)).collect();
    let in_flight = [0, 1, 2].map(|position| bench.node(position).n_in_flight());
    assert!(
        (99..=101).contains(&in_flight[0]) && (199..=201).contains(&in_flight[1]),
        "{in_flight:?}"
    );
    drop(calls);
    let want = [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0];
    assert_shares(&shares(&bench.picks(30_000), 3), &want, 0.02);
}

#[test]
fn equals_are_picked_evenly_wherever_they_stand() {
    for balance in [Balance::LeastActive, Balance::Fastest] {
        let bench = Bench::new(balance, nodes(10));
        let _busy: Vec<Held> = (0..8).map(|position| bench.node(position).hold(NOW)).collect();
        let got = shares(&bench.picks(10_000), 10);
        assert_shares(&got[8..], &[0.5, 0.5], 0.03);
    }
}

#[test]
fn fastest_calls_the_one_that_answers_soonest() {
    let mut bench = Bench::new(Balance::Fastest, nodes(4));
    for position in 0..4 {
        bench.teach(position, 100, [9_000, 3_000, 5_000, 7_000][position], Outcome::Answered);
    }
    assert_eq!(bench.pick(), 1);
    let _busy: Vec<Held> = (0..2).map(|_| bench.node(1).hold(bench.now_us)).collect();
    assert_eq!(bench.pick(), 2, "the queue counts");
}

#[test]
fn who_avoids_the_best_gets_the_second_best() {
    for balance in [Balance::LeastActive, Balance::Fastest] {
        let bench = Bench::new(balance, nodes(10));
        let _busy: Vec<Held> = (0..10)
            .flat_map(|n| vec![n; n])
            .map(|n| bench.node(n).hold(NOW))
            .collect();
        assert!((0..50).all(|key| bench.pick_for(key, &[0, 1]) == 2), "{balance}");
    }
}

#[test]
fn p2c_sends_little_to_a_slow_node() {
    let mut bench = Bench::new(Balance::P2c, nodes(5));
    let call = |position| (if position == 0 { 50_000 } else { 5_000 }, Outcome::Answered);
    bench.serve(1_000, call);
    let got = bench.serve(5_000, call);
    assert!(got[0] < 0.01, "{got:.4?}");
    assert_shares(&got[1..], &[0.25; 4], 0.15);
}

#[test]
fn p2c_leaves_a_silent_node_before_its_first_call_fails() {
    let mut bench = Bench::new(Balance::P2c, nodes(2));
    bench.teach(0, 100, 5_000, Outcome::Answered);
    bench.teach(1, 100, 5_000, Outcome::Answered);
    let _silent: Vec<Held> = (0..2).map(|_| bench.node(0).hold(bench.now_us)).collect();
    // Others of the same age at a node that answers one a millisecond.
    let _busy: Vec<Held> = (0..4).map(|_| bench.node(1).hold(bench.now_us)).collect();
    assert_eq!(bench.pick(), 0, "fewer calls in flight, nothing suspicious yet");
    bench.now_us += 100_000;
    drop(_busy);
    assert!(bench.picks(100).iter().all(|position| *position == 1));
}

#[test]
fn who_fails_fast_does_not_attract() {
    for balance in BY_LOAD {
        let mut bench = Bench::new(balance, nodes(5));
        let call = |position| match position {
            0 => (100, Outcome::Failed),
            _ => (5_000, Outcome::Answered),
        };
        let first = bench.serve(500, call);
        assert!(first[0] < 0.15, "{balance}: {first:.3?}");
        let got = bench.serve(5_000, call);
        assert!(got[0] < 0.01, "{balance}: {got:.4?}");
    }
}

#[test]
fn a_forgotten_node_is_tried_again_by_one_caller() {
    for balance in BY_LOAD {
        let mut bench = Bench::new(balance, nodes(2));
        bench.teach(1, 100, 1_000, Outcome::Answered);
        bench.teach(0, 30, 300_000, Outcome::Failed);
        let stuck = bench.node(0).hold(bench.now_us);
        let last = bench.now_us;
        let is_tried = |bench: &Bench| {
            drop(bench.node(1).hold(bench.now_us));
            bench.picks(200).iter().filter(|position| **position == 0).count()
        };
        bench.now_us = last + 2_900_000;
        assert_eq!(is_tried(&bench), 0, "{balance}");
        bench.now_us = last + 3_000_001;
        assert_eq!(is_tried(&bench), 1, "{balance}: claimed by the first");
        bench.now_us += 2_900_000;
        assert_eq!(is_tried(&bench), 0, "{balance}");
        bench.now_us += 200_000;
        assert_eq!(is_tried(&bench), 1, "{balance}");
        drop(stuck);
    }
}

#[test]
fn where_calls_are_rare_the_better_node_is_still_preferred() {
    let mut bench = Bench::new(Balance::P2c, nodes(2));
    let mut n_slow = 0;
    for _ in 0..1_000 {
        // Everybody is forgotten at every call.
        bench.now_us += 10 * SECOND;
        let position = bench.pick();
        let held = bench.node(position).hold(bench.now_us);
        held.finish(Outcome::Answered, bench.now_us + [100_000, 5_000][position]);
        n_slow += u32::from(position == 0);
    }
    assert!((50..250).contains(&n_slow), "{n_slow} of 1000");
}

#[test]
fn a_node_that_has_recovered_gets_its_share_back() {
    for balance in BY_LOAD {
        let mut bench = Bench::new(balance, nodes(4));
        let answer = |taken_us| move |position| (if position == 0 { taken_us } else { 5_000 }, Outcome::Answered);
        bench.serve(500, answer(5_000));
        bench.teach(0, 10, 500_000, Outcome::Failed);
        // 20 s of calls, a bit faster than the others' so that one at a time tells.
        bench.serve(4_000, answer(4_000));
        let got = bench.serve(1_000, answer(4_000));
        assert!(got[0] > 0.2, "{balance}: {got:.3?}");
    }
}

#[test]
fn slow_start_gives_a_growing_share() {
    for balance in [
        Balance::P2c,
        Balance::RoundRobin,
        Balance::WeightedRoundRobin,
        Balance::Random,
        Balance::WeightedRandom,
        Balance::LeastActive,
        Balance::Fastest,
    ] {
        let nodes = nodes(4);
        nodes[0].set_ready(NOW, None);
        let mut bench = Bench::new(balance, nodes);
        for (seconds, ramp) in [(0, 0.1), (1, 0.2), (3, 0.6), (5, 1.0)] {
            bench.now_us = NOW + seconds * SECOND;
            // Nobody is forgotten.
            (0..4).for_each(|position| drop(bench.node(position).hold(bench.now_us)));
            let got = shares(&bench.picks(20_000), 4);
            let want = 0.25 * ramp;
            assert!(
                (want * 0.85..want * 1.15).contains(&got[0]),
                "{balance} after {seconds} s: {got:.3?}"
            );
            assert_shares(&got[1..], &[(1.0 - want) / 3.0; 3], 0.02);
        }
    }
}

#[test]
fn slow_start_holds_between_two_nodes_too() {
    for balance in [
        Balance::P2c,
        Balance::RoundRobin,
        Balance::LeastActive,
        Balance::Fastest,
    ] {
        let nodes = nodes(2);
        nodes[0].set_ready(NOW, None);
        let bench = Bench::new(balance, nodes);
        // The old one is busy: the new one looks better to all that go by load.
        let _busy: Vec<Held> = (0..5).map(|_| bench.node(1).hold(NOW)).collect();
        let got = shares(&bench.picks(10_000), 2)[0];
        assert!(got < 0.12, "{balance}: {got}");
    }
}

#[test]
fn who_is_new_and_idle_is_not_flooded() {
    for balance in BY_LOAD {
        let nodes = nodes(10);
        nodes[0].set_ready(NOW, None);
        let bench = Bench::new(balance, nodes);
        // Ten calls in flight at each of the others; the new one keeps those it gets.
        let _busy: Vec<Held> = (0..90).map(|index| bench.node(1 + index % 9).hold(NOW)).collect();
        let mut at_new = Vec::new();
        for _ in 0..1_000 {
            if bench.pick() == 0 {
                at_new.push(bench.node(0).hold(NOW));
            }
        }
        assert!((1..=2).contains(&at_new.len()), "{balance}: {}", at_new.len());
    }
}

#[test]
fn where_all_are_new_nobody_waits() {
    let nodes = nodes(3);
    nodes.iter().for_each(|node| node.set_ready(NOW, None));
    for balance in Balance::ALL {
        let bench = Bench::new(balance, nodes.clone());
        assert_shares(&shares(&bench.picks(6_000), 3), &[1.0 / 3.0; 3], 0.13);
    }
    let turns = Bench::new(Balance::RoundRobin, nodes).picks(30);
    assert!(turns.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{turns:?}");
}
