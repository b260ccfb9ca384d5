//! Writes a site: accounts, then articles, then what readers do, each with many requests at a time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mosaic_core::lock;
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::api::{Api, Failure};
use crate::args::Content;
use crate::console::Console;
use crate::site::{Act, Article, Deed, Fate, Site};
use crate::survey::{self, Counts};

/// Articles of one page of an author's list.
const PAGE: usize = 100;
/// The API's number for what readers see.
const PUBLISHED: i64 = 2;

/// What is on the site now.
pub(crate) struct Filled<'a> {
    pub(crate) accounts: Accounts<'a>,
    /// Ids of articles, by their position; 0 for those that should be published and somebody has hidden.
    pub(crate) article_ids: Vec<i64>,
    /// Ids of the accounts of those whom somebody follows, by their position.
    pub(crate) author_ids: HashMap<usize, i64>,
    pub(crate) n_new_articles: usize,
    pub(crate) n_new_acts: usize,
}

/// Writes what of a site is not there yet.
///
/// # Errors
/// See [`Failure`]; what was written stays.
pub(crate) async fn fill<'a>(
    api: &'a Api,
    console: &Console,
    site: &'a Site,
    wanted: &'a Content,
) -> Result<Filled<'a>, Failure> {
    let parallel = usize::from(wanted.parallel);
    let accounts = Accounts::open(api, console, site, wanted).await?;
    let (article_ids, n_new_articles) = articles(&accounts, console, site, parallel).await?;
    let author_ids = author_ids(&accounts, site, &article_ids, parallel).await?;
    let mut filled = Filled {
        accounts,
        article_ids,
        author_ids,
        n_new_articles,
        n_new_acts: 0,
    };
    let mut acts: Vec<&Act> = if filled.accounts.n_new() == site.people.len() {
        site.acts.iter().collect()
    } else {
        let found = Counts::found(&filled, console, site, parallel).await?;
        survey::missing(site, &found)
    };
    acts.retain(|act| act.deed.article().is_none_or(|article| filled.article_ids[article] > 0));
    filled.n_new_acts = acts.len();
    perform(&filled, console, site, &acts, parallel).await?;
    Ok(filled)
}

/// Writes articles; returns the ids of all and how many are new.
async fn articles(
    accounts: &Accounts<'_>,
    console: &Console,
    site: &Site,
    parallel: usize,
) -> Result<(Vec<i64>, usize), Failure> {
    let authors: BTreeSet<usize> = site.articles.iter().map(|article| article.author).collect();
    let returning = authors.into_iter().filter(|author| accounts.was_there(*author));
    let lists: Vec<_> = stream::iter(returning)
        .map(async |author| written(accounts, author).await)
        .buffer_unordered(parallel)
        .try_collect()
        .await?;
    // Titles differ all over the site.
    let there: HashMap<String, (i64, i64)> = lists.into_iter().flatten().collect();
    let found = |article: &Article| there.get(&article.title).copied();
    let n_before = site.articles.iter().filter(|article| found(article).is_some()).count();
    console.begin("articles", site.articles.len(), n_before);
    let ids: Vec<i64> = stream::iter(0..site.articles.len())
        .map(async |at| {
            let found = found(&site.articles[at]);
            let id = write(accounts, site, at, found).await?;
            if found.is_none() {
                console.step();
            }
            Ok::<_, Failure>(id)
        })
        .buffered(parallel)
        .try_collect()
        .await?;
    console.end();
    Ok((ids, site.articles.len() - n_before))
}

/// Returns what an author has written: ids and statuses by title.
async fn written(accounts: &Accounts<'_>, author: usize) -> Result<Vec<(String, (i64, i64))>, Failure> {
    let mut all = Vec::new();
    loop {
        let body = json!({"offset": all.len(), "limit": PAGE});
        let page = accounts.post(author, "/articles/list", &body).await?;
        let page = page.as_array().map_or(&[][..], Vec::as_slice);
        all.extend(page.iter().map(|article| {
            let title = article["title"].as_str().unwrap_or_default().to_owned();
            (title, (number(&article["id"]), number(&article["status"])))
        }));
        if page.len() < PAGE {
            return Ok(all);
        }
    }
}

/// Brings one article to its fate; returns its id.
async fn write(accounts: &Accounts<'_>, site: &Site, at: usize, found: Option<(i64, i64)>) -> Result<i64, Failure> {
    let article = &site.articles[at];
    let (id, status) = match found {
        Some(found) => found,
        None => {
            let path = match article.fate {
                Fate::Draft => "/articles/edit",
                Fate::Published | Fate::Withdrawn => "/articles/publish",
            };
            let body = json!({"title": article.title, "content": site.text(at), "tags": article.tags});
            let id = accounts.post(article.author, path, &body).await?;
            (number(&id), PUBLISHED)
        }
    };
    if article.fate == Fate::Published && status != PUBLISHED {
        return Ok(0);
    }
    if article.fate == Fate::Withdrawn && status == PUBLISHED {
        accounts
            .post(article.author, "/articles/withdraw", &json!({"id": id}))
            .await?;
    }
    Ok(id)
}

/// Asks for the ids of those whom somebody follows: an article of theirs tells.
async fn author_ids(
    accounts: &Accounts<'_>,
    site: &Site,
    article_ids: &[i64],
    parallel: usize,
) -> Result<HashMap<usize, i64>, Failure> {
    let one_of: HashMap<usize, i64> = site
        .articles
        .iter()
        .zip(article_ids)
        .filter(|(_, id)| **id > 0)
        .map(|(article, id)| (article.author, *id))
        .collect();
    let followed: BTreeSet<usize> = site.acts.iter().filter_map(|act| act.deed.followed()).collect();
    stream::iter(followed)
        .map(async |author| {
            let id = one_of.get(&author).copied().unwrap_or_default();
            let article = accounts.get(author, &format!("/articles/detail/{id}")).await?;
            Ok((author, number(&article["authorId"])))
        })
        .buffer_unordered(parallel)
        .try_collect()
        .await
}

/// Has readers do what they do.
async fn perform(
    filled: &Filled<'_>,
    console: &Console,
    site: &Site,
    acts: &[&Act],
    parallel: usize,
) -> Result<(), Failure> {
    console.begin("interactions", site.acts.len(), site.acts.len() - acts.len());
    let threads = Threads::default();
    stream::iter(acts)
        .map(async |act| {
            filled.act(act, &threads).await?;
            console.step();
            Ok::<_, Failure>(())
        })
        .buffer_unordered(parallel)
        .try_collect::<()>()
        .await?;
    console.end();
    Ok(())
}

/// The newest comment of each article, for those who answer.
#[derive(Default)]
struct Threads(Mutex<HashMap<usize, i64>>);

impl Filled<'_> {
    async fn act(&self, act: &Act, threads: &Threads) -> Result<(), Failure> {
        let (path, body) = match &act.deed {
            Deed::Read(article) => {
                let path = format!("/articles/pub/{}", self.article_ids[*article]);
                return self.accounts.get(act.who, &path).await.map(drop);
            }
            Deed::Comment {
                article,
                text,
                is_reply,
            } => {
                let newest = lock(&threads.0).get(article).copied();
                let parent = newest.filter(|_| *is_reply).unwrap_or_default();
                let body = json!({"id": self.article_ids[*article], "parentId": parent, "content": text});
                let comment = self.accounts.post(act.who, "/articles/pub/comment", &body).await?;
                lock(&threads.0).insert(*article, number(&comment["id"]));
                return Ok(());
            }
            Deed::Like(article) => {
                let body = json!({"id": self.article_ids[*article], "like": true});
                ("/articles/pub/like", body)
            }
            Deed::Collect(article) => {
                let body = json!({"id": self.article_ids[*article], "cid": 0, "collect": true});
                ("/articles/pub/collect", body)
            }
            Deed::Follow(person) => ("/follow/follow", json!({"uid": self.author_ids[person]})),
        };
        self.accounts.post(act.who, path, &body).await.map(drop)
    }
}

/// Reads an id; 0 if there is none.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}
