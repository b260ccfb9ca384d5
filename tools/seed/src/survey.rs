//! What readers have done so far, as the site tells it: to go on where an earlier time ended, and to see that all has arrived.
//!
//! Asking must change nothing. An article's own page would count a reading; so its counters are taken from the reading
//! histories of its readers, where it stands with them, and who reads nothing is in no counter.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mosaic_core::lock;
use serde_json::Value;

use crate::api::Failure;
use crate::args::Content;
use crate::console::Console;
use crate::fill::{Filled, number};
use crate::site::{Act, Deed, Site};

/// Entries of one page of a history, and comments of one page.
const PAGE: usize = 50;
/// How often it is looked again for what is still on its way, and how long between.
const LOOKS: u32 = 12;
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Counters of everything that readers do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By article, and in it by kind.
    articles: Vec<[i64; 4]>,
    /// Followers, by person.
    followers: Vec<i64>,
}

/// Names of the counters of an article.
const KINDS: [&str; 4] = ["reads", "likes", "collections", "comments"];

/// Returns whose counter a deed raises: an article's of some kind, or the followers of a person.
fn counted(deed: &Deed) -> (usize, Option<usize>) {
    match deed {
        Deed::Read(article) => (*article, Some(0)),
        Deed::Like(article) => (*article, Some(1)),
        Deed::Collect(article) => (*article, Some(2)),
        Deed::Comment { article, .. } => (*article, Some(3)),
        Deed::Follow(person) => (*person, None),
    }
}

impl Counts {
    fn none(site: &Site) -> Self {
        Self {
            articles: vec![[0; 4]; site.articles.len()],
            followers: vec![0; site.people.len()],
        }
    }

    fn of(&mut self, deed: &Deed) -> &mut i64 {
        match counted(deed) {
            (article, Some(kind)) => &mut self.articles[article][kind],
            (person, None) => &mut self.followers[person],
        }
    }

    /// Returns what the counters shall be.
    pub(crate) fn planned(site: &Site) -> Self {
        let mut counts = Self::none(site);
        site.acts.iter().for_each(|act| *counts.of(&act.deed) += 1);
        counts
    }

    /// Returns what they are.
    pub(crate) async fn found(
        filled: &Filled<'_>,
        console: &Console,
        site: &Site,
        parallel: usize,
    ) -> Result<Self, Failure> {
        let planned = Self::planned(site);
        let at_of: HashMap<i64, usize> = filled
            .article_ids
            .iter()
            .enumerate()
            .map(|(at, id)| (*id, at))
            .collect();
        let followed: Vec<usize> = (0..site.people.len())
            .filter(|who| planned.followers[*who] > 0)
            .collect();
        let commented: Vec<usize> = (0..site.articles.len())
            .filter(|at| planned.articles[*at][3] > 0)
            .collect();
        let readers: BTreeSet<usize> = site.acts.iter().map(|act| act.who).collect();
        let counts = Mutex::new(Self::none(site));
        console.begin("counting", readers.len() + commented.len() + followed.len(), 0);
        let histories = readers.into_iter().map(Question::History);
        let questions = histories
            .chain(commented.into_iter().map(Question::Comments))
            .chain(followed.into_iter().map(Question::Followers));
        stream::iter(questions)
            .map(async |question| {
                question.ask(filled, &at_of, &counts).await?;
                console.step();
                Ok::<_, Failure>(())
            })
            .buffer_unordered(parallel)
            .try_collect::<()>()
            .await?;
        console.end();
        Ok(counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// What is asked for counters.
enum Question {
    /// Somebody's, for the counters of what he has read.
    History(usize),
    /// Those of an article.
    Comments(usize),
    /// Those of a person.
    Followers(usize),
}

impl Question {
    async fn ask(
        self,
        filled: &Filled<'_>,
        at_of: &HashMap<i64, usize>,
        counts: &Mutex<Counts>,
    ) -> Result<(), Failure> {
        match self {
            Self::History(who) => history(filled, who, at_of, counts).await,
            Self::Comments(article) => {
                let n = comments(filled, filled.article_ids[article]).await?;
                lock(counts).articles[article][3] = n;
                Ok(())
            }
            Self::Followers(who) => {
                let path = format!("/follow/stats?uid={}", filled.author_ids[&who]);
                let stats = filled.accounts.get(who, &path).await?;
                lock(counts).followers[who] = number(&stats["followers"]);
                Ok(())
            }
        }
    }
}

/// Notes the counters of all that somebody has read.
async fn history(
    filled: &Filled<'_>,
    who: usize,
    at_of: &HashMap<i64, usize>,
    counts: &Mutex<Counts>,
) -> Result<(), Failure> {
    let mut before = String::new();
    loop {
        let path = format!("/articles/history?limit={PAGE}&before={before}");
        let page = filled.accounts.get(who, &path).await?;
        // A page may be short because something on it was withdrawn; only an empty one is the end.
        let Some(last) = page.as_array().and_then(|page| page.last()) else {
            return Ok(());
        };
        before = last["cursor"].as_str().unwrap_or_default().to_owned();
        let mut counts = lock(counts);
        for entry in page.as_array().into_iter().flatten() {
            let article = &entry["article"];
            if let Some(at) = at_of.get(&number(&article["id"])) {
                let seen = ["readCnt", "likeCnt", "collectCnt"].map(|name| number(&article[name]));
                let counters = counts.articles[*at].iter_mut();
                // Others raise them meanwhile.
                counters
                    .zip(seen)
                    .for_each(|(counter, seen)| *counter = seen.max(*counter));
            }
        }
    }
}

/// Counts the comments of an article.
async fn comments(filled: &Filled<'_>, id: i64) -> Result<i64, Failure> {
    let (mut n, mut before) = (0, 0);
    loop {
        let path = format!("/articles/pub/comment/list?id={id}&limit={PAGE}&before={before}");
        let page = filled.accounts.api().get(&path, "").await?.ok(&path)?;
        let page = page.as_array().map_or(&[][..], Vec::as_slice);
        n += page
            .iter()
            .map(|root: &Value| 1 + number(&root["replyCnt"]))
            .sum::<i64>();
        match page.last() {
            Some(last) if page.len() == PAGE => before = number(&last["id"]),
            _ => return Ok(n),
        }
    }
}

/// Returns what is still to be done of a site, in order.
///
/// Of what counts each time, reads and comments, as many are left out as are there, the first ones; what counts once is done
/// again wherever some of it is missing.
pub(crate) fn missing<'a>(site: &'a Site, found: &Counts) -> Vec<&'a Act> {
    let mut planned = Counts::planned(site);
    let mut there = found.clone();
    let is_missing = |act: &&Act| {
        let there = there.of(&act.deed);
        match act.deed {
            Deed::Read(_) | Deed::Comment { .. } => {
                *there -= 1;
                *there < 0
            }
            Deed::Like(_) | Deed::Collect(_) | Deed::Follow(_) => *there < *planned.of(&act.deed),
        }
    };
    site.acts.iter().filter(is_missing).collect()
}

/// Counts on the site what has arrived, waiting for what is on its way; returns how it is told, and whether it is all.
pub(crate) async fn check(
    console: &Console,
    site: &Site,
    filled: &Filled<'_>,
    wanted: &Content,
) -> Result<(String, bool), Failure> {
    let planned = Counts::planned(site);
    let mut n_looks = 1;
    loop {
        let found = Counts::found(filled, console, site, wanted.parallel.into()).await?;
        let (text, is_complete) = compared(&planned, &found);
        if is_complete || n_looks == LOOKS {
            return Ok((text, is_complete));
        }
        n_looks += 1;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells how counters differ; more than planned is what others did.
fn compared(planned: &Counts, found: &Counts) -> (String, bool) {
    let kind = |kind: usize| {
        let of = |counts: &Counts| counts.articles.iter().map(|article| article[kind]).collect::<Vec<_>>();
        (KINDS[kind], of(planned), of(found))
    };
    let followers = ("followers", planned.followers.clone(), found.followers.clone());
    let mut text = "Counted on the site:".to_owned();
    let mut is_complete = true;
    for (name, planned, found) in (0..KINDS.len()).map(kind).chain([followers]) {
        let missing: i64 = planned.iter().zip(&found).map(|(want, is)| (want - is).max(0)).sum();
        let total = |counts: &[i64]| counts.iter().sum::<i64>();
        text.push_str(&format!("\n  {name:11} {} of {}", total(&found), total(&planned)));
        if missing > 0 {
            text.push_str(&format!(", {missing} missing"));
            is_complete = false;
        }
    }
    (text, is_complete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Size;

    fn site() -> Site {
        let size = Size {
            users: 20,
            articles: 60,
            interactions: 2_000,
        };
        Site::new(5, size)
    }

    #[test]
    fn nothing_is_missing_of_what_is_there_and_all_of_what_is_not() {
        let site = site();
        let planned = Counts::planned(&site);
        assert!(missing(&site, &planned).is_empty());
        assert_eq!(missing(&site, &Counts::none(&site)).len(), site.acts.len());
        let total: i64 = planned.articles.iter().flatten().chain(&planned.followers).sum();
        assert_eq!(total, 2_000);
    }

    #[test]
    fn who_was_interrupted_goes_on() {
        let site = site();
        let (done, rest) = site.acts.split_at(700);
        let mut found = Counts::none(&site);
        done.iter().for_each(|act| *found.of(&act.deed) += 1);
        let missing = missing(&site, &found);
        assert!(rest.iter().all(|act| missing.contains(&act)));
        // What is done again beside counts once.
        let repeats = |deed: &Deed| matches!(deed, Deed::Read(_) | Deed::Comment { .. });
        let n_repeating = |acts: &mut dyn Iterator<Item = &Act>| acts.filter(|act| repeats(&act.deed)).count();
        assert_eq!(n_repeating(&mut missing.into_iter()), n_repeating(&mut rest.iter()));
    }

    #[test]
    fn what_is_missing_is_told_and_more_is_no_fault() {
        let site = site();
        let planned = Counts::planned(&site);
        let mut found = planned.clone();
        let (text, is_complete) = compared(&planned, &found);
        assert!(is_complete && !text.contains("missing"), "{text}");
        let read = planned.articles.iter().position(|article| article[0] > 1);
        found.articles[read.unwrap()][0] -= 1;
        found.followers.iter_mut().for_each(|followers| *followers += 1);
        let (text, is_complete) = compared(&planned, &found);
        assert!(!is_complete && text.contains(", 1 missing\n  likes"), "{text}");
    }
}
