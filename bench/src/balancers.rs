//! The balancers in trouble: a simulation with the real code in virtual time.
//!
//! Prints the tables of `docs/guides/balancers.md` and draws its plots. Nothing depends on the machine: a seed gives the
//! same figures everywhere.

use std::collections::HashMap;

use mosaic::rpc::balance::Balance;

use crate::balancers_plots as plots;
use crate::balancers_scenes::{BEGINS_US, ENDS_US, Scene};
use crate::balancers_world::{self as world, Ended, SECOND, TIMEOUT_US};
use crate::report::{Result, bar, table};

const SEEDS: [u64; 3] = [1, 2, 3];
pub(crate) const BUCKET_US: u64 = SECOND / 4;
const FEW: f64 = 0.05;

/// What was measured of one balancer in one scenario.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) balance: Balance,
    p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Share of the calls that were answered.
    good: f64,
    /// Share of the first server in each bucket, from the beginning of time.
    pub(crate) shares: Vec<f64>,
    /// Calls of a key that went to where most of them go.
    kept: f64,
}

/// One scenario under every balancer.
pub(crate) struct Outcomes {
    pub(crate) name: &'static str,
    pub(crate) figures: Vec<Figures>,
}

pub(crate) fn measure() -> Result<()> {
    let all: Vec<Outcomes> = Scene::all().iter().map(simulate).collect();
    for outcomes in &all {
        print(outcomes, &all[0]);
    }
    matrix("p99, ms", &all, |figures| format!("{:.0}", figures.p99_ms));
    matrix("answered, %", &all, |figures| format!("{:.1}", figures.good * 100.0));
    let (healthy, slow) = (&all[0].figures[0], &all[1].figures[0]);
    let after_s = few_after_s(&slow.shares);
    bar(
        &format!(
            "p2c: a server 10 times slower has less than 5% of the calls within 3 s: {}",
            show_s(after_s)
        ),
        after_s.is_some_and(|after_s| after_s <= 3.0),
    );
    let ratio = slow.p99_ms / healthy.p99_ms;
    bar(
        &format!("p2c: p99 with it at most twice that without: {ratio:.2}"),
        ratio <= 2.0,
    );
    plots::draw(&all)
}

/// Prints one figure of every balancer in every scenario.
fn matrix(what: &str, all: &[Outcomes], show: impl Fn(&Figures) -> String) {
    let mut head = vec!["balancer"];
    head.extend(all.iter().map(|outcomes| outcomes.name));
    let row = |(index, balance): (usize, &Balance)| {
        let cells = all.iter().map(|outcomes| show(&outcomes.figures[index]));
        std::iter::once(balance.to_string()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = Balance::ALL.iter().enumerate().map(row).collect();
    table(&format!("balancers: {what}"), &head, &rows);
}

fn simulate(scene: &Scene) -> Outcomes {
    let figures = |balance: &Balance| {
        let runs: Vec<Vec<Ended>> = SEEDS.iter().map(|seed| world::run(scene, *balance, *seed)).collect();
        Figures::new(*balance, &runs)
    };
    Outcomes {
        name: scene.name,
        figures: Balance::ALL.iter().map(figures).collect(),
    }
}

impl Figures {
    fn new(balance: Balance, runs: &[Vec<Ended>]) -> Self {
        let all = || runs.iter().flatten();
        let measured = || all().filter(|call| call.started_us >= BEGINS_US);
        // A call that failed counts as one that took for ever.
        let latency_us = |call: &Ended| if call.is_good { call.latency_us } else { TIMEOUT_US };
        let mut latencies: Vec<u64> = measured().map(latency_us).collect();
        latencies.sort_unstable();
        let quantile_ms = |share: f64| {
            let rank = (latencies.len() as f64 * share) as usize;
            latencies.get(rank).copied().unwrap_or_default() as f64 / 1_000.0
        };
        Self {
            balance,
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            good: measured().filter(|call| call.is_good).count() as f64 / latencies.len() as f64,
            shares: shares(all()),
            kept: runs.iter().map(|run| kept(run)).sum::<f64>() / runs.len() as f64,
        }
    }

    /// Returns the mean share of the first server while it is in trouble.
    fn share(&self) -> f64 {
        let late = &self.shares[(BEGINS_US / BUCKET_US) as usize..];
        late.iter().sum::<f64>() / late.len() as f64
    }
}

fn shares<'a>(calls: impl Iterator<Item = &'a Ended>) -> Vec<f64> {
    let mut buckets = vec![(0_u32, 0_u32); (ENDS_US / BUCKET_US) as usize];
    for call in calls {
        let (n_first, n_all) = &mut buckets[(call.started_us / BUCKET_US) as usize];
        *n_all += 1;
        *n_first += u32::from(call.server == 0);
    }
    let share = |(n_first, n_all): &(u32, u32)| f64::from(*n_first) / f64::from((*n_all).max(1));
    buckets.iter().map(share).collect()
}

/// Returns the share of the calls that went to the server that most calls of their key go to, for the hundred first keys.
fn kept(run: &[Ended]) -> f64 {
    let mut counts: HashMap<u64, HashMap<usize, u32>> = HashMap::new();
    for call in run.iter().filter(|call| call.key < 100) {
        *counts.entry(call.key).or_default().entry(call.server).or_default() += 1;
    }
    let n_kept: u32 = counts.values().filter_map(|servers| servers.values().max()).sum();
    let n_all: u32 = counts.values().flat_map(HashMap::values).sum();
    f64::from(n_kept) / f64::from(n_all.max(1))
}

/// Returns after how many seconds of trouble the share of the first server is small for two seconds on end.
fn few_after_s(shares: &[f64]) -> Option<f64> {
    let late = &shares[(BEGINS_US / BUCKET_US) as usize..];
    let is_few = |bucket: &f64| *bucket < FEW;
    let first = late.windows(8).position(|window| window.iter().all(is_few))?;
    Some(first as f64 * BUCKET_US as f64 / SECOND as f64)
}

fn show_s(after_s: Option<f64>) -> String {
    match after_s {
        None => "never".to_owned(),
        Some(after_s) if after_s < BUCKET_US as f64 / SECOND as f64 => "at once".to_owned(),
        Some(after_s) => format!("{after_s:.2} s"),
    }
}

fn print(outcomes: &Outcomes, healthy: &Outcomes) {
    let is_skewed = outcomes.name == "skewed keys";
    let has_culprit = outcomes.name != "healthy" && !outcomes.name.starts_with("1:2:4") && !is_skewed;
    let row = |(figures, healthy): (&Figures, &Figures)| {
        let mut cells = vec![
            figures.balance.to_string(),
            format!("{:.1}", figures.p50_ms),
            format!("{:.0}", figures.p99_ms),
            format!("{:.1}", figures.p99_ms / healthy.p99_ms),
            format!("{:.2}%", figures.good * 100.0),
        ];
        if has_culprit {
            cells.push(format!("{:.2}%", figures.share() * 100.0));
            cells.push(show_s(few_after_s(&figures.shares)));
        }
        if is_skewed {
            cells.push(format!("{:.1}%", figures.kept * 100.0));
        }
        cells
    };
    let mut head = vec!["balancer", "p50 ms", "p99 ms", "p99 / healthy", "answered"];
    if has_culprit {
        head.extend(["share of it", "below 5% after"]);
    } else if is_skewed {
        head.push("calls of a key at one server");
    }
    let rows: Vec<_> = outcomes.figures.iter().zip(&healthy.figures).map(row).collect();
    table(&format!("balancers: {}", outcomes.name), &head, &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p2c(scene: &str) -> Figures {
        let scene = Scene::all().into_iter().find(|known| known.name == scene).unwrap();
        Figures::new(Balance::P2c, &[world::run(&scene, Balance::P2c, 4)])
    }

    #[test]
    fn p2c_leaves_a_server_that_becomes_slow_and_nobody_notices() {
        let (healthy, slow) = (p2c("healthy"), p2c("slow"));
        assert!((0.09..0.11).contains(&healthy.share()), "{}", healthy.share());
        assert!(few_after_s(&slow.shares).unwrap() <= 3.0);
        assert!(
            slow.p99_ms <= 2.0 * healthy.p99_ms,
            "{} {}",
            slow.p99_ms,
            healthy.p99_ms
        );
    }

    #[test]
    fn a_seed_is_a_run() {
        assert_eq!(p2c("flapping").shares, p2c("flapping").shares);
    }
}
