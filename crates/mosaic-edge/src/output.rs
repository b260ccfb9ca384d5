//! What a generated route answers, before its envelope.

use std::cell::RefCell;
use std::io::{self, Write};

use bytes::{Buf as _, Bytes};
use http::header::{HeaderName, HeaderValue, SET_COOKIE};
use mosaic_core::{Error, Result};
use serde::Serialize;

/// Room before an answer for what an envelope puts there, so that nothing is moved for it.
const ROOM: usize = 64;
/// What a thread keeps to write in, at most.
const SCRATCH_MAX: usize = 256 << 10;

thread_local! {
    /// Where answers are written before their length is known: the writer asks for six times the length of a text.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// JSON and headers of an answer.
#[derive(Debug, Clone)]
pub struct Output {
    /// [`ROOM`], then the JSON text of the message, or of the field that the contract names as the body.
    text: Vec<u8>,
    /// Headers from fields that the contract binds to one.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a field travels as a cookie.
#[derive(Debug, Clone, Copy)]
pub struct CookieOptions {
    /// Name of the cookie.
    pub name: &'static str,
    /// Paths that it is sent to.
    pub path: &'static str,
    /// Seconds that it is kept; 0: until the browser closes.
    pub max_age_s: u32,
    /// Hidden from scripts?
    pub http_only: bool,
    /// `Strict`, `Lax` or `None`.
    pub same_site: &'static str,
}

impl Output {
    /// Writes `body` as JSON.
    ///
    /// # Errors
    /// `Internal` if it cannot be written, which no generated message does.
    pub fn json<T: Serialize>(body: &T) -> Result<Self> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            // The bytes are serde_json's; texts are looked through many characters at a time.
            sonic_rs::to_writer(&mut *scratch, body).map_err(Error::internal)?;
            // One more for the end of an envelope.
            let mut text = Vec::with_capacity(ROOM + scratch.len() + 1);
            text.resize(ROOM, b' ');
            text.extend_from_slice(scratch);
            if scratch.capacity() > SCRATCH_MAX {
                *scratch = Vec::new();
            }
            Ok(Self {
                text,
                headers: Vec::new(),
            })
        })
    }

    /// Returns the JSON text.
    pub fn text(&self) -> &[u8] {
        &self.text[ROOM..]
    }

    /// Returns the JSON text as the body of an answer.
    pub(crate) fn into_body(self) -> Bytes {
        let mut body = Bytes::from(self.text);
        body.advance(ROOM);
        body
    }

    /// Returns the JSON text between what `before` writes and a closing brace.
    pub(crate) fn into_wrapped(mut self, before: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
        // A message without fields is "nothing", not an empty object, for the clients of the enveloped styles.
        if self.text() == b"{}" {
            self.text.truncate(ROOM);
            self.text.extend_from_slice(b"null");
        }
        let mut room = &mut self.text[..ROOM];
        if before(&mut room).is_err() {
            // It is longer than the room. Memory takes it.
            let mut longer = Vec::new();
            let _ = before(&mut longer);
            longer.extend_from_slice(self.text());
            longer.push(b'}');
            return longer.into();
        }
        let n_left = room.len();
        self.text.copy_within(..ROOM - n_left, n_left);
        self.text.push(b'}');
        let mut body = Bytes::from(self.text);
        body.advance(n_left);
        body
    }

    /// Adds the header `name`; an empty text sends none.
    ///
    /// # Errors
    /// `Internal` if `text` cannot stand in a header.
    pub fn header(self, name: &'static str, text: &str) -> Result<Self> {
        self.optional_header(name, Some(text).filter(|text| !text.is_empty()))
    }

    /// Adds the header `name` if there is a text, also an empty one.
    ///
    /// # Errors
    /// `Internal` if `text` cannot stand in a header.
    pub fn optional_header(mut self, name: &'static str, text: Option<&str>) -> Result<Self> {
        if let Some(text) = text {
            let value = HeaderValue::from_str(text).map_err(Error::internal)?;
            self.headers.push((HeaderName::from_static(name), value));
        }
        Ok(self)
    }

    /// Sets a cookie; an empty text sets none.
    ///
    /// # Errors
    /// `Internal` if `text` has characters that no cookie may have (RFC 6265).
    pub fn cookie(mut self, options: &CookieOptions, text: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\');
        if !text.bytes().all(allowed) {
            return Err(Error::internal(
                "a cookie value has a character that no cookie may have",
            ));
        }
        if !text.is_empty() {
            let CookieOptions {
                name,
                path,
                max_age_s,
                http_only,
                same_site,
            } = options;
            let http_only = if *http_only { "; HttpOnly" } else { "" };
            let max_age = if *max_age_s == 0 {
                String::new()
            } else {
                format!("; Max-Age={max_age_s}")
            };
            let cookie = format!("{name}={text}; Path={path}{max_age}; SameSite={same_site}{http_only}");
            let value = HeaderValue::from_str(&cookie).map_err(Error::internal)?;
            self.headers.push((SET_COOKIE, value));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: CookieOptions = CookieOptions {
        name: "state",
        path: "/oauth2",
        max_age_s: 600,
        http_only: true,
        same_site: "Lax",
    };

    #[test]
    fn an_answer_is_what_serde_json_writes() {
        let characters: String = (0..0x300).chain(0x2020..0x2030).filter_map(char::from_u32).collect();
        let mut texts = vec![String::new(), characters, "长文章\u{1f980}".repeat(50)];
        texts.extend((0..70).map(|n| format!("{:n$}\"{:n$}\\", "", "")));
        let numbers = (
            i64::MIN,
            u64::MAX,
            [0.1, 1e21, -0.0, f64::NAN, f64::MIN_POSITIVE],
            0.1_f32,
        );
        let map = std::collections::BTreeMap::from([(-1, Some("a")), (7, None)]);
        let body = (texts, numbers, map, true, 'é', ());
        let output = Output::json(&body).unwrap();
        assert_eq!(
            str::from_utf8(output.text()).unwrap(),
            serde_json::to_string(&body).unwrap()
        );
    }

    #[test]
    fn a_cookie_has_its_attributes() {
        let output = Output::json(&()).unwrap().cookie(&STATE, "a.b").unwrap();
        assert_eq!(
            output.headers[0].1,
            "state=a.b; Path=/oauth2; Max-Age=600; SameSite=Lax; HttpOnly"
        );
    }

    #[test]
    fn no_value_can_add_an_attribute_or_a_header() {
        for bad in ["a; Domain=evil.test", "a\r\nSet-Cookie: b=c", "a,b", "é"] {
            assert!(Output::json(&()).unwrap().cookie(&STATE, bad).is_err(), "{bad}");
        }
        assert!(Output::json(&()).unwrap().header("x-token", "a\r\nb: c").is_err());
        assert!(
            Output::json(&())
                .unwrap()
                .header("x-token", "")
                .unwrap()
                .headers
                .is_empty()
        );
    }
}
