//! How an instance stands in etcd.
//!
//! The key is `service/<name>/<host:port>`, below the prefix of the URL if there is one; the value is the JSON of etcd's
//! own naming package, `{"Op":0,"Addr":"host:port","Metadata":{..}}`, so that gRPC clients of other languages find us and
//! we find their servers. Reading is lenient (metadata may be missing, or hold numbers), writing is exact.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Address, Instance, ServiceName};

const OP_ADD: u8 = 0;

/// Where the entries of all services are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Empty, or ends with a slash.
    root: String,
}

impl Layout {
    pub(crate) fn below(path: &str) -> Self {
        let root = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        Self { root }
    }

    /// Returns what the keys of all instances of a service begin with.
    pub(crate) fn prefix(&self, service: &ServiceName) -> String {
        format!("{}service/{service}/", self.root)
    }

    pub(crate) fn key(&self, service: &ServiceName, address: &Address) -> String {
        format!("{}{address}", self.prefix(service))
    }
}

/// Returns the end of the range of all keys that begin with `prefix`: its last byte, a slash, plus one.
pub(crate) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Written<'a> {
    op: u8,
    addr: String,
    metadata: &'a BTreeMap<String, String>,
}

pub(crate) fn write(instance: &Instance) -> Vec<u8> {
    let written = Written {
        op: OP_ADD,
        addr: instance.address.to_string(),
        metadata: &instance.metadata,
    };
    serde_json::to_vec(&written).expect("a map with text for keys is JSON")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Read {
    #[serde(default)]
    op: u8,
    addr: Option<String>,
    metadata: Option<BTreeMap<String, Value>>,
}

/// Reads an entry: `None` for one that says that it does not count, an error that says why it is none.
pub(crate) fn read(prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, &'static str> {
    let name = key
        .strip_prefix(prefix.as_bytes())
        .and_then(|name| str::from_utf8(name).ok());
    if name.is_none_or(|name| name.parse::<Address>().is_err()) {
        return Err("the key does not end with an address");
    }
    let read: Read = serde_json::from_slice(value).map_err(|_| "the value is not the JSON of an instance")?;
    if read.op != OP_ADD {
        return Ok(None);
    }
    let address = read.addr.ok_or("the value has no Addr")?;
    let address = address.parse().map_err(|_| "Addr is not an address")?;
    let text = |(key, value)| match value {
        Value::String(text) => Some((key, text)),
        Value::Number(number) => Some((key, number.to_string())),
        Value::Bool(flag) => Some((key, flag.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let metadata = read.metadata.unwrap_or_default().into_iter().filter_map(text).collect();
    Ok(Some(Instance { address, metadata }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "service/users/";

    fn instance() -> Instance {
        Instance::new("10.0.0.1:9080".parse().unwrap())
    }

    #[test]
    fn what_is_written_is_what_etcd_clients_read() {
        let text = |instance: &Instance| String::from_utf8(write(instance)).unwrap();
        assert_eq!(text(&instance()), r#"{"Op":0,"Addr":"10.0.0.1:9080","Metadata":{}}"#);
        assert_eq!(
            text(&instance().with("zone", "b").with("weight", "5")),
            r#"{"Op":0,"Addr":"10.0.0.1:9080","Metadata":{"weight":"5","zone":"b"}}"#
        );
    }

    #[test]
    fn keys_are_below_the_prefix_of_the_url() {
        let users: ServiceName = "users".parse().unwrap();
        let v6 = "[::1]:80".parse().unwrap();
        assert_eq!(Layout::below("").key(&users, &v6), "service/users/[::1]:80");
        assert_eq!(Layout::below("team/a").prefix(&users), "team/a/service/users/");
        assert_eq!(range_end(PREFIX), b"service/users0");
    }

    #[test]
    fn entries_of_others_are_read() {
        let read = |value: &str| read(PREFIX, b"service/users/10.0.0.1:9080", value.as_bytes());
        let numbers = read(r#"{"Addr":"10.0.0.1:9080","Metadata":{"weight":5,"a":null,"b":[1],"c":true},"More":1}"#);
        assert_eq!(numbers, Ok(Some(instance().with("weight", "5").with("c", "true"))));
        assert_eq!(
            read(r#"{"Op":0,"Addr":"10.0.0.1:9080","Metadata":null}"#),
            Ok(Some(instance()))
        );
        assert_eq!(read(r#"{"Addr":"10.0.0.1:9080"}"#), Ok(Some(instance())));
        assert_eq!(read(r#"{"Op":1,"Addr":"10.0.0.1:9080"}"#), Ok(None));
    }

    #[test]
    fn garbage_is_told_apart() {
        let value = write(&instance());
        assert!(read(PREFIX, b"service/users/10.0.0.1:9080", &value).is_ok());
        for key in [
            &b"service/users/"[..],
            b"service/users/v1/10.0.0.1:9080",
            b"service/users/\xff:1",
            b"x",
        ] {
            assert!(read(PREFIX, key, &value).is_err());
        }
        for value in [
            &b""[..],
            b"\xff\xfe",
            b"10.0.0.1:9080",
            b"[]",
            b"null",
            b"{}",
            br#"{"Op":0,"Addr":""}"#,
            br#"{"Addr":"a"}"#,
            br#"{"Addr":7}"#,
            br#"{"Op":-1,"Addr":"a:1"}"#,
            br#"{"Addr":"a:1","Metadata":"x"}"#,
        ] {
            assert!(
                read(PREFIX, b"service/users/10.0.0.1:9080", value).is_err(),
                "{value:?}"
            );
        }
    }
}
