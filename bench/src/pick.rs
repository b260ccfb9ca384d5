//! What a pick costs, and whether a new set of instances holds picks up.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use mosaic::Runtime;
use mosaic::rpc::balance::{Ask, Balance, Draws, Held, Node, Picker};

use crate::report::{Result, Samples, bar, say, table};

const N_NODES: usize = 1_000;
const N_NODES_APPLIED: usize = 10_000;
const N_PICKS: u32 = 50_000;
const N_ROUNDS: usize = 9;
const WATCHED: Duration = Duration::from_millis(250);
const BAR_PICK_NS: f64 = 1_000.0;
const BAR_APPLY_MS: f64 = 50.0;
/// A time at which no instance is new, and that none has seen.
const NOW_US: u64 = 1_000_000_000;

pub(crate) fn measure() -> Result<()> {
    picks()?;
    snapshots()
}

/// Nodes with some calls in flight and some experience.
fn nodes(n_nodes: usize) -> (Vec<Arc<Node>>, Vec<Held>) {
    let draws = Draws::new(1);
    let node = |index: usize| {
        let node = Node::new(&format!("10.0.{}.{}:9080", index / 250, index % 250), 100, 5_000_000);
        node.set_warm(NOW_US - draws.next() % 1_000_000);
        Arc::new(node)
    };
    let nodes: Vec<Arc<Node>> = (0..n_nodes).map(node).collect();
    let calls = (0..2 * n_nodes).map(|_| nodes[draws.next() as usize % n_nodes].hold(NOW_US - draws.next() % 10_000));
    let calls = calls.collect();
    (nodes, calls)
}

fn picks() -> Result<()> {
    let (nodes, _calls) = nodes(N_NODES);
    let runtime = Runtime::system();
    let mut samples = vec![[Samples::default(), Samples::default()]; Balance::ALL.len()];
    for round in 0..=N_ROUNDS {
        for (side, balance) in Balance::ALL.into_iter().enumerate() {
            let draws = Draws::new(2);
            let picker = Picker::new(balance, nodes.clone(), NOW_US, &draws);
            for (n_threads, samples) in [1, 2].into_iter().zip(&mut samples[side]) {
                let ns = time_picks(&runtime, &picker, &draws, n_threads);
                if round > 0 {
                    samples.add(ns);
                }
            }
        }
    }
    let rows: Vec<Vec<String>> = Balance::ALL
        .iter()
        .zip(&samples)
        .map(|(balance, [one, two])| vec![balance.to_string(), one.show(0), two.show(0)])
        .collect();
    let head = ["balancer", "1 thread", "2 threads, of each"];
    table(&format!("pick: ns a pick and call among {N_NODES}"), &head, &rows);
    for (balance, [one, two]) in Balance::ALL.iter().zip(&samples) {
        if matches!(balance, Balance::P2c | Balance::RoundRobin) {
            let slower = one.median().max(two.median());
            bar(
                &format!("{balance}: below {BAR_PICK_NS} ns: {slower:.0} ns"),
                slower < BAR_PICK_NS,
            );
        }
    }
    say(&format!(
        "{N_ROUNDS} rounds of {N_PICKS} picks; each begins a call, which is dropped"
    ));
    Ok(())
}

/// Returns the nanoseconds a pick, as each of the threads sees it.
fn time_picks(runtime: &Runtime, picker: &Picker, draws: &Draws, n_threads: usize) -> f64 {
    let run = || {
        let started = runtime.instant();
        for index in 0..N_PICKS {
            let now_us = NOW_US + u64::from(index) / 10;
            let ask = Ask {
                key: draws.next(),
                now_us,
            };
            if let Some(position) = picker.pick(black_box(ask), draws, &[]) {
                black_box(picker.nodes()[position].hold(now_us));
            }
        }
        runtime.instant().duration_since(started).as_secs_f64() * 1e9 / f64::from(N_PICKS)
    };
    let mut times = Samples::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            times.add(thread.join().unwrap_or(f64::NAN));
        }
    });
    times.median()
}

/// What a thread that picks without pause has seen.
struct Seen {
    n_picks: u64,
    longest_us: f64,
}

fn snapshots() -> Result<()> {
    let (nodes, _calls) = nodes(N_NODES_APPLIED);
    let runtime = Runtime::system();
    let mut rows = Vec::new();
    for balance in Balance::ALL {
        let draws = Draws::new(3);
        let picker = || Picker::new(balance, nodes.clone(), NOW_US, &draws);
        let current = ArcSwap::from_pointee(picker());
        let mut times_ms = Vec::new();
        let alone = watch(&runtime, &current, &draws, || repeat(&runtime, std::hint::spin_loop));
        let seen = watch(&runtime, &current, &draws, || {
            repeat(&runtime, || {
                let started = runtime.instant();
                current.store(Arc::new(picker()));
                times_ms.push(runtime.instant().duration_since(started).as_secs_f64() * 1e3);
            });
        });
        let applied: Samples = times_ms.into_iter().collect();
        if matches!(balance, Balance::P2c | Balance::RoundRobin | Balance::ConsistentHash) {
            let median = applied.median();
            bar(
                &format!("{balance}: {N_NODES_APPLIED} within {BAR_APPLY_MS} ms: {median:.1} ms"),
                median < BAR_APPLY_MS,
            );
        }
        rows.push(vec![
            balance.to_string(),
            applied.show(2),
            format!("{:.0}", alone.longest_us),
            format!("{:.0}", seen.longest_us),
            seen.n_picks.to_string(),
        ]);
    }
    let head = [
        "balancer",
        "applied, ms",
        "longest pick before, us",
        "longest pick meanwhile, us",
        "picks meanwhile",
    ];
    table(
        &format!("pick: a new set of {N_NODES_APPLIED}, while another thread picks"),
        &head,
        &rows,
    );
    Ok(())
}

/// Does `work` again and again for as long as a picking thread is watched.
fn repeat(runtime: &Runtime, mut work: impl FnMut()) {
    let started = runtime.instant();
    while runtime.instant().duration_since(started) < WATCHED {
        work();
    }
}

/// Picks on another thread while `work` runs.
fn watch(runtime: &Runtime, current: &ArcSwap<Picker>, draws: &Draws, work: impl FnOnce()) -> Seen {
    let is_over = AtomicBool::new(false);
    let pick_on = || {
        let mut seen = Seen {
            n_picks: 0,
            longest_us: 0.0,
        };
        while !is_over.load(Ordering::Relaxed) {
            let started = runtime.instant();
            let ask = Ask {
                key: draws.next(),
                now_us: NOW_US,
            };
            black_box(current.load().pick(ask, draws, &[]));
            let taken_us = runtime.instant().duration_since(started).as_secs_f64() * 1e6;
            seen.longest_us = seen.longest_us.max(taken_us);
            seen.n_picks += 1;
        }
        seen
    };
    std::thread::scope(|scope| {
        let picking = scope.spawn(pick_on);
        work();
        is_over.store(true, Ordering::Relaxed);
        picking.join().unwrap_or(Seen {
            n_picks: 0,
            longest_us: f64::NAN,
        })
    })
}
