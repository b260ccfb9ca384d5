//! What a person sees meanwhile: a bar with rate and remaining time at a terminal, else a line now and then.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use mosaic_core::{Runtime, lock};

/// Time between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{msg:12} [{bar:30}] {human_pos}/{human_len}  {rate}  {eta} left ";

/// See the module documentation.
pub(crate) struct Console {
    runtime: Runtime,
    is_terminal: bool,
    shown: Mutex<Option<Stage>>,
}

/// What is being done.
struct Stage {
    name: &'static str,
    len: u64,
    n_done: u64,
    /// Done before it began.
    n_before: u64,
    began: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Console {
    /// Looks whether somebody watches.
    pub(crate) fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            is_terminal: std::io::stderr().is_terminal(),
            shown: Mutex::new(None),
        }
    }

    /// Begins a stage of `len` steps, of which `n_before` are done already.
    pub(crate) fn begin(&self, name: &'static str, len: usize, n_before: usize) {
        let (len, n_before) = (len as u64, n_before as u64);
        let now = self.runtime.instant();
        let bar = self.is_terminal.then(|| {
            let bar = ProgressBar::new(len).with_message(name).with_position(n_before);
            bar.reset_eta();
            // A template that does not parse would leave the usual bar, which is a bar too.
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(
                style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    let _ = write!(text, "{:.0}/s", state.per_sec());
                }),
            )
        });
        *lock(&self.shown) = Some(Stage {
            name,
            len,
            n_done: n_before,
            n_before,
            began: now,
            last_line: now,
            bar,
        });
    }

    /// One step of the stage is done.
    pub(crate) fn step(&self) {
        let mut shown = lock(&self.shown);
        let Some(stage) = &mut *shown else { return };
        stage.n_done += 1;
        match &stage.bar {
            Some(bar) => bar.inc(1),
            None => {
                let now = self.runtime.instant();
                if now.duration_since(stage.last_line) >= LINE_EVERY {
                    stage.last_line = now;
                    complain(&stage.line(now));
                }
            }
        }
    }

    /// Ends the stage.
    pub(crate) fn end(&self) {
        let Some(stage) = lock(&self.shown).take() else { return };
        if let Some(bar) = stage.bar.as_ref() {
            bar.finish_and_clear();
        }
        complain(&stage.total(self.runtime.instant()));
    }

    /// Says something while a stage goes on.
    pub(crate) fn say(&self, text: &str) {
        match &*lock(&self.shown) {
            Some(Stage { bar: Some(bar), .. }) => bar.println(text),
            _ => complain(text),
        }
    }
}

impl Stage {
    fn rate(&self, now: Instant) -> f64 {
        let took = now.duration_since(self.began).as_secs_f64().max(0.001);
        (self.n_done - self.n_before) as f64 / took
    }

    /// Returns how far it is.
    fn line(&self, now: Instant) -> String {
        let rate = self.rate(now);
        let left = Duration::from_secs_f64(self.len.saturating_sub(self.n_done) as f64 / rate.max(0.01));
        let percent = self.n_done * 100 / self.len.max(1);
        let Self { name, n_done, len, .. } = self;
        format!(
            "{name}: {n_done}/{len} ({percent}%), {rate:.0}/s, {} left",
            spoken(left)
        )
    }

    /// Returns how long it took.
    fn total(&self, now: Instant) -> String {
        let n_done = self.n_done - self.n_before;
        let took = spoken(now.duration_since(self.began));
        let before = match self.n_before {
            0 => String::new(),
            n => format!(", {n} were there"),
        };
        let Self { name, .. } = self;
        format!("{name}: {n_done} in {took} ({:.0}/s){before}", self.rate(now))
    }
}

/// Returns a length of time as people say it.
pub(crate) fn spoken(time: Duration) -> String {
    match time.as_secs() {
        secs if secs < 60 => format!("{secs}s"),
        secs if secs < 3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        secs => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
    }
}

/// A closed pipe is no reason to fail.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_it_is() {
        let began = Runtime::system().instant();
        let stage = Stage {
            name: "articles",
            len: 1000,
            n_done: 400,
            n_before: 200,
            began,
            last_line: began,
            bar: None,
        };
        let now = began + Duration::from_secs(10);
        assert_eq!(stage.line(now), "articles: 400/1000 (40%), 20/s, 30s left");
        assert_eq!(stage.total(now), "articles: 200 in 10s (20/s), 200 were there");
    }

    #[test]
    fn times_are_spoken() {
        for (secs, text) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3_725, "1h02m")] {
            assert_eq!(spoken(Duration::from_secs(secs)), text);
        }
    }
}
