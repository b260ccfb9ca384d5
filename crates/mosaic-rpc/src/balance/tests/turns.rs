use super::*;

#[test]
fn round_robin_takes_exact_turns() {
    for n_nodes in [2, 3, 7, 100] {
        let picks = Bench::new(Balance::RoundRobin, nodes(n_nodes)).picks(5 * n_nodes);
        for pair in picks.windows(2) {
            assert_eq!(pair[1], (pair[0] + 1) % n_nodes);
        }
    }
}

#[test]
fn turns_go_on_where_the_last_picker_was() {
    for balance in [Balance::RoundRobin, Balance::WeightedRoundRobin] {
        let (draws, nodes) = (Draws::new(SEED), nodes(5));
        let ask = Ask { key: 0, now_us: NOW };
        let turn = |_| {
            Picker::new(balance, nodes.clone(), NOW, &draws)
                .pick(ask, &draws, &[])
                .unwrap()
        };
        let picks: Vec<usize> = (0..50).map(turn).collect();
        assert_shares(&shares(&picks, 5), &[0.2; 5], 0.0001);
    }
}

#[test]
fn fleets_do_not_all_begin_with_the_same_node() {
    let first = |seed| {
        let draws = Draws::new(seed);
        let picker = Picker::new(Balance::RoundRobin, nodes(100), NOW, &draws);
        picker.pick(Ask { key: 0, now_us: NOW }, &draws, &[]).unwrap()
    };
    let firsts: std::collections::BTreeSet<usize> = (0..100).map(first).collect();
    assert!(firsts.len() > 40, "{} of 100", firsts.len());
}

/// The turns of nodes with `weights`, each weight a whole number of turns in a cycle.
fn cycle(weights: &[u32], n_cycles: u32) -> Vec<usize> {
    let bench = Bench::new(Balance::WeightedRoundRobin, weighted(weights));
    bench.picks((n_cycles * weights.iter().sum::<u32>()) as usize)
}

#[test]
fn weighted_round_robin_gives_turns_in_proportion() {
    let tables: [&[u32]; 7] = [
        &[100, 100],
        &[1, 2, 4],
        &[5, 1, 1],
        &[1000, 1],
        &[7, 3],
        &[100, 250, 333, 1, 90],
        &[1, 1, 1, 1, 1, 1, 1, 1, 1, 10],
    ];
    for weights in tables {
        let total: u32 = weights.iter().sum();
        let want: Vec<f64> = weights
            .iter()
            .map(|weight| f64::from(*weight) / f64::from(total))
            .collect();
        let n_cycles = 1 + 1_000 / total;
        assert_shares(&shares(&cycle(weights, n_cycles), weights.len()), &want, 0.01);
    }
}

#[test]
fn weighted_round_robin_spreads_turns_evenly() {
    // A node of the weight w among the others' W has at most ceil(w / W) turns in a row, one more for the rounding.
    for weights in [
        &[7, 3][..],
        &[5, 1, 1],
        &[1, 2, 4],
        &[100, 100, 100],
        &[10, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ] {
        let total: u32 = weights.iter().sum();
        let picks = cycle(weights, 100);
        let mut longest = BTreeMap::new();
        for run in picks.chunk_by(|one, next| one == next) {
            let longest = longest.entry(run[0]).or_insert(0);
            *longest = run.len().max(*longest);
        }
        for (position, longest) in longest {
            let most = weights[position].div_ceil(total - weights[position]) as usize;
            assert!(longest <= most, "{weights:?}: {longest} in a row for {position}");
        }
    }
}

#[test]
fn a_heavy_node_among_many_light_ones_has_no_long_runs() {
    let mut weights = vec![10; 100];
    weights[0] = 100;
    let picks = cycle(&weights, 20);
    let turns: Vec<usize> = picks
        .iter()
        .enumerate()
        .filter(|(_, position)| **position == 0)
        .map(|(at, _)| at)
        .collect();
    let gaps = || turns.windows(2).map(|pair| pair[1] - pair[0]);
    // Every eleventh turn is its own.
    assert!(
        gaps().max().unwrap() <= 16 && gaps().min().unwrap() >= 6,
        "{:?}",
        gaps().collect::<Vec<_>>()
    );
}

#[test]
fn weighted_round_robin_gives_less_to_a_node_that_fails() {
    let mut bench = Bench::new(Balance::WeightedRoundRobin, nodes(2));
    bench.teach(0, 5, 1_000, Outcome::Failed);
    let success = bench.node(0).success();
    assert!(success < 0.5, "{success}");
    bench.picker = Picker::new(
        Balance::WeightedRoundRobin,
        bench.picker.nodes().to_vec(),
        bench.now_us,
        &bench.draws,
    );
    let want = success / (1.0 + success);
    assert_shares(&shares(&bench.picks(10_000), 2), &[want, 1.0 - want], 0.01);
}

#[test]
fn random_is_even_and_weighted_random_in_proportion() {
    for (balance, weights, want) in [
        (Balance::Random, [1, 2, 3, 4], [0.25; 4]),
        (Balance::WeightedRandom, [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]),
        (Balance::WeightedRandom, [7, 7, 7, 7], [0.25; 4]),
    ] {
        const N: usize = 100_000;
        let got = shares(&Bench::new(balance, weighted(&weights)).picks(N), 4);
        let term = |(got, want): (&f64, &f64)| (got - want).powi(2) / want * N as f64;
        let chi_square: f64 = got.iter().zip(&want).map(term).sum();
        // 3 degrees of freedom: one seed in 100,000 is above.
        assert!(chi_square < 25.9, "seed {SEED}: {chi_square}: {got:.4?}");
    }
}
