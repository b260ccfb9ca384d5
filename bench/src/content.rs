//! What readers of articles ask for most, beside a bare axum handler that answers the same bytes.
//!
//! Articles, likes and the hot list are made through the API, and all articles are read in turn. A reading is an event that is
//! counted: what that costs is part of the measurement, and that all were counted is looked at in the end. As in
//! [`edge`](crate::edge) the load shares the processors with the server.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::child::{Served, resident_mb};
use crate::edge::{NAMES, read};
use crate::load::{CALM_CONNECTIONS, HEAD, Load, N_ROUNDS, SECONDS, compare};
use crate::report::{Result, alternate, bar, say, table};

const N_ARTICLES: usize = 60;
const N_HOT: usize = 50;
const N_ACCOUNTS: usize = 6;
/// Characters of an article; three times as many bytes.
const LEN: usize = 600;
const PASSWORD: &str = "hello#world123";
const PATIENCE: Duration = Duration::from_secs(30);
/// Many and short, too: the slowest of a hundred are those that the machine held up.
const N_CALM_ROUNDS: usize = 9;

const HOT: &str = "/articles/ranking/hot";
const BAR_DETAIL: f64 = 0.5;
const BAR_HOT: f64 = 0.7;
const BAR_HOT_P99_MS: f64 = 1.0;

pub(crate) async fn measure() -> Result<()> {
    let scratch = TempDir::new()?;
    let silent = Library::start("silent").await?;
    let logged = Library::start("logged").await?;
    let mut rows = Vec::new();

    let answer = read(&silent.server, "GET", &silent.paths[0], &silent.token).await?;
    let bare = Served::start(&["serve-bare", &answer]).await?;
    let paths: Vec<_> = (0..N_ARTICLES).map(|number| format!("/detail?{number}")).collect();
    let sides = [
        (NAMES[0], Load::new(&scratch, &bare, "GET", &paths, &silent.token)?),
        (NAMES[1], silent.load(&scratch, &silent.paths)?),
        (NAMES[2], logged.load(&scratch, &logged.paths)?),
    ];
    let what = format!("GET /articles/pub/:id ({} bytes)", answer.len());
    let detail = compare(&what, &sides, &mut rows).await?[1];
    let sent = [sides[1].1.n_answered(), sides[2].1.n_answered()];

    let answer = read(&silent.server, "GET", HOT, &silent.token).await?;
    let bare = Served::start(&["serve-bare", &answer]).await?;
    let sides = [
        (
            NAMES[0],
            Load::new(&scratch, &bare, "GET", &["/detail"], &silent.token)?,
        ),
        (NAMES[1], silent.load(&scratch, &[HOT])?),
        (NAMES[2], logged.load(&scratch, &[HOT])?),
    ];
    let what = format!("GET {HOT} ({} bytes)", answer.len());
    let hot = compare(&what, &sides, &mut rows).await?[1];
    table("content: wrk -t2 -c64", &HEAD, &rows);
    bar(
        &format!("a published article reaches {BAR_DETAIL} of bare axum: {detail:.2}"),
        detail >= BAR_DETAIL,
    );
    bar(
        &format!("the hot list reaches {BAR_HOT} of bare axum: {hot:.2}"),
        hot >= BAR_HOT,
    );
    calm(&sides).await?;
    for (library, (name, sent)) in [&silent, &logged].into_iter().zip(NAMES[1..].iter().zip(sent)) {
        let counted = library.reads_counted().await?;
        let resident = resident_mb(library.server.pid()?)?;
        say(&format!(
            "{name}: {counted} of {sent} readings counted; resident after the load {resident:.0} MB"
        ));
    }
    say(&format!(
        "{N_ROUNDS} rounds of {SECONDS} s a side; {N_ARTICLES} articles, each read in turn"
    ));
    Ok(())
}

/// Measures how long the hot list takes where there is no hurry.
async fn calm(sides: &[(&str, Load)]) -> Result<()> {
    let p99 = alternate(sides.len(), N_CALM_ROUNDS, async |side| {
        sides[side].1.calm_p99_ms().await
    })
    .await?;
    let rows = sides.iter().zip(&p99);
    let rows: Vec<_> = rows
        .map(|((name, _), p99)| vec![(*name).to_owned(), p99.show(2)])
        .collect();
    let title = format!("content: {HOT}, {CALM_CONNECTIONS} connections that pause 2 to 6 ms between requests");
    table(&title, &["server", "p99 ms, median (min..max)"], &rows);
    let p99 = p99[1].median();
    bar(
        &format!("p99 of the hot list below {BAR_HOT_P99_MS} ms: {p99:.2}"),
        p99 < BAR_HOT_P99_MS,
    );
    Ok(())
}

/// A platform with articles that have been liked and ranked.
struct Library {
    server: Served,
    client: reqwest::Client,
    /// Of a reader who has liked some of them.
    token: String,
    paths: Vec<String>,
}

impl Library {
    async fn start(log: &str) -> Result<Self> {
        let mut library = Self {
            server: Served::start(&["serve-platform", log]).await?,
            client: mosaic::partner_client(Duration::from_secs(10))?,
            token: String::new(),
            paths: Vec::new(),
        };
        let mut tokens = Vec::new();
        for number in 0..N_ACCOUNTS {
            tokens.push(library.sign_up(number).await?);
        }
        let mut ids = Vec::new();
        for number in 0..N_ARTICLES {
            let body = json!({"title": format!("第{number}篇文章"), "content": "长文章内容".repeat(LEN / 5)});
            let id = library.post("/articles/publish", Some(&tokens[0]), &body).await?["data"].clone();
            library.paths.push(format!("/articles/pub/{id}"));
            ids.push(id);
        }
        for (reader, token) in tokens.iter().enumerate() {
            // The first of them likes all, the others fewer and fewer.
            for id in ids.iter().step_by(reader + 1) {
                let body = json!({"id": id, "like": true});
                library.post("/articles/pub/like", Some(token), &body).await?;
            }
        }
        library.token = tokens.pop().ok_or("an account")?;
        library.rank().await?;
        Ok(library)
    }

    fn load(&self, scratch: &TempDir, paths: &[impl AsRef<str>]) -> Result<Load> {
        Load::new(scratch, &self.server, "GET", paths, &self.token)
    }

    /// Returns the access token of a new account with a name.
    async fn sign_up(&self, number: usize) -> Result<String> {
        let email = format!("reader{number}@example.com");
        let body = json!({"email": email, "password": PASSWORD, "confirmPassword": PASSWORD});
        self.post("/users/signup", None, &body).await?;
        let body = json!({"email": email, "password": PASSWORD});
        let url = format!("{}/users/login", self.server.base);
        let reply = self.client.post(url).json(&body).send().await?;
        let token = reply
            .headers()
            .get("x-jwt-token")
            .ok_or("no token")?
            .to_str()?
            .to_owned();
        let body = json!({"nickname": format!("读者{number}"), "birthday": "2000-01-01", "aboutMe": ""});
        self.post("/users/edit", Some(&token), &body).await?;
        Ok(token)
    }

    /// Waits until all that is liked is in the hot list.
    async fn rank(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.post("/bench/v1/refresh", None, &json!({"biz": "article"})).await?;
            let hot: Value = serde_json::from_str(&read(&self.server, "GET", HOT, &self.token).await?)?;
            let hot = hot["data"].as_array().cloned().unwrap_or_default();
            if hot.len() == N_HOT && hot.first().is_some_and(|first| first["likeCnt"] == N_ACCOUNTS) {
                return Ok(());
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err("the hot list is not what it should be".into())
    }

    /// Returns how often the articles were read, once the number does not rise any more.
    async fn reads_counted(&self) -> Result<i64> {
        let mut last = -1;
        loop {
            let mut counted = 0;
            for path in &self.paths {
                let article: Value = serde_json::from_str(&read(&self.server, "GET", path, &self.token).await?)?;
                counted += article["data"]["readCnt"].as_i64().ok_or("a counter")?;
            }
            // Those who look are counted, too.
            if counted - last <= N_ARTICLES as i64 {
                return Ok(counted);
            }
            last = counted;
            sleep(Duration::from_secs(2)).await;
        }
    }

    /// Returns the answer, which is no error.
    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Result<Value> {
        let mut request = self.client.post(format!("{}{path}", self.server.base)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let text = request.send().await?.text().await?;
        match serde_json::from_str::<Value>(&text) {
            Ok(answer) if answer["code"] == 0 || answer.get("code").is_none() => Ok(answer),
            _ => Err(format!("{path}: {text}").into()),
        }
    }
}
