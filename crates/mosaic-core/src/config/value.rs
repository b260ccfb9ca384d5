//! What a configuration value may be, and how its text is read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::Secret;

/// A value before it has a type.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// From the environment, the command line or a TOML string.
    Text(String),
    /// A TOML array.
    List(Vec<Raw>),
    /// Keys beneath a key, for [`BTreeMap`] fields.
    Table(BTreeMap<String, Raw>),
}

impl Raw {
    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text.trim()),
            Self::List(_) => Err("must be one value, not a list".to_owned()),
            Self::Table(_) => Err("must be one value, not a table".to_owned()),
        }
    }
}

/// Applies a new raw value to a [`Live`] field.
pub type Setter = Arc<dyn Fn(&Raw) -> Result<(), String> + Send + Sync>;

/// A type that a configuration field may have.
pub trait Value: Sized {
    /// Reads the value; the error says what is wrong, without the value.
    fn parse(raw: &Raw) -> Result<Self, String>;
    /// Prints the value for people, secrets masked.
    fn show(&self) -> String;
    /// Does the field take the keys beneath its own?
    const IS_TABLE: bool = false;
    /// Returns what a reload calls, for values that may change while running.
    fn setter(&self) -> Option<Setter> {
        None
    }
}

macro_rules! parsed_values {
    ($($type:ty => $what:literal),* $(,)?) => {
        $(impl Value for $type {
            fn parse(raw: &Raw) -> Result<Self, String> {
                raw.text()?.parse().map_err(|_| concat!("must be ", $what).to_owned())
            }
            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

parsed_values! {
    bool => "true or false",
    u16 => "a whole number from 0 to 65535",
    u32 => "a whole number from 0 to 4294967295",
    u64 => "a whole number",
    usize => "a whole number",
    i64 => "a whole number",
    f64 => "a number",
    IpAddr => "an IP address",
    SocketAddr => "an address such as 127.0.0.1:8080",
    ByteSize => "a size such as 64KiB or 10MiB",
    EngineUrl => "a URL such as memory: or redis://host:6379",
}

impl Value for String {
    fn parse(raw: &Raw) -> Result<Self, String> {
        raw.text().map(str::to_owned)
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn parse(raw: &Raw) -> Result<Self, String> {
        raw.text().map(Self::from)
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Secret<String> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        raw.text().map(|text| Self::new(text.to_owned()))
    }
    fn show(&self) -> String {
        "***".to_owned()
    }
}

impl Value for Duration {
    fn parse(raw: &Raw) -> Result<Self, String> {
        parse_duration(raw.text()?).ok_or_else(|| "must be a duration such as 500ms, 30s, 10m, 24h or 7d".to_owned())
    }
    fn show(&self) -> String {
        show_duration(*self)
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        if matches!(raw, Raw::Text(text) if text.trim().is_empty()) {
            Ok(None)
        } else {
            T::parse(raw).map(Some)
        }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, Value::show)
    }
}

impl<T: Value> Value for Vec<T> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::List(items) => items.iter().map(T::parse).collect(),
            Raw::Text(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| T::parse(&Raw::Text(item.to_owned()))).collect()
            }
            Raw::Table(_) => Err("must be a list, not a table".to_owned()),
        }
    }
    fn show(&self) -> String {
        self.iter().map(Value::show).collect::<Vec<_>>().join(",")
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    const IS_TABLE: bool = true;

    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Table(table) => {
                let parse = |(key, value): (&String, &Raw)| match T::parse(value) {
                    Ok(value) => Ok((key.clone(), value)),
                    Err(problem) => Err(format!("{key} {problem}")),
                };
                table.iter().map(parse).collect()
            }
            Raw::Text(text) if text.trim().is_empty() => Ok(Self::new()),
            Raw::Text(_) | Raw::List(_) => Err("must be a table".to_owned()),
        }
    }
    fn show(&self) -> String {
        self.iter()
            .map(|(key, value)| format!("{key}={}", value.show()))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// A value that follows the configuration while the process runs. Cheap to clone and to read.
pub struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    /// Makes a live value that starts as `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// Returns the value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Looks at the value as it is now; for who does so in every call, and would count on one counter with all threads.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.load())
    }

    /// Returns a copy of the value as it is now.
    pub fn copied(&self) -> T
    where
        T: Copy,
    {
        **self.0.load()
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}

impl<T: Value + Send + Sync + 'static> Value for Live<T> {
    const IS_TABLE: bool = T::IS_TABLE;

    fn parse(raw: &Raw) -> Result<Self, String> {
        T::parse(raw).map(Self::new)
    }
    fn show(&self) -> String {
        self.0.load().show()
    }
    fn setter(&self) -> Option<Setter> {
        let slot = self.0.clone();
        Some(Arc::new(move |raw| {
            T::parse(raw).map(|value| slot.store(Arc::new(value)))
        }))
    }
}

/// A number of bytes; written `512`, `64KiB`, `10MiB`, `1GiB`, or with the decimal units `KB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Makes a size from bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the bytes as a length in memory; saturates.
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl std::str::FromStr for ByteSize {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let unit = BYTE_UNITS
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
        let (digits, factor) = unit.unwrap_or((text, 1));
        let count: u64 = digits.trim().parse().map_err(drop)?;
        count.checked_mul(factor).map(Self).ok_or(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = BYTE_UNITS[..3]
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match fits {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The address of an engine; prints without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineUrl(String);

impl EngineUrl {
    /// Returns the whole URL, password included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what stands before the first colon.
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl std::str::FromStr for EngineUrl {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (scheme, _) = text.split_once(':').ok_or(())?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if is_scheme { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str(&self.0);
        };
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let Some(at) = rest[..authority_end].rfind('@') else {
            return f.write_str(&self.0);
        };
        let user = rest[..at].split(':').next().unwrap_or_default();
        write!(f, "{scheme}://{user}:***{}", &rest[at..])
    }
}

impl fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads `1h30m`, `500ms`, `7d`; a bare `0` is allowed, any other number needs its unit.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(count.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail;
    }
    if text.is_empty() {
        None
    } else {
        Some(Duration::from_millis(total_ms))
    }
}

fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor));
    unit.map_or_else(|| "0".to_owned(), |(name, factor)| format!("{}{name}", ms / factor))
}
