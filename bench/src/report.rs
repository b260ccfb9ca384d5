//! Rounds, medians and tables.

use std::io::Write as _;

/// Anything that ends a measurement.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What was measured of one side, a value a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Returns the value that `part` of all are not above.
    pub(crate) fn at(&self, part: f64) -> f64 {
        let position = (self.0.len() as f64 * part) as usize;
        let last = self.0.len().saturating_sub(1);
        self.0.get(position.min(last)).copied().unwrap_or(f64::NAN)
    }

    /// Returns `median (min..max)`.
    pub(crate) fn show(&self, digits: usize) -> String {
        let (min, max) = (self.0.first().copied(), self.0.last().copied());
        let (min, max) = (min.unwrap_or(f64::NAN), max.unwrap_or(f64::NAN));
        format!("{:.digits$} ({min:.digits$}..{max:.digits$})", self.median())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

/// Runs each side once a round, in changing order; the first round warms up and does not count.
pub(crate) async fn alternate(
    n_sides: usize,
    n_rounds: usize,
    mut run: impl AsyncFnMut(usize) -> Result<f64>,
) -> Result<Vec<Samples>> {
    let mut samples = vec![Samples::default(); n_sides];
    for round in 0..=n_rounds {
        for turn in 0..n_sides {
            let side = if round % 2 == 0 { turn } else { n_sides - 1 - turn };
            let value = run(side).await?;
            if round > 0 {
                samples[side].add(value);
            }
        }
    }
    Ok(samples)
}

/// Prints a Markdown table.
pub(crate) fn table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    let mut text = format!("\n### {title}\n\n{}\n", line(&mut head.iter().map(ToString::to_string)));
    text += &format!("|{}\n", "---|".repeat(head.len()));
    for row in rows {
        text += &line(&mut row.iter().cloned());
        text.push('\n');
    }
    say(&text);
}

/// Prints whether a bar was met.
pub(crate) fn bar(what: &str, met: bool) {
    say(&format!("bar: {what}: {}", if met { "met" } else { "MISSED" }));
}

/// Prints a line.
pub(crate) fn say(line: &str) {
    // A closed pipe is no reason to end.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
