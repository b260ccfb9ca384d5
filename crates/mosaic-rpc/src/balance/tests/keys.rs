use super::*;

const HASHES: [Balance; 3] = [Balance::Hash, Balance::WeightedHash, Balance::ConsistentHash];

/// Owners of the keys 0 to `n_keys` on a ring of `nodes`.
fn owners(balance: Balance, nodes: &[Arc<Node>], n_keys: u64) -> Vec<usize> {
    let bench = Bench::new(balance, nodes.to_vec());
    (0..n_keys).map(|key| bench.pick_for(key, &[])).collect()
}

#[test]
fn a_key_stays_where_it_is_whatever_the_draws_and_the_time() {
    let nodes = nodes(10);
    for balance in HASHES {
        let want = owners(balance, &nodes, 1_000);
        let mut bench = Bench::new(balance, nodes.clone());
        (bench.draws, bench.now_us) = (Draws::new(SEED + 1), NOW + 77 * SECOND);
        let got: Vec<usize> = (0..1_000).map(|key| bench.pick_for(key, &[])).collect();
        assert_eq!(got, want, "{balance}");
    }
}

#[test]
fn keys_are_the_same_in_every_process_and_version() {
    let nodes = weighted(&[100, 100, 200, 50, 100]);
    let vector = |balance| owners(balance, &nodes, 20);
    assert_eq!(
        vector(Balance::Hash),
        [0, 4, 0, 1, 2, 2, 2, 4, 0, 3, 2, 2, 0, 1, 4, 3, 0, 2, 3, 1]
    );
    assert_eq!(
        vector(Balance::WeightedHash),
        [0, 1, 4, 0, 2, 2, 4, 0, 4, 2, 0, 1, 1, 4, 0, 0, 4, 1, 4, 4]
    );
    assert_eq!(
        vector(Balance::ConsistentHash),
        [0, 4, 2, 2, 0, 0, 1, 0, 2, 4, 3, 0, 1, 4, 1, 2, 0, 2, 1, 1]
    );
    assert_eq!(hash_text("10.0.0.7:9080"), 0x943f_87bf_2666_2985);
}

#[test]
fn keys_are_shared_out_in_proportion() {
    let nodes = weighted(&[100, 100, 200, 400, 200]);
    for (balance, want, tolerance) in [
        (Balance::Hash, [0.2; 5], 0.01),
        (Balance::WeightedHash, [0.1, 0.1, 0.2, 0.4, 0.2], 0.01),
        (Balance::ConsistentHash, [0.1, 0.1, 0.2, 0.4, 0.2], 0.04),
    ] {
        assert_shares(&shares(&owners(balance, &nodes, 50_000), 5), &want, tolerance);
    }
}

#[test]
fn shares_of_a_ring_are_as_even_as_with_ten_times_the_points() {
    let got = shares(&owners(Balance::ConsistentHash, &nodes(100), 200_000), 100);
    let deviation = (got.iter().map(|share| (share * 100.0 - 1.0).powi(2)).sum::<f64>() / 100.0).sqrt();
    assert!(deviation < 0.11, "{deviation}");
}

#[test]
fn few_keys_move_when_a_node_comes_or_goes() {
    for n_nodes in [2, 3, 10, 50] {
        let all = nodes(n_nodes);
        let with = owners(Balance::ConsistentHash, &all, 20_000);
        for gone in [0, n_nodes / 2, n_nodes - 1] {
            let mut rest = all.clone();
            rest.remove(gone);
            let without = owners(Balance::ConsistentHash, &rest, 20_000);
            let place = |position: usize| if position >= gone { position + 1 } else { position };
            let moved = || {
                with.iter()
                    .zip(&without)
                    .filter(|(with, without)| **with != place(**without))
            };
            assert!(
                moved().all(|(with, _)| *with == gone),
                "a key of another node has moved"
            );
            let share = moved().count() as f64 / 20_000.0;
            assert!(share <= 1.5 / n_nodes as f64, "{share} of {n_nodes}");
        }
    }
}

#[test]
fn a_change_of_weight_moves_keys_only_to_or_from_that_node() {
    let nodes = nodes(10);
    let before = owners(Balance::ConsistentHash, &nodes, 20_000);
    nodes[3].set_weight(150);
    let after = owners(Balance::ConsistentHash, &nodes, 20_000);
    let mut moved = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!(moved.all(|(_, after)| *after == 3));
}

#[test]
fn a_popular_key_does_not_drown_its_owner() {
    for n_nodes in [2, 5, 40] {
        let bench = Bench::new(Balance::ConsistentHash, nodes(n_nodes));
        let owner = bench.pick_for(42, &[]);
        let mut calls = Vec::new();
        for n_calls in 1..=200_u32 {
            // Half of the calls are for one key.
            let key = if n_calls % 2 == 0 { 42 } else { bench.draws.next() };
            let position = bench.pick_for(key, &[]);
            calls.push(bench.node(position).hold(NOW));
            let most = (0..n_nodes)
                .map(|position| bench.node(position).n_in_flight())
                .max()
                .unwrap();
            let bound = (1.25 * f64::from(n_calls + 1) / n_nodes as f64).ceil().max(2.0) as u32;
            assert!(most <= bound, "{most} of {n_calls} calls at one of {n_nodes} nodes");
        }
        let is_passed_on = |_| {
            let position = bench.pick_for(42, &[]);
            calls.push(bench.node(position).hold(NOW));
            position != owner
        };
        assert!((0..200).any(is_passed_on), "full at some point");
        drop(calls);
        let _one = bench.node(owner).hold(NOW);
        assert_eq!(bench.pick_for(42, &[]), owner, "comes back when there is room");
    }
}

#[test]
fn overflow_of_a_key_goes_to_the_same_next_node() {
    let bench = Bench::new(Balance::ConsistentHash, nodes(10));
    let owner = bench.pick_for(42, &[]);
    let _busy: Vec<Held> = (0..50).map(|_| bench.node(owner).hold(NOW)).collect();
    let next: Vec<usize> = (0..20).map(|_| bench.pick_for(42, &[])).collect();
    assert!(
        next.iter().all(|position| *position == next[0] && *position != owner),
        "{next:?}"
    );
}

#[test]
fn overflow_of_one_node_is_spread_over_the_others() {
    let bench = Bench::new(Balance::ConsistentHash, nodes(5));
    let keys: Vec<u64> = (0..10_000).filter(|key| bench.pick_for(*key, &[]) == 0).collect();
    let _busy: Vec<Held> = (0..50).map(|_| bench.node(0).hold(NOW)).collect();
    let heirs: Vec<usize> = keys.iter().map(|key| bench.pick_for(*key, &[])).collect();
    assert_shares(&shares(&heirs, 5), &[0.0, 0.25, 0.25, 0.25, 0.25], 0.15);
}

#[test]
fn the_lightest_node_has_few_keys_but_some() {
    let got = shares(
        &owners(Balance::ConsistentHash, &weighted(&[1, 100, 100, 100]), 50_000),
        4,
    );
    assert!((0.001..0.05).contains(&got[0]), "{got:.4?}");
}

#[test]
fn who_avoids_the_owner_of_a_key_comes_to_the_same_other_node() {
    for balance in HASHES {
        let bench = Bench::new(balance, nodes(10));
        for key in 0..100 {
            let owner = bench.pick_for(key, &[]);
            let others: Vec<usize> = (0..10).map(|_| bench.pick_for(key, &[owner])).collect();
            assert!(
                others
                    .iter()
                    .all(|position| *position == others[0] && *position != owner),
                "{balance}"
            );
        }
    }
}

#[test]
fn keys_of_a_lost_node_are_spread_over_the_others() {
    for balance in HASHES {
        let bench = Bench::new(balance, nodes(5));
        let lost = (0..10_000).filter(|key| bench.pick_for(*key, &[]) == 0);
        let heirs: Vec<usize> = lost.map(|key| bench.pick_for(key, &[0])).collect();
        assert_shares(&shares(&heirs, 5), &[0.0, 0.25, 0.25, 0.25, 0.25], 0.1);
    }
}

#[test]
fn who_avoids_nearly_all_still_comes_to_the_same_node() {
    for balance in HASHES {
        let bench = Bench::new(balance, nodes(12));
        let avoid: Vec<usize> = (0..10).collect();
        for key in 0..100 {
            let picks: Vec<usize> = (0..5).map(|_| bench.pick_for(key, &avoid)).collect();
            assert!(
                picks.iter().all(|position| *position == picks[0]),
                "{balance}: {picks:?}"
            );
        }
    }
}

#[test]
fn a_node_that_fails_or_has_just_come_keeps_its_keys() {
    for balance in HASHES {
        let nodes = nodes(4);
        let before = owners(balance, &nodes, 1_000);
        let mut bench = Bench::new(balance, nodes.clone());
        bench.teach(2, 50, 1_000, Outcome::Failed);
        nodes[1].set_ready(NOW, None);
        assert_eq!(owners(balance, &nodes, 1_000), before, "{balance}");
    }
}
