//! Formats one by one, and objects with a message written as `mosaic-build` writes it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::de::MapAccess;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{from_str, to_string};

use super::*;

struct Mood;
impl Enumeration for Mood {
    const NAMES: &'static [(&'static str, i32)] = &[("MOOD_UNSPECIFIED", 0), ("MOOD_GOOD", 1), ("MOOD_FINE", 1)];
}

#[derive(Debug, Clone, PartialEq)]
enum Choice {
    Text(String),
    Number(i64),
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Thing {
    full_name: String,
    age: Option<i32>,
    inner: Option<Box<Thing>>,
    tags: Vec<String>,
    counts: BTreeMap<i32, bool>,
    choice: Option<Choice>,
    serial: u64,
}

impl Object for Thing {
    const FIELDS: &'static [Field] = &[
        Field::new("fullName", "full_name"),
        Field::new("age", "age"),
        Field::new("inner", "inner"),
        Field::new("tags", "tags"),
        Field::new("counts", "counts"),
        Field::new("text", "text"),
        Field::new("number", "number"),
        Field::new("serial", "serial"),
    ];

    fn write<M: SerializeMap>(&self, to: &mut Writer<M>) -> Result<(), M::Error> {
        to.field::<Text>("fullName", &self.full_name)?;
        to.optional::<Int32>("age", &self.age)?;
        to.field::<Nullable<Message<_>>>("inner", &self.inner)?;
        to.field::<List<Text>>("tags", &self.tags)?;
        to.field::<Map<_, Bool>>("counts", &self.counts)?;
        if let Some(Choice::Text(value)) = &self.choice {
            to.field::<Text>("text", value)?;
        }
        if let Some(Choice::Number(value)) = &self.choice {
            to.field::<Int64>("number", value)?;
        }
        to.field::<Uint64Text>("serial", &self.serial)
    }

    fn read<'de, M: MapAccess<'de>>(&mut self, index: usize, from: &mut Reader<'_, M>) -> Result<(), M::Error> {
        match index {
            0 => self.full_name = from.field::<Text>()?,
            1 => self.age = from.optional::<Int32>()?,
            2 => self.inner = from.optional::<Message<_>>()?,
            3 => self.tags = from.field::<List<Text>>()?,
            4 => self.counts = from.field::<Map<_, Bool>>()?,
            5 => from.one_of::<Text, _>(&mut self.choice, Choice::Text)?,
            6 => from.one_of::<Int64, _>(&mut self.choice, Choice::Number)?,
            7 => self.serial = from.field::<Uint64Text>()?,
            _ => {}
        }
        Ok(())
    }
}

impl Serialize for Thing {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        write(self, to)
    }
}

impl<'de> Deserialize<'de> for Thing {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from)
    }
}

fn thing(json: &str) -> Result<Thing, String> {
    from_str(json).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(json: &str, want: &str) {
    let error = thing(json).expect_err(json);
    assert!(error.starts_with(want), "{json}: {error}");
}

/// Reads `json` as `F` and writes it back; `None` if it is refused.
fn echo<F: Format>(json: &str) -> Option<String>
where
    F::Value: Default,
{
    let value: As<F> = from_str(json).ok()?;
    Some(to_string(&Written::<F>(&value.0)).expect("what was read can be written"))
}

#[track_caller]
fn check<F: Format>(good: &[(&str, &str)], bad: &[&str])
where
    F::Value: Default,
{
    for (read, written) in good {
        assert_eq!(echo::<F>(read).as_deref(), Some(*written), "{read}");
    }
    for json in bad {
        assert_eq!(echo::<F>(json), None, "{json} is accepted");
    }
}

#[test]
fn every_field_without_presence_is_written() {
    let json = to_string(&Thing::default()).unwrap();
    assert_eq!(
        json,
        r#"{"fullName":"","inner":null,"tags":[],"counts":{},"serial":"0"}"#
    );
    assert_eq!(thing(&json), Ok(Thing::default()));
}

#[test]
fn both_names_of_a_field_are_read() {
    assert_eq!(thing(r#"{"fullName":"a"}"#).unwrap().full_name, "a");
    assert_eq!(thing(r#"{"full_name":"a"}"#).unwrap().full_name, "a");
    refused(r#"{"fullName":"a","full_name":"a"}"#, "duplicate field `fullName`");
}

#[test]
fn null_is_not_set() {
    let nulls = r#"{"fullName":null,"age":null,"inner":null,"tags":null,"counts":null,"text":null,"number":null}"#;
    assert_eq!(thing(nulls), Ok(Thing::default()));
    refused(r#"{"tags":[null]}"#, "invalid type: null");
    refused(r#"{"counts":{"1":null}}"#, "invalid type: null");
}

#[test]
fn strangers_are_refused() {
    refused(r#"{"isAdmin":true}"#, "unknown field \"isAdmin\"");
    refused(r#"{"inner":{"x":1}}"#, "unknown field \"x\"");
    refused(r#"{"tags":[],"tags":[]}"#, "duplicate field `tags`");
    refused(r#"{"counts":{"1":true,"1":true}}"#, "duplicate map key");
    refused(r#"{"counts":{"+1":true}}"#, "map key: must be an integer of 32 bits");
    refused("[]", "invalid type: sequence");
    refused("null", "invalid type: null");
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(1000));
    assert!(thing(&long).unwrap_err().len() < 150);
}

#[test]
fn one_member_of_a_oneof() {
    assert_eq!(thing(r#"{"number":0}"#).unwrap().choice, Some(Choice::Number(0)));
    assert_eq!(
        thing(r#"{"text":null,"number":1}"#).unwrap().choice,
        Some(Choice::Number(1))
    );
    refused(r#"{"text":"","number":1}"#, "only one field of a oneof");
    let mut slot = None;
    set_member(&mut slot, 1).unwrap();
    assert_eq!(set_member(&mut slot, 2).unwrap_err().reason(), "INVALID_REQUEST");
}

#[test]
fn a_hundred_levels_are_the_parser_s_affair() {
    let deep = |levels: usize| format!("{}null{}", r#"{"inner":"#.repeat(levels), "}".repeat(levels));
    assert!(thing(&deep(100)).is_ok());
    refused(&deep(200), "recursion limit exceeded");
}

#[test]
fn integers_are_strict() {
    check::<Int32>(
        &[("0", "0"), ("-2147483648", "-2147483648"), ("null", "0")],
        &["1.0", "\"1\"", "2147483648", "1e2", "true", "[]", ""],
    );
    check::<Uint32>(&[("4294967295", "4294967295")], &["-1", "4294967296", "\"1\""]);
    check::<Int64>(
        &[("9223372036854775807", "9223372036854775807")],
        &["9223372036854775808", "\"1\""],
    );
    check::<Uint64>(
        &[("18446744073709551615", "18446744073709551615")],
        &["-1", "18446744073709551616"],
    );
}

#[test]
fn integers_as_text() {
    check::<Int64Text>(
        &[("1", "\"1\""), ("\"-5\"", "\"-5\""), ("null", "\"0\"")],
        &[
            "1.0",
            "\"1.0\"",
            "\"+1\"",
            "\" 1\"",
            "\"\"",
            "9223372036854775808",
            "true",
        ],
    );
    check::<Uint64Text>(
        &[("\"18446744073709551615\"", "\"18446744073709551615\"")],
        &["-1", "\"-1\""],
    );
}

#[test]
fn floats() {
    check::<Double>(
        &[
            ("1", "1.0"),
            ("-0.5", "-0.5"),
            ("\"NaN\"", "\"NaN\""),
            ("\"-Infinity\"", "\"-Infinity\""),
        ],
        &["1e400", "\"nan\"", "\"inf\"", "\"1\"", "NaN", "true"],
    );
    check::<Float>(&[("0.1", "0.1"), ("\"Infinity\"", "\"Infinity\"")], &["1e39", "\"1\""]);
}

#[test]
fn texts_and_bytes() {
    check::<Text>(&[("\"é\"", "\"é\""), ("null", "\"\"")], &["1", "\"\\ud800\"", "[]"]);
    check::<Bytes>(
        &[
            ("\"/+8=\"", "\"/+8=\""),
            ("\"_-8\"", "\"/+8=\""),
            ("\"\"", "\"\""),
            ("\"YQ\"", "\"YQ==\""),
        ],
        &["\"?\"", "\"A\"", "1", "\"/-8=\"", "[1]"],
    );
    check::<Bool>(&[("true", "true"), ("null", "false")], &["1", "\"true\""]);
}

#[test]
fn enums() {
    check::<Enum<Mood>>(
        &[
            ("\"MOOD_GOOD\"", "\"MOOD_GOOD\""),
            ("1", "\"MOOD_GOOD\""),
            ("\"MOOD_FINE\"", "\"MOOD_GOOD\""),
        ],
        &["\"GOOD\"", "\"mood_good\"", "7", "-1", "1.0", "\"1\"", "99999999999"],
    );
    check::<EnumNumber<Mood>>(&[("\"MOOD_GOOD\"", "1"), ("1", "1")], &["7"]);
    // A number from a newer peer.
    assert_eq!(to_string(&Written::<Enum<Mood>>(&7)).unwrap(), "7");
    assert_eq!(enum_from_text::<Mood>("1"), Ok(1));
    assert_eq!(enum_from_text::<Mood>("MOOD_GOOD"), Ok(1));
    assert!(enum_from_text::<Mood>("7").is_err());
}

#[test]
fn times() {
    check::<Timestamp>(
        &[
            ("\"2006-01-02T15:04:05Z\"", "\"2006-01-02T15:04:05Z\""),
            ("\"2006-01-02T15:04:05.5+08:00\"", "\"2006-01-02T07:04:05.500Z\""),
            (
                "\"1969-12-31T23:59:59.999999999Z\"",
                "\"1969-12-31T23:59:59.999999999Z\"",
            ),
            ("\"0001-01-01T00:00:00.000001Z\"", "\"0001-01-01T00:00:00.000001Z\""),
        ],
        &[
            "\"2006-01-02\"",
            "\"2006-01-02 15:04:05Z\"",
            "\"2006-01-02T15:04:05\"",
            "\"2006-13-02T15:04:05Z\"",
            "0",
        ],
    );
    let broken = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    assert!(to_string(&Written::<Timestamp>(&broken)).is_err());
}

#[test]
fn lengths_of_time() {
    check::<Duration>(
        &[
            ("\"0s\"", "\"0s\""),
            ("\"1.5s\"", "\"1.500s\""),
            ("\"-0.000000001s\"", "\"-0.000000001s\""),
            ("\"-3s\"", "\"-3s\""),
        ],
        &[
            "\"1\"",
            "\"s\"",
            "\".5s\"",
            "\"1.s\"",
            "\"--1s\"",
            "\"1.0000000001s\"",
            "\"315576000001s\"",
            "\"+1s\"",
            "1",
        ],
    );
}

#[test]
fn free_forms() {
    let any = r#"{"a":[1.5,null,"x",{"b":true}]}"#;
    check::<Value>(
        &[(any, any), ("null", "null"), ("[]", "[]")],
        &[r#"{"a":1,"a":2}"#, "", "["],
    );
    check::<Struct>(&[(any, any), ("null", "{}")], &["[]", "1"]);
    check::<ListValue>(&[("[1.5]", "[1.5]")], &["{}", "1"]);
    check::<Empty>(&[("{}", "{}")], &[r#"{"a":1}"#, "[]", "1"]);
    check::<NullValue>(&[("null", "null")], &["0"]);
    check::<FieldMask>(
        &[
            ("\"fullName,home.zipCode\"", "\"fullName,home.zipCode\""),
            ("\"\"", "\"\""),
        ],
        &["1"],
    );
    check::<Nullable<Text>>(&[("null", "null"), ("\"\"", "\"\"")], &["1"]);
    // A set Value that is null is not an unset one.
    let set: As<Nullable<Value>> = from_str("null").unwrap();
    assert_eq!(to_string(&Written::<Nullable<Value>>(&set.0)).unwrap(), "null");
}

#[test]
fn nothing_infinite_is_in_a_value() {
    use prost_types::value::Kind;
    let value = prost_types::Value {
        kind: Some(Kind::NumberValue(f64::NAN)),
    };
    assert!(to_string(&Written::<Value>(&value)).is_err());
}

#[test]
fn bare_texts() {
    #[track_caller]
    fn check<T: FromText + PartialEq + std::fmt::Debug>(good: &[(&str, T)], bad: &[&str]) {
        for (text, want) in good {
            assert_eq!(T::from_text(text).as_ref(), Ok(want), "{text}");
        }
        for text in bad {
            assert!(T::from_text(text).is_err(), "{text}");
        }
    }
    check::<i32>(&[("-1", -1)], &["", "+1", "1.0", " 1", "2147483648"]);
    check::<u64>(&[("18446744073709551615", u64::MAX)], &["-1"]);
    check::<bool>(&[("true", true)], &["1", "True", ""]);
    check::<f64>(
        &[("1e3", 1000.0), ("-Infinity", f64::NEG_INFINITY)],
        &["inf", "nan", "infinity", "", "1e400", "0x1"],
    );
    check::<String>(&[("", String::new())], &[]);
    check::<Vec<u8>>(&[("_-8", vec![255, 239])], &["?"]);
    let second = prost_types::Duration { seconds: 1, nanos: 0 };
    check::<prost_types::Duration>(&[("1s", second)], &["1"]);
    let epoch = prost_types::Timestamp { seconds: 0, nanos: 0 };
    check::<prost_types::Timestamp>(&[("1970-01-01T00:00:00Z", epoch)], &["1970-01-01"]);
}

fn things() -> impl Strategy<Value = Thing> {
    let choice = prop_oneof![
        any::<String>().prop_map(Choice::Text),
        any::<i64>().prop_map(Choice::Number)
    ];
    let leaf = (
        any::<String>(),
        any::<Option<i32>>(),
        proptest::collection::vec(any::<String>(), 0..4),
        proptest::collection::btree_map(any::<i32>(), any::<bool>(), 0..4),
        proptest::option::of(choice),
        any::<u64>(),
    )
        .prop_map(|(full_name, age, tags, counts, choice, serial)| Thing {
            full_name,
            age,
            inner: None,
            tags,
            counts,
            choice,
            serial,
        });
    leaf.prop_recursive(3, 4, 1, |inner| {
        (inner.clone(), inner).prop_map(|(outer, inner)| Thing {
            inner: Some(Box::new(inner)),
            ..outer
        })
    })
}

/// Writes and reads a value.
fn round<F: Format>(value: &F::Value) -> F::Value
where
    F::Value: Default,
{
    let json = to_string(&Written::<F>(value)).expect("every value can be written");
    let As(read) = from_str::<As<F>>(&json).expect("what was written can be read");
    read
}

proptest! {
    #[test]
    fn a_message_survives(thing in things()) {
        prop_assert_eq!(from_str::<Thing>(&to_string(&thing).unwrap()).unwrap(), thing);
    }

    #[test]
    fn scalars_survive(wide in any::<i64>(), double in any::<f64>(), float in any::<f32>(), bytes in any::<Vec<u8>>()) {
        prop_assert_eq!(round::<Int64>(&wide), wide);
        prop_assert_eq!(round::<Int64Text>(&wide), wide);
        // serde_json without `float_roundtrip` may be off by the last bit.
        let read = round::<Double>(&double);
        prop_assert!((read - double).abs() <= double.abs() * 1e-15 + 1e-320, "{} became {}", double, read);
        prop_assert_eq!(round::<Float>(&float), float);
        prop_assert_eq!(round::<Bytes>(&bytes), bytes);
    }

    #[test]
    fn times_survive(seconds in -62_135_596_800_i64..253_402_207_200, nanos in 0..1_000_000_000_i32) {
        let time = prost_types::Timestamp { seconds, nanos };
        prop_assert_eq!(round::<Timestamp>(&time), time);
        let length = prost_types::Duration { seconds, nanos: if seconds < 0 { -nanos } else { nanos } };
        prop_assert_eq!(round::<Duration>(&length), length);
    }

    #[test]
    fn no_input_makes_it_panic(json in "[\\[\\]{}\",:a-z0-9.\\-]{0,40}") {
        let _ = from_str::<Thing>(&json);
        let _ = from_str::<As<Value>>(&json);
        let _ = enum_from_text::<Mood>(&json);
        let _ = prost_types::Duration::from_text(&json);
        let _ = prost_types::Timestamp::from_text(&json);
    }
}
