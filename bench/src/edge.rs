//! What the whole way through the edge costs beside a bare axum handler that answers the same bytes.
//!
//! The load comes from `wrk` on the same machine, so it takes its share of the processors from both sides; the
//! processor time that the serving process uses a request is free of that, and printed beside the rates.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::{Served, cpu_time, resident_mb};
use crate::report::{Result, Samples, alternate, bar, say, table};

const N_ROUNDS: usize = 7;
const SECONDS: &str = "4";
const BAR: f64 = 0.6;

/// Verb and path of what is read.
const CASES: [(&str, &str); 4] = [
    ("GET", "/bench/v1/detail"),
    ("POST", "/bench/v1/detail"),
    ("GET", "/users/profile"),
    ("POST", "/usercenter/v1/user/detail"),
];

const NAMES: [&str; 3] = ["bare axum", "Mosaic, access log off", "Mosaic, access log on"];

pub(crate) async fn measure() -> Result<()> {
    let scratch = TempDir::new()?;
    let (silent, logged) = (
        Served::start(&["serve-platform", "silent"]).await?,
        Served::start(&["serve-platform", "logged"]).await?,
    );
    let tokens = [sign_up(&silent).await?, sign_up(&logged).await?];
    let mut rows = Vec::new();
    let mut worst = f64::INFINITY;
    for (verb, path) in CASES {
        let answer = read(&silent, verb, path, &tokens[0]).await?;
        let bare = Served::start(&["serve-bare", &answer]).await?;
        let sides = [
            Load::new(&scratch, &bare, verb, "/detail", &tokens[0])?,
            Load::new(&scratch, &silent, verb, path, &tokens[0])?,
            Load::new(&scratch, &logged, verb, path, &tokens[1])?,
        ];
        let (rates, cpu) = compare(&sides).await?;
        let ratio = |side: usize| rates[side].median() / rates[0].median();
        for (side, name) in NAMES.iter().enumerate() {
            let request = format!("{verb} {path}");
            let (rate, cpu) = (rates[side].show(0), cpu[side].show(1));
            rows.push(vec![
                request,
                (*name).to_owned(),
                rate,
                format!("{:.2}", ratio(side)),
                cpu,
            ]);
        }
        if path.starts_with("/bench") {
            worst = worst.min(ratio(1));
        }
    }
    let head = [
        "request",
        "server",
        "requests a second, median (min..max)",
        "ratio",
        "processor us a request",
    ];
    table("edge: wrk -t2 -c64", &head, &rows);
    bar(
        &format!("a signed-in read reaches {BAR} of bare axum: {worst:.2}"),
        worst >= BAR,
    );
    say(&format!(
        "{N_ROUNDS} rounds of {SECONDS} s a side; resident after the load: {:.0} MB (log off), {:.0} MB (log on)",
        resident_mb(silent.pid()?)?,
        resident_mb(logged.pid()?)?,
    ));
    Ok(())
}

/// Returns requests a second and processor microseconds a request of each side.
async fn compare(sides: &[Load]) -> Result<(Vec<Samples>, Vec<Samples>)> {
    let mut cpu = vec![Samples::default(); sides.len()];
    let rates = alternate(sides.len(), N_ROUNDS, async |side| {
        let (rate, micros) = sides[side].run().await?;
        cpu[side].add(micros);
        Ok(rate)
    });
    let rates = rates.await?;
    Ok((rates, cpu))
}

/// Returns the access token of a new account with a profile.
async fn sign_up(server: &Served) -> Result<String> {
    let client = mosaic::partner_client(std::time::Duration::from_secs(10))?;
    let body = json!({"mobile": "13800138000", "password": "correct horse battery"});
    let reply = client
        .post(format!("{}/usercenter/v1/user/register", server.base))
        .json(&body)
        .send()
        .await?;
    let reply: Value = reply.json().await?;
    let token = reply["data"]["accessToken"]
        .as_str()
        .ok_or_else(|| format!("no token in {reply}"))?
        .to_owned();
    let body = json!({"nickname": "bench", "birthday": "2000-01-01", "aboutMe": "measured"});
    let edited = client
        .post(format!("{}/users/edit", server.base))
        .bearer_auth(&token)
        .json(&body)
        .send()
        .await?;
    edited.error_for_status()?;
    Ok(token)
}

/// Returns the body of one answer.
async fn read(server: &Served, verb: &str, path: &str, token: &str) -> Result<String> {
    let client = mosaic::partner_client(std::time::Duration::from_secs(10))?;
    let url = format!("{}{path}", server.base);
    let request = if verb == "GET" {
        client.get(url)
    } else {
        client.post(url).json(&json!({}))
    };
    Ok(request
        .bearer_auth(token)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?)
}

/// One request, sent again and again.
struct Load {
    script: String,
    url: String,
    pid: u32,
}

impl Load {
    fn new(scratch: &TempDir, server: &Served, verb: &str, path: &str, token: &str) -> Result<Self> {
        let pid = server.pid()?;
        let file = scratch.path().join(format!("{verb}-{pid}.lua"));
        let mut script = format!("wrk.method = \"{verb}\"\nwrk.headers[\"authorization\"] = \"Bearer {token}\"\n");
        if verb == "POST" {
            script += "wrk.body = \"{}\"\nwrk.headers[\"content-type\"] = \"application/json\"\n";
        }
        std::fs::write(&file, script)?;
        Ok(Self {
            script: file.display().to_string(),
            url: format!("{}{path}", server.base),
            pid,
        })
    }

    /// Returns requests a second, and microseconds of processor time a request.
    async fn run(&self) -> Result<(f64, f64)> {
        let before = cpu_time(self.pid)?;
        let mut wrk = Command::new("wrk");
        wrk.args(["-t2", "-c64", "-d", SECONDS, "-s", &self.script, &self.url])
            .stderr(Stdio::inherit());
        let output = wrk.output().await.map_err(|error| format!("cannot run wrk: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let used = cpu_time(self.pid)?.saturating_sub(before);
        let number = |before: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != before);
            words.nth(1).and_then(|word| word.parse::<f64>().ok())
        };
        // "12345 requests in 4.00s", "Requests/sec: 3086.25"
        let n_requests = text
            .lines()
            .find(|line| line.contains(" requests in "))
            .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        match (number("Requests/sec:"), n_requests) {
            (Some(rate), Some(n)) if !text.contains("Non-2xx") && !text.contains("Socket errors") => {
                Ok((rate, used.as_secs_f64() * 1e6 / n))
            }
            _ => Err(format!("wrk did not get what it asked for:\n{text}").into()),
        }
    }
}
