//! What stands on the screen at the end: what there is now, and where to look.

use std::collections::HashMap;
use std::time::Duration;

use crate::api::Api;
use crate::args::Content;
use crate::console::spoken;
use crate::fill::Filled;
use crate::site::{Deed, Fate, Site};

/// Tells what was written and what to look at.
pub(crate) fn told(api: &Api, site: &Site, filled: &Filled<'_>, wanted: &Content, took: Duration) -> String {
    let mut text = counts(api, site, filled, wanted, took);
    text.push_str(&doors(api.base(), site, filled, &wanted.password));
    text
}

fn counts(api: &Api, site: &Site, filled: &Filled<'_>, wanted: &Content, took: Duration) -> String {
    let n_of = |is: fn(&Deed) -> bool| site.acts.iter().filter(|act| is(&act.deed)).count();
    let waits = match api.n_waits() {
        0 => String::new(),
        n => format!("\n  {n} times the platform asked to wait"),
    };
    format!(
        "\nThe site is at {}, seed {}; it took {}.
  {} people, {} of them new
  {} articles, {} of them new: {} published, {} drafts, {} withdrawn
  {} interactions, {} of them new: {} reads, {} likes, {} collections, {} comments, {} follows{waits}\n",
        api.base(),
        wanted.seed,
        spoken(took),
        site.people.len(),
        filled.accounts.n_new(),
        site.articles.len(),
        filled.n_new_articles,
        site.n_articles(Fate::Published),
        site.n_articles(Fate::Draft),
        site.n_articles(Fate::Withdrawn),
        site.acts.len(),
        filled.n_new_acts,
        n_of(|deed| matches!(deed, Deed::Read(_))),
        n_of(|deed| matches!(deed, Deed::Like(_))),
        n_of(|deed| matches!(deed, Deed::Collect(_))),
        n_of(|deed| matches!(deed, Deed::Comment { .. })),
        n_of(|deed| matches!(deed, Deed::Follow(_))),
    )
}

/// Returns the position that occurs most often; of several the first.
fn most(positions: impl Iterator<Item = usize>) -> Option<(usize, usize)> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    positions.for_each(|position| *counts.entry(position).or_default() += 1);
    counts
        .into_iter()
        .max_by_key(|(position, n)| (*n, std::cmp::Reverse(*position)))
}

fn doors(base: &str, site: &Site, filled: &Filled<'_>, password: &str) -> String {
    let mut text = String::from("\nLook at\n");
    let mut line = |what: &str, at: String| text.push_str(&format!("  {what:11} {at}\n"));
    line(
        "hot",
        format!("{base}/articles/ranking/hot   (computed every three minutes)"),
    );
    line("most liked", format!("{base}/articles/ranking/likes?n=10"));
    line("search", format!("{base}/search?expression={}", site.word()));
    let commented = most(site.acts.iter().filter_map(|act| match &act.deed {
        Deed::Comment { article, .. } => Some(*article),
        _ => None,
    }));
    if let Some((article, n)) = commented {
        let at = format!(
            "{base}/articles/pub/comment/list?id={}&limit=10   ({n} comments)",
            filled.article_ids[article]
        );
        line("comments", at);
    }
    line("all routes", format!("{base}/docs"));
    if let Some((author, n)) = most(site.acts.iter().filter_map(|act| act.deed.followed())) {
        let person = &site.people[author];
        line(
            "an author",
            format!("{}, {}, whom {n} follow", person.email, person.nickname),
        );
    }
    // Who follows most has the fullest feed.
    let followers = site.acts.iter().filter(|act| act.deed.followed().is_some());
    let Some((reader, n)) = most(followers.map(|act| act.who)) else {
        return text;
    };
    let person = &site.people[reader];
    line(
        "a reader",
        format!("{}, {}, who follows {n}", person.email, person.nickname),
    );
    text.push_str(&format!(
        "\nSign in; everybody's password is {password}
  TOKEN=$(curl -si {base}/users/login -H 'content-type: application/json' \\
    -d '{{\"email\":\"{}\",\"password\":\"{password}\"}}' | sed -n 's/^x-jwt-token: //p' | tr -d '\\r')
  curl -s '{base}/follow/feed?limit=10' -H \"authorization: Bearer $TOKEN\"
  curl -s '{base}/articles/history?limit=10' -H \"authorization: Bearer $TOKEN\"",
        person.email
    ));
    text
}
