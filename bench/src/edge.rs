//! What the whole way through the edge costs beside a bare axum handler that answers the same bytes.
//!
//! The load comes from `wrk` on the same machine, so it takes its share of the processors from both sides; the
//! processor time that the serving process uses a request is free of that, and printed beside the rates.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Served, resident_mb};
use crate::load::{HEAD, Load, N_ROUNDS, SECONDS, compare};
use crate::report::{Result, bar, say, table};

const BAR: f64 = 0.6;

/// Verb and path of what is read.
const CASES: [(&str, &str); 4] = [
    ("GET", "/bench/v1/detail"),
    ("POST", "/bench/v1/detail"),
    ("GET", "/users/profile"),
    ("POST", "/usercenter/v1/user/detail"),
];

pub(crate) const NAMES: [&str; 3] = ["bare axum", "Mosaic, access log off", "Mosaic, access log on"];

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
            (NAMES[0], Load::new(&scratch, &bare, verb, &["/detail"], &tokens[0])?),
            (NAMES[1], Load::new(&scratch, &silent, verb, &[path], &tokens[0])?),
            (NAMES[2], Load::new(&scratch, &logged, verb, &[path], &tokens[1])?),
        ];
        let ratios = compare(&format!("{verb} {path}"), &sides, &mut rows).await?;
        if path.starts_with("/bench") {
            worst = worst.min(ratios[1]);
        }
    }
    table("edge: wrk -t2 -c64", &HEAD, &rows);
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
pub(crate) async fn read(server: &Served, verb: &str, path: &str, token: &str) -> Result<String> {
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
