//! The plots of `docs/guides/balancers.md`.
//!
//! Small multiples rather than ten lines in one picture: one panel a balancer, or one a scenario, all with the same axes.

use std::fs;
use std::path::Path;

use crate::balancers::{BUCKET_US, Figures, Outcomes};
use crate::balancers_scenes::BEGINS_US;
use crate::balancers_svg::{Area, Svg};
use crate::balancers_world::SECOND;
use crate::report::{Result, say};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/balancers");
const WIDTH: f64 = 900.0;

/// The part of the time that is shown, seconds, and the largest share.
const FROM_S: f64 = 8.0;
const TO_S: f64 = 24.0;
const SHARE_MAX: f64 = 0.16;
/// The ends of the latency axis, milliseconds.
const SHORTEST_MS: f64 = 20.0;
const LONGEST_MS: f64 = 1_000.0;

pub(crate) fn draw(all: &[Outcomes]) -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    for (scene, file, title) in [
        (
            "slow",
            "share-slow",
            "Share of the calls that a server gets which is 10 times slower from 10 s on",
        ),
        (
            "flapping",
            "share-flapping",
            "Share of a server that is 10 times slower and well in turn, 2 s each",
        ),
        (
            "cold, slow start",
            "share-cold",
            "Share of a server that joins at 10 s and is 5 times slower for 10 s",
        ),
    ] {
        if let Some(outcomes) = all.iter().find(|outcomes| outcomes.name == scene) {
            save(file, &shares(title, &outcomes.figures))?;
        }
    }
    save("p99", &latencies(all))
}

fn save(name: &str, svg: &Svg) -> Result<()> {
    let path = Path::new(FOLDER).join(name).with_extension("svg");
    fs::write(&path, svg.show())?;
    say(&format!("drawn: docs/guides/balancers/{name}.svg"));
    Ok(())
}

/// One panel a balancer: the share of the first server over time.
fn shares(title: &str, figures: &[Figures]) -> Svg {
    const COLUMNS: usize = 5;
    const ROW: f64 = 150.0;
    let n_rows = figures.len().div_ceil(COLUMNS);
    let mut svg = Svg::new(WIDTH, 50.0 + ROW * n_rows as f64, title);
    for (index, figures) in figures.iter().enumerate() {
        let area = Area {
            x: 42.0 + (index % COLUMNS) as f64 * 172.0,
            y: 65.0 + (index / COLUMNS) as f64 * ROW,
            width: 150.0,
            height: 95.0,
        };
        svg.text(area.x, area.y - 8.0, "name", figures.balance.name());
        for percent in [0, 5, 10, 15] {
            let y = area.y_of(f64::from(percent) / 100.0 / SHARE_MAX);
            svg.line("grid", [(area.x, y), (area.x + area.width, y)]);
            if index % COLUMNS == 0 {
                svg.text(area.x - 6.0, y + 4.0, "tick end", &format!("{percent}%"));
            }
        }
        for seconds in [10, 15, 20] {
            let x = area.x_of((f64::from(seconds) - FROM_S) / (TO_S - FROM_S));
            svg.text(x, area.y + area.height + 14.0, "tick middle", &format!("{seconds} s"));
        }
        let begins = area.x_of((BEGINS_US as f64 / SECOND as f64 - FROM_S) / (TO_S - FROM_S));
        svg.line("event", [(begins, area.y), (begins, area.y + area.height)]);
        let points = figures.shares.iter().enumerate().filter_map(|(bucket, share)| {
            let middle_s = (bucket as f64 + 0.5) * BUCKET_US as f64 / SECOND as f64;
            let is_shown = (FROM_S..TO_S).contains(&middle_s);
            let x = area.x_of((middle_s - FROM_S) / (TO_S - FROM_S));
            is_shown.then(|| (x, area.y_of((share / SHARE_MAX).min(1.0))))
        });
        svg.line("curve", points);
    }
    svg
}

/// One panel a scenario: p99 of each balancer, on a logarithmic scale.
fn latencies(all: &[Outcomes]) -> Svg {
    const COLUMNS: usize = 3;
    const BAR: f64 = 15.0;
    const ROW: f64 = 215.0;
    let n_rows = all.len().div_ceil(COLUMNS);
    let title = "p99 in milliseconds, calls that failed counted as 1,000 (logarithmic)";
    let mut svg = Svg::new(WIDTH, 50.0 + ROW * n_rows as f64, title);
    for (index, outcomes) in all.iter().enumerate() {
        let column = index % COLUMNS;
        let area = Area {
            x: 150.0 + column as f64 * 255.0,
            y: 70.0 + (index / COLUMNS) as f64 * ROW,
            width: 175.0,
            height: BAR * outcomes.figures.len() as f64,
        };
        svg.text(area.x, area.y - 8.0, "name", outcomes.name);
        let along = |ms: f64| (ms / SHORTEST_MS).ln() / (LONGEST_MS / SHORTEST_MS).ln();
        for ms in [30.0, 100.0, 300.0, 1_000.0] {
            let x = area.x_of(along(ms));
            svg.line("grid", [(x, area.y), (x, area.y + area.height)]);
            svg.text(x, area.y + area.height + 14.0, "tick middle", &format!("{ms}"));
        }
        for (line, figures) in outcomes.figures.iter().enumerate() {
            let y = area.y + line as f64 * BAR;
            let class = if line == 0 { "bar chosen" } else { "bar" };
            let length = area.x_of(along(figures.p99_ms).clamp(0.01, 1.0)) - area.x;
            svg.bar(class, area.x, y + 2.0, length, BAR - 4.0);
            if column == 0 {
                svg.text(area.x - 6.0, y + 11.5, "tick end", figures.balance.name());
            }
        }
    }
    svg
}
