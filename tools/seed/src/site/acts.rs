//! What readers do: they read, like, collect, comment and follow.
//!
//! Two power laws make it: how often somebody reads and how often something is read. Who likes, collects or comments has read
//! before, and follows those who are read. So the counters of the site have the shape that those of real sites have: a few
//! articles with most of the likes, and a long tail.

use std::collections::{HashMap, HashSet};

use super::dice::{Dice, Weighted, power_law};
use super::prose;
use super::topics::TOPICS;
use super::{Article, Fate};

/// How often somebody reads falls with his rank to this power.
const ACTIVITY: f64 = 0.6;
/// How often something is read falls with its rank to this power.
const POPULARITY: f64 = 0.95;
/// Shares of all interactions; the rest are reads.
const LIKES: f64 = 0.17;
const COLLECTS: f64 = 0.06;
const COMMENTS: f64 = 0.05;
const FOLLOWS: f64 = 0.07;
/// One of so many comments answers another one.
const REPLY_EVERY: usize = 4;
/// Nobody reads the same article more often, where there is enough to read.
const REREADS_MAX: u8 = 3;
/// Draws for something that there is not yet; then it is taken as it comes.
const DRAWS_MAX: usize = 20;

/// Who does what; people and articles by their positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Act {
    pub(crate) who: usize,
    pub(crate) deed: Deed,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    Read(usize),
    Like(usize),
    Collect(usize),
    Comment {
        article: usize,
        text: String,
        /// Answers a comment that is there.
        is_reply: bool,
    },
    Follow(usize),
}

impl Deed {
    /// Returns the article that it is done to, if to one.
    pub(crate) const fn article(&self) -> Option<usize> {
        match self {
            Self::Read(article) | Self::Like(article) | Self::Collect(article) | Self::Comment { article, .. } => {
                Some(*article)
            }
            Self::Follow(_) => None,
        }
    }

    /// Returns who gets a follower, if anybody.
    pub(crate) const fn followed(&self) -> Option<usize> {
        match self {
            Self::Follow(person) => Some(*person),
            Self::Read(_) | Self::Like(_) | Self::Collect(_) | Self::Comment { .. } => None,
        }
    }
}

/// Makes `len` acts in the order in which they happen. Without published articles, or with one person only, there are none.
pub(crate) fn acts(seed: u64, len: usize, n_people: usize, articles: &[Article]) -> Vec<Act> {
    let mut dice = Dice::new(seed, "acts");
    let published: Vec<usize> = (0..articles.len())
        .filter(|article| articles[*article].fate == Fate::Published)
        .collect();
    if len == 0 || published.is_empty() || n_people < 2 {
        return Vec::new();
    }
    let readers = Weighted::new(power_law(&mut dice, n_people, ACTIVITY));
    let popularity = power_law(&mut dice, published.len(), POPULARITY);
    let follows = follows(&mut dice, share(len, FOLLOWS), &readers, &popularity, |i| {
        articles[published[i]].author
    });
    let n_reads = len
        - follows.len()
        - [LIKES, COLLECTS, COMMENTS]
            .map(|of| share(len, of))
            .iter()
            .sum::<usize>();
    let draw = Weighted::new(popularity);
    let mut reads = reads(&mut dice, n_reads, &readers, |dice| published[draw.draw(dice)]);
    let mut acts = answers(&mut dice, len, articles, &reads);
    // Where there were too few to like, they read on.
    let n_more = len - follows.len() - reads.len() - acts.len();
    let more: Vec<_> = (0..n_more).map(|_| *dice.pick(&reads)).collect();
    reads.extend(more);
    let n_reads = reads.len() as f64;
    acts.extend(reads.into_iter().enumerate().map(|(at, (who, article))| {
        let deed = Deed::Read(article);
        (at as f64 / n_reads, Act { who, deed })
    }));
    acts.extend(follows.into_iter().map(|act| (dice.fraction(), act)));
    acts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    acts.into_iter().map(|(_, act)| act).collect()
}

fn share(len: usize, of: f64) -> usize {
    (len as f64 * of) as usize
}

/// Draws different pairs of who follows whom, as many as there are but at most `len`.
fn follows(
    dice: &mut Dice,
    len: usize,
    readers: &Weighted,
    popularity: &[f64],
    author: impl Fn(usize) -> usize,
) -> Vec<Act> {
    let articles = Weighted::new(popularity.iter().copied());
    let mut seen = HashSet::new();
    let mut follows = Vec::with_capacity(len);
    for _ in 0..len * DRAWS_MAX {
        if follows.len() == len {
            break;
        }
        let (who, whom) = (readers.draw(dice), author(articles.draw(dice)));
        if who != whom && seen.insert((who, whom)) {
            let deed = Deed::Follow(whom);
            follows.push(Act { who, deed });
        }
    }
    follows
}

/// Draws who reads what.
fn reads(dice: &mut Dice, len: usize, readers: &Weighted, article: impl Fn(&mut Dice) -> usize) -> Vec<(usize, usize)> {
    let mut n_read: HashMap<(usize, usize), u8> = HashMap::new();
    let mut reads = Vec::with_capacity(len);
    while reads.len() < len {
        let mut pair = (readers.draw(dice), article(dice));
        for _ in 0..DRAWS_MAX {
            if n_read.get(&pair).is_none_or(|n| *n < REREADS_MAX) {
                break;
            }
            pair = (readers.draw(dice), article(dice));
        }
        let n = n_read.entry(pair).or_default();
        *n = n.saturating_add(1);
        reads.push(pair);
    }
    reads
}

/// Who has read what, and when for the first time.
type Pair = ((usize, usize), f64);

/// Draws who likes, collects and comments what he has read, each with its time after that.
fn answers(dice: &mut Dice, len: usize, articles: &[Article], reads: &[(usize, usize)]) -> Vec<(f64, Act)> {
    let mut first = HashMap::new();
    for (at, pair) in reads.iter().enumerate() {
        first.entry(*pair).or_insert(at as f64 / reads.len() as f64);
    }
    let mut pairs: Vec<Pair> = first.into_iter().collect();
    pairs.sort_unstable_by_key(|(pair, _)| *pair);
    let quality: Vec<f64> = articles.iter().map(|_| 0.3 + dice.fraction()).collect();
    let mut acts = Vec::new();
    for (of, deed) in [(LIKES, Deed::Like as fn(usize) -> Deed), (COLLECTS, Deed::Collect)] {
        for ((who, article), at) in best(dice, &pairs, &quality, share(len, of)) {
            let deed = deed(article);
            acts.push((later(dice, at), Act { who, deed }));
        }
    }
    comments(dice, share(len, COMMENTS), articles, &pairs, &mut acts);
    acts
}

/// Draws a time after another one.
fn later(dice: &mut Dice, at: f64) -> f64 {
    at + (1.0 - at) * dice.fraction()
}

/// Draws different pairs: the better an article, the more of its readers (Efraimidis and Spirakis: a sample by weight).
fn best(dice: &mut Dice, pairs: &[Pair], quality: &[f64], len: usize) -> Vec<Pair> {
    let key = |pair: &Pair| (dice.fraction().powf(1.0 / quality[pair.0.1]), *pair);
    let mut keyed: Vec<(f64, Pair)> = pairs.iter().map(key).collect();
    keyed.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    keyed.into_iter().take(len).map(|(_, pair)| pair).collect()
}

/// Draws who comments on what. Most accounts comment little, and the platform lets nobody comment all the time.
fn comments(dice: &mut Dice, len: usize, articles: &[Article], pairs: &[Pair], acts: &mut Vec<(f64, Act)>) {
    let n_readers = pairs.chunk_by(|(a, _), (b, _)| a.0 == b.0).count();
    let n_by_one_max = (4 * len).div_ceil(n_readers).max(20);
    let mut n_by: HashMap<usize, usize> = HashMap::new();
    for _ in 0..len {
        let mut drawn = *dice.pick(pairs);
        for _ in 0..DRAWS_MAX {
            if n_by.get(&drawn.0.0).is_none_or(|n| *n < n_by_one_max) {
                break;
            }
            drawn = *dice.pick(pairs);
        }
        let ((who, article), at) = drawn;
        *n_by.entry(who).or_default() += 1;
        let is_reply = dice.below(REPLY_EVERY) == 0;
        let text = prose::comment(dice, &TOPICS[articles[article].topic], is_reply);
        let deed = Deed::Comment {
            article,
            text,
            is_reply,
        };
        acts.push((later(dice, at), Act { who, deed }));
    }
}
