//! Requests from `wrk`, on the same machine: as many as a server answers, or few, to see how long one takes.

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::child::{Served, cpu_time};
use crate::report::{Result, Samples, alternate};

/// Many and short: what slows the machine for a while slows all sides of a round, or few rounds.
pub(crate) const N_ROUNDS: usize = 15;
pub(crate) const SECONDS: &str = "2";

/// Connections of a calm client and the milliseconds that each of them pauses between two requests.
pub(crate) const CALM_CONNECTIONS: &str = "4";
const CALM_PAUSE_MS: (u32, u32) = (2, 6);
const CALM_SECONDS: &str = "4";

/// A server has little to do that uses less than a twentieth of a processor for so long.
const LOOK_EVERY: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests of one kind, sent again and again.
pub(crate) struct Load {
    script: String,
    url: String,
    pid: u32,
    n_answered: AtomicU64,
}

impl Load {
    /// Asks for each of `paths` in turn, as the owner of `token`.
    pub(crate) fn new(
        scratch: &TempDir,
        server: &Served,
        verb: &str,
        paths: &[impl AsRef<str>],
        token: &str,
    ) -> Result<Self> {
        let mut script = format!("wrk.method = \"{verb}\"\nwrk.headers[\"authorization\"] = \"Bearer {token}\"\n");
        if verb == "POST" {
            script += "wrk.body = \"{}\"\nwrk.headers[\"content-type\"] = \"application/json\"\n";
        }
        if paths.len() > 1 {
            let paths: Vec<_> = paths.iter().map(|path| format!("{:?}", path.as_ref())).collect();
            script += &format!(
                "local paths = {{{}}}\nlocal requests, last = {{}}, 0\n",
                paths.join(", ")
            );
            script += "function init() for i, path in ipairs(paths) do requests[i] = wrk.format(nil, path) end end\n";
            script += "function request() last = last % #requests + 1; return requests[last] end\n";
        }
        let path = paths.first().ok_or("a path to ask for")?.as_ref();
        let pid = server.pid()?;
        let file = scratch
            .path()
            .join(format!("{verb}-{pid}-{}.lua", path.replace('/', "-")));
        std::fs::write(&file, script)?;
        Ok(Self {
            script: file.display().to_string(),
            url: format!("{}{path}", server.base),
            pid,
            n_answered: AtomicU64::new(0),
        })
    }

    /// Returns requests a second, and microseconds of processor time a request, with what is done for them afterwards.
    pub(crate) async fn run(&self) -> Result<(f64, f64)> {
        let before = cpu_time(self.pid)?;
        let text = self.wrk(&self.script, &["-t2", "-c64", "-d", SECONDS]).await?;
        let used = self.settled().await?.saturating_sub(before);
        // "12345 requests in 4.00s", "Requests/sec: 3086.25"
        let n_requests = text
            .lines()
            .find(|line| line.contains(" requests in "))
            .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        let rate = word_after(&text, "Requests/sec:").and_then(|word| word.parse().ok());
        match (rate, n_requests) {
            (Some(rate), Some(n)) => {
                self.n_answered.fetch_add(n as u64, Ordering::Relaxed);
                Ok((rate, used.as_secs_f64() * 1e6 / n))
            }
            _ => Err(unexpected(&text)),
        }
    }

    /// Returns how many requests [`Load::run`] has had answered.
    pub(crate) fn n_answered(&self) -> u64 {
        self.n_answered.load(Ordering::Relaxed)
    }

    /// Returns the milliseconds that 99 of 100 requests of a calm client do not exceed.
    pub(crate) async fn calm_p99_ms(&self) -> Result<f64> {
        let script = format!("{}.calm", self.script);
        let (least, most) = CALM_PAUSE_MS;
        let pause = format!("function delay() return math.random({least}, {most}) end\n");
        std::fs::write(&script, std::fs::read_to_string(&self.script)? + &pause)?;
        let calm = ["-t1", "-c", CALM_CONNECTIONS, "-d", CALM_SECONDS, "--latency"];
        let text = self.wrk(&script, &calm).await?;
        // "99%  123.00us"
        let p99 = word_after(&text, "99%").and_then(|word| {
            let digits = word.trim_end_matches(char::is_alphabetic);
            let ms = match &word[digits.len()..] {
                "us" => 1e-3,
                "ms" => 1.0,
                _ => 1e3,
            };
            Some(digits.parse::<f64>().ok()? * ms)
        });
        p99.ok_or_else(|| unexpected(&text))
    }

    /// Waits until the server has little to do, so that it is in nobody's way; returns the processor time it has used by then.
    async fn settled(&self) -> Result<Duration> {
        let end = Instant::now() + PATIENCE;
        let mut used = cpu_time(self.pid)?;
        loop {
            sleep(LOOK_EVERY).await;
            let now = cpu_time(self.pid)?;
            if now.saturating_sub(used) <= LOOK_EVERY / 20 || Instant::now() > end {
                return Ok(now);
            }
            used = now;
        }
    }

    async fn wrk(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut wrk = Command::new("wrk");
        wrk.args(arguments)
            .args(["-s", script, &self.url])
            .stderr(Stdio::inherit());
        let output = wrk.output().await.map_err(|error| format!("cannot run wrk: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(unexpected(&text));
        }
        Ok(text)
    }
}

fn word_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_whitespace().skip_while(|word| *word != before).nth(1)
}

fn unexpected(text: &str) -> Box<dyn std::error::Error + Send + Sync> {
    format!("wrk did not get what it asked for:\n{text}").into()
}

/// Names and loads of what is compared; the first is the measure of the others.
pub(crate) type Sides<'a> = [(&'a str, Load)];

/// What [`compare`] says of each side.
pub(crate) const HEAD: [&str; 5] = [
    "request",
    "server",
    "requests a second, median (min..max)",
    "ratio in a round",
    "processor us a request",
];

/// Adds a row for each side to a table with [`HEAD`]; returns the rate of each as a part of the first one's in the same round, the
/// median of all rounds.
pub(crate) async fn compare(request: &str, sides: &Sides<'_>, rows: &mut Vec<Vec<String>>) -> Result<Vec<f64>> {
    let mut cpu = vec![Samples::default(); sides.len()];
    let mut by_round = vec![Vec::new(); sides.len()];
    let rates = alternate(sides.len(), N_ROUNDS, async |side| {
        let (rate, micros) = sides[side].1.run().await?;
        cpu[side].add(micros);
        by_round[side].push(rate);
        Ok(rate)
    });
    let rates = rates.await?;
    let ratios = by_round.iter().map(|ours| {
        // The first round warms up.
        let rounds = ours.iter().zip(&by_round[0]).skip(1);
        rounds.map(|(ours, first)| ours / first).collect()
    });
    let ratios: Vec<Samples> = ratios.collect();
    for (side, (name, _)) in sides.iter().enumerate() {
        rows.push(vec![
            request.to_owned(),
            (*name).to_owned(),
            rates[side].show(0),
            ratios[side].show(2),
            cpu[side].show(1),
        ]);
    }
    Ok(ratios.iter().map(Samples::median).collect())
}
