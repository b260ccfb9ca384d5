//! The site before it is anywhere: who there is, what they write, what they do. The same for the same seed and size.

mod acts;
mod dice;
mod people;
mod prose;
mod topics;
mod words;

use std::collections::HashSet;

pub(crate) use acts::{Act, Deed};
use dice::{Dice, Weighted, power_law};
pub(crate) use people::Person;
use topics::TOPICS;

/// How often somebody writes falls with his rank to this power.
const PRODUCTIVITY: f64 = 0.8;
/// Of so many people, ...
const PEOPLE: usize = 10;
/// ... so many write.
const WRITERS: usize = 6;
/// Of 100 articles, so many are drafts and so many are withdrawn.
const DRAFTS: usize = 6;
const WITHDRAWN: usize = 4;
/// Titles are drawn so often until there is a new one; then it gets a number.
const TITLES_MAX: usize = 10;

/// How large a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) users: usize,
    pub(crate) articles: usize,
    pub(crate) interactions: usize,
}

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) seed: u64,
    pub(crate) people: Vec<Person>,
    pub(crate) articles: Vec<Article>,
    pub(crate) acts: Vec<Act>,
}

/// An article; its text is written when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Article {
    /// Position in [`Site::people`].
    pub(crate) author: usize,
    pub(crate) fate: Fate,
    /// Different from all other titles.
    pub(crate) title: String,
    pub(crate) tags: Vec<&'static str>,
    topic: usize,
}

/// What becomes of an article.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is never published.
    Draft,
    Published,
    /// It was published, and is no more.
    Withdrawn,
}

impl Site {
    /// Makes up a site.
    pub(crate) fn new(seed: u64, size: Size) -> Self {
        let people = people::people(seed, size.users);
        let articles = articles(seed, size.articles, &people);
        let acts = acts::acts(seed, size.interactions, people.len(), &articles);
        Self {
            seed,
            people,
            articles,
            acts,
        }
    }

    /// Returns the text of the article at a position.
    pub(crate) fn text(&self, article: usize) -> String {
        let mut dice = Dice::new(self.seed, &format!("text {article}"));
        prose::text(&mut dice, &TOPICS[self.articles[article].topic])
    }

    /// Counts the articles that have a fate.
    pub(crate) fn n_articles(&self, fate: Fate) -> usize {
        self.articles.iter().filter(|article| article.fate == fate).count()
    }

    /// Returns a word that many of the published articles have, for a search.
    pub(crate) fn word(&self) -> &'static str {
        let first = self.articles.iter().find(|article| article.fate == Fate::Published);
        first.map_or("", |article| TOPICS[article.topic].things[0])
    }
}

fn articles(seed: u64, len: usize, people: &[Person]) -> Vec<Article> {
    let mut dice = Dice::new(seed, "articles");
    let n_writers = (people.len() * WRITERS).div_ceil(PEOPLE);
    let mut weights = power_law(&mut dice, n_writers, PRODUCTIVITY);
    weights.resize(people.len(), 0.0);
    dice.shuffle(&mut weights);
    let writers = Weighted::new(weights);
    let mut taken = HashSet::new();
    (0..len)
        .map(|at| {
            let author = writers.draw(&mut dice);
            let topic = *dice.pick(&people[author].topics);
            let fate = match dice.below(100) {
                // So that there is something to read, however small the site.
                _ if at == 0 => Fate::Published,
                n if n < DRAFTS => Fate::Draft,
                n if n < DRAFTS + WITHDRAWN => Fate::Withdrawn,
                _ => Fate::Published,
            };
            let mut tags: Vec<&str> = (0..dice.between(1, 3))
                .map(|_| *dice.pick(TOPICS[topic].tags))
                .collect();
            tags.sort_unstable();
            tags.dedup();
            let title = title(&mut dice, topic, &mut taken);
            Article {
                author,
                fate,
                title,
                tags,
                topic,
            }
        })
        .collect()
}

/// Draws a title that no other article has.
fn title(dice: &mut Dice, topic: usize, taken: &mut HashSet<String>) -> String {
    let drawn: Vec<String> = (0..TITLES_MAX).map(|_| prose::title(dice, &TOPICS[topic])).collect();
    let numbered = (2..).map(|number| format!("{}（{number}）", drawn[0]));
    let mut titles = drawn.iter().cloned().chain(numbered);
    let title = titles.find(|title| !taken.contains(title)).unwrap_or_default();
    taken.insert(title.clone());
    title
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SIZE: Size = Size {
        users: 500,
        articles: 5_000,
        interactions: 100_000,
    };

    /// Counts how often each position occurs, most often first.
    fn counts(positions: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts: HashMap<usize, usize> = HashMap::new();
        positions.for_each(|position| *counts.entry(position).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    /// The slope of the counts over the ranks, both as logarithms, without the tail: a power law is a straight line.
    fn slope(counts: &[usize], n_ranks: usize) -> f64 {
        let points = counts.iter().take(n_ranks).enumerate();
        let points: Vec<(f64, f64)> = points
            .map(|(rank, count)| (((rank + 1) as f64).ln(), (*count as f64).ln()))
            .collect();
        let n = points.len() as f64;
        let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        let covariance: f64 = points.iter().map(|(x, y)| (x - sum_x / n) * (y - sum_y / n)).sum();
        covariance / points.iter().map(|(x, _)| (x - sum_x / n).powi(2)).sum::<f64>()
    }

    fn of(site: &Site, deed: fn(&Deed) -> Option<usize>) -> impl Iterator<Item = (usize, usize)> {
        site.acts
            .iter()
            .filter_map(move |act| Some((act.who, deed(&act.deed)?)))
    }

    const READ: fn(&Deed) -> Option<usize> = |deed| match deed {
        Deed::Read(article) => Some(*article),
        _ => None,
    };
    const LIKE: fn(&Deed) -> Option<usize> = |deed| match deed {
        Deed::Like(article) => Some(*article),
        _ => None,
    };
    const FOLLOW: fn(&Deed) -> Option<usize> = |deed| match deed {
        Deed::Follow(person) => Some(*person),
        _ => None,
    };

    #[test]
    fn the_same_seed_is_the_same_site() {
        let size = Size {
            users: 50,
            articles: 300,
            interactions: 3_000,
        };
        let site = Site::new(7, size);
        assert_eq!(site, Site::new(7, size));
        assert_eq!(site.text(3), Site::new(7, size).text(3));
        let other = Site::new(8, size);
        assert_ne!(site.acts, other.acts);
        assert_ne!(site.articles, other.articles);
        assert_ne!(site.people[0].email, other.people[0].email);
        assert_ne!(site.text(3), site.text(4));
    }

    #[test]
    fn there_is_as_much_as_was_asked_for() {
        for (users, articles, interactions) in [
            (500, 5_000, 100_000),
            (2, 1, 100),
            (3, 7, 1_000),
            (10, 0, 100),
            (1, 5, 9),
            (5, 5, 0),
            (5, 5, 1),
        ] {
            let size = Size {
                users,
                articles,
                interactions,
            };
            let site = Site::new(1, size);
            assert_eq!((site.people.len(), site.articles.len()), (users, articles));
            let is_possible = articles > 0 && users > 1;
            assert_eq!(site.acts.len(), if is_possible { interactions } else { 0 }, "{size:?}");
        }
    }

    #[test]
    fn few_write_much_and_few_are_read_much() {
        let site = Site::new(1, SIZE);
        let written = counts(site.articles.iter().map(|article| article.author));
        assert!((250..=300).contains(&written.len()), "{} write", written.len());
        let slope_of = |counts: &[usize], n_ranks| {
            let slope = slope(counts, n_ranks);
            eprintln!("slope {slope:.2} of {:?}...", &counts[..8]);
            slope
        };
        assert!((-0.95..-0.65).contains(&slope_of(&written, 200)));
        let reads = counts(of(&site, READ).map(|(_, article)| article));
        assert!((-1.1..-0.7).contains(&slope_of(&reads, 500)));
        let active = counts(of(&site, READ).map(|(who, _)| who));
        assert!((-0.75..-0.45).contains(&slope_of(&active, 300)));
        let likes = counts(of(&site, LIKE).map(|(_, article)| article));
        let top: usize = likes.iter().take(likes.len() / 5).sum();
        assert!(
            top * 10 > likes.iter().sum::<usize>() * 5,
            "a fifth of the articles has half of the likes"
        );
        let followed = counts(of(&site, FOLLOW).map(|(_, whom)| whom));
        assert!(followed[0] > 10 * followed[followed.len() / 2], "{followed:?}");
    }

    #[test]
    fn who_likes_has_read_and_nothing_is_done_twice_that_counts_once() {
        let site = Site::new(2, SIZE);
        let mut read = HashSet::new();
        let mut done = HashSet::new();
        for act in &site.acts {
            match &act.deed {
                Deed::Read(article) => drop(read.insert((act.who, *article))),
                Deed::Like(article) | Deed::Collect(article) => {
                    assert!(read.contains(&(act.who, *article)), "{act:?}");
                    assert!(done.insert(act), "{act:?} twice");
                }
                Deed::Comment { article, text, .. } => {
                    assert!(read.contains(&(act.who, *article)) && !text.is_empty());
                }
                Deed::Follow(person) => assert!(*person != act.who && done.insert(act), "{act:?}"),
            }
        }
        let is_shown = |article: &usize| site.articles[*article].fate == Fate::Published;
        assert!(read.iter().all(|(_, article)| is_shown(article)));
    }

    #[test]
    fn titles_differ_and_some_are_not_for_readers() {
        let site = Site::new(3, SIZE);
        let titles: HashSet<_> = site.articles.iter().map(|article| &article.title).collect();
        assert_eq!(titles.len(), site.articles.len());
        assert!(titles.iter().all(|title| (3..40).contains(&title.chars().count())));
        assert!((200..400).contains(&site.n_articles(Fate::Draft)));
        assert!((120..280).contains(&site.n_articles(Fate::Withdrawn)));
        assert!(!site.word().is_empty());
    }
}
