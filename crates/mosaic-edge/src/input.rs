//! A request as generated routes read it: path, query, headers, cookies, JSON.
//!
//! Strict where laxness has hurt others: a query parameter given twice, bytes that are no UTF-8, and a body with fields
//! that the contract does not know are refused. Error texts say where, never what was sent.

use std::borrow::Cow;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use mosaic_core::json::{Enumeration, FromText, enum_from_text};
use mosaic_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Query parameters that one request may have.
const QUERY_PARAMETERS_MAX: usize = 100;

/// See the module documentation.
#[derive(Debug)]
pub struct Input {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Input {
    /// Reads the parts of a request whose body has been read.
    ///
    /// # Errors
    /// `InvalidArgument` for a path or query that is no UTF-8, or has too many parameters.
    pub(crate) fn read(parts: Parts, variables: Vec<(String, String)>, body: Bytes) -> Result<Self> {
        let invalid = || Error::invalid_argument("PATH_INVALID", "the path is not valid").with_http_status(400);
        let decoded = |(name, text): (String, String)| Some((name, decode_path(text)?));
        let path: Option<Vec<_>> = variables.into_iter().map(decoded).collect();
        let query = parse_query(parts.uri.query().unwrap_or_default())?;
        Ok(Self {
            path: path.ok_or_else(invalid)?,
            query,
            headers: parts.headers,
            body,
        })
    }

    /// Reads the whole body as JSON.
    ///
    /// # Errors
    /// 415 for another content type, 400 for a text that is no JSON, 422 for JSON that does not fit the contract.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        require_json(&self.headers)?;
        serde_json::from_slice(&self.body).map_err(|error| json_error::<T>(&self.body, &error))
    }

    /// Reads the path variable `name`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not of the type.
    pub fn path<T: FromText>(&mut self, name: &str) -> Result<T> {
        let value = self
            .path
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| T::from_text(value).ok());
        value.ok_or_else(|| invalid_parameter(name))
    }

    /// Reads the path variable `name` as an enum value, by name or number.
    ///
    /// # Errors
    /// `InvalidArgument` if it is neither.
    pub fn path_enum<E: Enumeration>(&mut self, name: &str) -> Result<i32> {
        let text: String = self.path(name)?;
        enum_from_text::<E>(&text).map_err(|_| invalid_parameter(name))
    }

    /// Reads the query parameter `name`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not of the type, or given twice.
    pub fn query<T: FromText>(&mut self, name: &str) -> Result<Option<T>> {
        match self.once(name)? {
            Some(text) => T::from_text(text).map(Some).map_err(|_| invalid_parameter(name)),
            None => Ok(None),
        }
    }

    /// Reads every value of the query parameter `name`.
    ///
    /// # Errors
    /// `InvalidArgument` if one is not of the type.
    pub fn query_all<T: FromText>(&mut self, name: &str) -> Result<Vec<T>> {
        let values = self.query.iter().filter(|(key, _)| key == name);
        values
            .map(|(_, text)| T::from_text(text).map_err(|_| invalid_parameter(name)))
            .collect()
    }

    /// Reads the query parameter `name` as an enum value, by name or number.
    ///
    /// # Errors
    /// `InvalidArgument` if it is neither, or given twice.
    pub fn query_enum<E: Enumeration>(&mut self, name: &str) -> Result<Option<i32>> {
        match self.once(name)? {
            Some(text) => enum_from_text::<E>(text).map(Some).map_err(|_| invalid_parameter(name)),
            None => Ok(None),
        }
    }

    /// Reads every value of the query parameter `name` as an enum value, by name or number.
    ///
    /// # Errors
    /// `InvalidArgument` if one is neither.
    pub fn query_all_enum<E: Enumeration>(&mut self, name: &str) -> Result<Vec<i32>> {
        let values = self.query.iter().filter(|(key, _)| key == name);
        values
            .map(|(_, text)| enum_from_text::<E>(text).map_err(|_| invalid_parameter(name)))
            .collect()
    }

    /// Reads the header `name`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is given twice or is no text.
    pub fn header(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text.to_owned())),
            _ => Err(invalid_parameter(name)),
        }
    }

    /// Reads the cookie `name`; the first of several, as the most specific path comes first (RFC 6265 5.4).
    ///
    /// # Errors
    /// `InvalidArgument` if the cookie header is no text.
    pub fn cookie(&mut self, name: &str) -> Result<Option<String>> {
        for header in self.headers.get_all(header::COOKIE) {
            let text = header.to_str().map_err(|_| invalid_parameter(name))?;
            let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
            if let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) {
                return Ok(Some(value.to_owned()));
            }
        }
        Ok(None)
    }

    fn once(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.query.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            Err(invalid_parameter(name).with_http_status(400))
        } else {
            Ok(value)
        }
    }
}

fn invalid_parameter(name: &str) -> Error {
    Error::violations(vec![mosaic_core::Violation {
        field: name.to_owned(),
        description: Cow::Borrowed("is not valid"),
    }])
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>> {
    let invalid = || Error::invalid_argument("QUERY_INVALID", "the query is not valid").with_http_status(400);
    let mut pairs = Vec::new();
    if query.is_empty() {
        return Ok(pairs);
    }
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        // The parser turns what is no UTF-8 into U+FFFD; a client that means that character is not known.
        if key.contains('\u{fffd}') || value.contains('\u{fffd}') || pairs.len() == QUERY_PARAMETERS_MAX {
            return Err(invalid());
        }
        pairs.push((key.into_owned(), value.into_owned()));
    }
    Ok(pairs)
}

fn require_json(headers: &HeaderMap) -> Result<()> {
    let is_json = |value: &http::HeaderValue| {
        let essence = value
            .to_str()
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
    };
    let plain = headers
        .get(header::CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity");
    if plain && headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Ok(());
    }
    let message = "the body must be application/json, not compressed";
    Err(Error::invalid_argument("CONTENT_TYPE_UNSUPPORTED", message).with_http_status(415))
}

/// Decodes a path variable (RFC 3986 2.1); `None` if it is no UTF-8 then.
fn decode_path(text: String) -> Option<String> {
    if !text.contains('%') {
        return Some(text);
    }
    percent_encoding::percent_decode_str(&text)
        .decode_utf8()
        .ok()
        .map(Into::into)
}

/// Says where a body is wrong; reads it a second time for the path, which only wrong bodies pay for.
fn json_error<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Error {
    if error.classify() != Category::Data {
        let message = format!(
            "the body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        );
        return Error::invalid_argument("JSON_MALFORMED", message).with_http_status(400);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let field = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) if error.path().iter().next().is_some() => error.path().to_string(),
        _ => String::new(),
    };
    misfit(
        field,
        format!(
            "does not fit the contract (line {}, column {})",
            error.line(),
            error.column()
        ),
    )
}

/// JSON that is well formed and does not fit the contract.
fn misfit(field: String, description: impl Into<Cow<'static, str>>) -> Error {
    let violation = mosaic_core::Violation {
        field,
        description: description.into(),
    };
    Error::new(
        mosaic_core::Code::InvalidArgument,
        "JSON_INVALID",
        "the body does not fit the contract",
    )
    .with_violations(vec![violation])
    .with_http_status(422)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        id: i64,
    }

    fn input(query: &str, content_type: &str, body: &'static str) -> Input {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        Input {
            path: Vec::new(),
            query: parse_query(query).unwrap(),
            headers,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn bodies_and_their_answers() {
        #[track_caller]
        fn check(body: &'static str, want: u16) {
            let got = input("", "application/json", body).json::<Body>();
            assert_eq!(got.map_or_else(|error| error.http_status(), |_| 200), want, "{body}");
        }
        check(r#"{"id":1}"#, 200);
        check("", 400);
        check("{", 400);
        check(r#"{"id":1}{"id":2}"#, 400);
        check(r#"{"id":NaN}"#, 400);
        check("\u{feff}{}", 400);
        check(r#"{"id":1e400}"#, 400);
        check(r#"{"id":"1"}"#, 422);
        check(r#"{"id":1.0}"#, 422);
        check(r#"{"id":1,"id":2}"#, 422);
        check(r#"{"id":1,"isAdmin":true}"#, 422);
        check("1", 422);
    }

    #[test]
    fn another_content_type_is_415() {
        for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let error = input("", content_type, "{\"id\":1}").json::<Body>().unwrap_err();
            assert_eq!(error.http_status(), 415);
        }
        assert!(
            input("", "Application/JSON; charset=utf-8", "{\"id\":1}")
                .json::<Body>()
                .is_ok()
        );
    }

    #[test]
    fn a_parameter_twice_is_refused() {
        let mut input = input("a=1&b=x&a=2", "application/json", "");
        assert!(input.query::<i64>("a").is_err());
        assert_eq!(input.query_all::<i64>("a").unwrap(), [1, 2]);
        assert!(input.query::<i64>("b").is_err());
        assert_eq!(input.query::<i64>("c").unwrap(), None);
    }

    #[test]
    fn broken_queries_are_refused() {
        assert!(parse_query("a=%ff").is_err());
        let many = (0..10_000).map(|i| format!("a{i}=1")).collect::<Vec<_>>().join("&");
        assert!(parse_query(&many).is_err());
    }

    #[test]
    fn an_error_does_not_echo_the_body() {
        let error = input("", "application/json", r#"{"id":"hunter2"}"#)
            .json::<Body>()
            .unwrap_err();
        assert!(!format!("{error:?} {:?}", error.field_violations()).contains("hunter2"));
        assert_eq!(error.field_violations()[0].field, "id");
    }
}
