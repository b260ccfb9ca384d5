//! Where an item stands in time, and how a page is made of what was pushed and what is pulled.

use std::fmt;
use std::str::FromStr;

use mosaic::Error;

/// Where an item stands in every feed: by its time, then by its id. Also the cursor of a page, printed as `time-id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) published_at: i64,
    pub(crate) item_id: i64,
}

impl Position {
    /// Before which everything is.
    pub(crate) const END: Self = Self {
        published_at: i64::MAX,
        item_id: i64::MAX,
    };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.published_at, self.item_id)
    }
}

impl FromStr for Position {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (published_at, item_id) = text.rsplit_once('-').ok_or(CursorError)?;
        let number = |text: &str| text.parse::<i64>().map_err(|_| CursorError);
        Ok(Self {
            published_at: number(published_at)?,
            item_id: number(item_id)?,
        })
    }
}

/// Not a cursor of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CursorError;

impl From<CursorError> for Error {
    fn from(_: CursorError) -> Self {
        Self::invalid_argument("FEED_CURSOR_INVALID", "the cursor is not one of a page")
    }
}

/// An item in a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) biz: String,
    pub(crate) biz_id: i64,
    pub(crate) author_id: i64,
}

/// A page and where the next one begins, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) next: Option<Position>,
}

/// Makes a page of at most `limit` entries, newest first, each once.
///
/// Both sources must hold all entries they have from the page's beginning on, or more than `limit` of them.
pub(crate) fn merge(pushed: Vec<Entry>, pulled: Vec<Entry>, limit: usize) -> Page {
    let mut entries = pushed;
    entries.extend(pulled);
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.position));
    entries.dedup_by_key(|entry| entry.position.item_id);
    let has_more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| has_more).map(|entry| entry.position);
    Page { entries, next }
}

/// How an item reaches readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Brought to the inboxes of all followers.
    Push,
    /// Fetched by who reads.
    Pull,
}

impl Delivery {
    /// Decides for an item whose author has so many followers.
    pub(crate) fn of(n_followers: i64, push_max: u32) -> Self {
        if n_followers > i64::from(push_max) {
            Self::Pull
        } else {
            Self::Push
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(item_id: i64, published_at: i64) -> Entry {
        Entry {
            position: Position { published_at, item_id },
            biz: "article".to_owned(),
            biz_id: item_id,
            author_id: 1,
        }
    }

    #[track_caller]
    fn check(pushed: &[(i64, i64)], pulled: &[(i64, i64)], want: &[i64], next: Option<&str>) {
        let of = |items: &[(i64, i64)]| items.iter().map(|&(id, at)| entry(id, at)).collect();
        let page = merge(of(pushed), of(pulled), 3);
        let ids: Vec<_> = page.entries.iter().map(|entry| entry.biz_id).collect();
        assert_eq!(ids, want);
        assert_eq!(page.next.map(|next| next.to_string()).as_deref(), next);
    }

    #[test]
    fn a_page_is_newest_first_and_shows_nothing_twice() {
        check(&[], &[], &[], None);
        check(&[(1, 10), (2, 5)], &[(3, 7)], &[1, 3, 2], None);
        check(&[(1, 10), (2, 5)], &[(1, 10), (2, 5)], &[1, 2], None);
        check(&[(1, 10), (2, 5)], &[(3, 7), (4, 6)], &[1, 3, 4], Some("6-4"));
        check(&[(1, 5), (2, 5)], &[(3, 5), (4, 5)], &[4, 3, 2], Some("5-2"));
    }

    #[test]
    fn a_cursor_survives_print_and_parse() {
        for position in [
            Position {
                published_at: 5,
                item_id: 7,
            },
            Position {
                published_at: -5,
                item_id: 7,
            },
            Position::END,
        ] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", "-", "5", "5-", "a-b", "5-7x", "99999999999999999999-1"] {
            assert_eq!(bad.parse::<Position>(), Err(CursorError), "{bad}");
        }
    }

    #[test]
    fn the_threshold_itself_is_pushed() {
        assert_eq!(Delivery::of(1000, 1000), Delivery::Push);
        assert_eq!(Delivery::of(1001, 1000), Delivery::Pull);
        assert_eq!(Delivery::of(1, 0), Delivery::Pull);
    }
}
