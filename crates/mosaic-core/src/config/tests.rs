use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::Secret;

crate::config! {
    /// A concern.
    struct Sample in "sample" {
        /// A length of time.
        ttl: Duration = "30s",
        /// A secret.
        key: Secret<String> = "hunter2",
        /// A live limit.
        limit: Live<u32> = "5",
        /// Names.
        names: Vec<String> = "a,b",
        /// Addresses by name.
        peers: BTreeMap<String, String> = "",
        /// Live limits by name.
        limits: Live<BTreeMap<String, u32>> = "",
        /// An engine.
        url: EngineUrl = "memory:",
        /// A size.
        size: ByteSize = "64KiB",
    }
}

fn problems(layers: Layers) -> Vec<String> {
    let settings = layers.settings();
    let _ = settings.read::<Sample>();
    settings.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file() {
    let file = "[sample]\nttl = '1s'\nnames = ['x', 'y']\nlimit = 7\n[sample.peers]\nidentity = 'http://a'";
    let settings = Layers::default()
        .file("mosaic.toml", file)
        .environment([
            ("MOSAIC_SAMPLE__TTL".into(), "2s".into()),
            ("PATH".into(), "/bin".into()),
        ])
        .set_pair("sample.ttl=3s")
        .settings();
    let sample = settings.read::<Sample>().unwrap();
    assert_eq!(sample.ttl, Duration::from_secs(3));
    assert_eq!(sample.names, ["x", "y"]);
    assert_eq!(sample.limit.copied(), 7);
    assert_eq!(sample.peers["identity"], "http://a");
    assert_eq!(
        (sample.size.as_len(), sample.key.expose().as_str()),
        (65_536, "hunter2")
    );
    assert_eq!(settings.problems(), []);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let file = "sample.ttl = 'soon'\nsample.limit = -1\nsample.tll = '1s'\nother = 1";
    assert_eq!(
        problems(Layers::default().file("mosaic.toml", file).set_pair("nonsense")),
        [
            "--set takes key=value",
            "sample.ttl: must be a duration such as 500ms, 30s, 10m, 24h or 7d (file)",
            "sample.limit: must be a whole number from 0 to 4294967295 (file)",
            "other: unknown key (file)",
            "sample.tll: unknown key (file); did you mean sample.ttl?",
        ]
    );
}

#[test]
fn a_broken_file_names_the_line() {
    let found = problems(Layers::default().file("mosaic.toml", "a = 1\nb = ["));
    assert!(
        found[0].contains("mosaic.toml") && found[0].contains("line 2"),
        "{found:?}"
    );
}

#[test]
fn secrets_and_passwords_are_masked() {
    let settings = Layers::default()
        .set("sample.url", "redis://user:pa@ss@host:1/2")
        .settings();
    let sample = settings.read::<Sample>().unwrap();
    let shown = format!("{sample:?} {settings:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("pa@ss"), "{shown}");
    assert!(shown.contains("redis://user:***@host:1/2"), "{shown}");
    assert_eq!(sample.url.expose(), "redis://user:pa@ss@host:1/2");
}

#[test]
fn a_reload_changes_what_may_change_and_names_the_rest() {
    let settings = Layers::default().file("f", "sample.limit = 7").settings();
    let sample = settings.read::<Sample>().unwrap();
    let reload = settings
        .reload(Layers::default().file("f", "sample.limit = 9\nsample.ttl = '1s'"))
        .unwrap();
    assert_eq!(
        (reload.applied, reload.needs_restart),
        (vec!["sample.limit".into()], vec!["sample.ttl".into()])
    );
    assert_eq!(sample.limit.copied(), 9);
    // A key that is gone from the file falls back to its default.
    settings.reload(Layers::default()).unwrap();
    assert_eq!(sample.limit.copied(), 5);
}

#[test]
fn a_live_table_is_reloaded_as_a_whole() {
    let settings = Layers::default()
        .file("f", "sample.limits = { a = 1, b.c = 2 }")
        .settings();
    let sample = settings.read::<Sample>().unwrap();
    let limits = || {
        sample
            .limits
            .get()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(limits(), ["a=1", "b.c=2"]);
    let reload = settings.reload(Layers::default().file("f", "sample.limits = { b.c = 3, d = 4 }"));
    assert_eq!(reload.unwrap().applied, ["sample.limits"]);
    assert_eq!(limits(), ["b.c=3", "d=4"]);
    let mistake = settings.reload(Layers::default().file("f", "sample.limits = { a = 7, b = -1 }"));
    assert_eq!(mistake.unwrap_err()[0].key, "sample.limits");
    assert_eq!(limits(), ["b.c=3", "d=4"]);
    settings.reload(Layers::default()).unwrap();
    assert_eq!(limits(), Vec::<String>::new());
}

#[test]
fn a_reload_with_a_mistake_changes_nothing() {
    let settings = Layers::default().set("sample.limit", "7").settings();
    let sample = settings.read::<Sample>().unwrap();
    let found = settings
        .reload(Layers::default().set("sample.limit", "8").set("sample.limt", "1"))
        .unwrap_err();
    assert_eq!(found[0].key, "sample.limt");
    assert_eq!(sample.limit.copied(), 7);
}

#[test]
fn sections_of_modules_that_do_not_run_are_left_alone() {
    let settings = Layers::default().set("orders.limit", "7").settings();
    assert_eq!(settings.problems().len(), 1);
    settings.accept_section("orders");
    assert_eq!(settings.problems(), []);
    let read_all_the_same = Layers::default().set("sample.limt", "7").settings();
    read_all_the_same.accept_section("sample");
    read_all_the_same.read::<Sample>().unwrap();
    assert_eq!(
        read_all_the_same.problems().len(),
        1,
        "a misspelt key of a section that is read"
    );
}

#[test]
fn durations_and_sizes_read_as_people_write_them() {
    #[track_caller]
    fn check<T: Value>(text: &str, want: Option<&str>) {
        let got = T::parse(&Raw::Text(text.into())).ok().map(|value| value.show());
        assert_eq!(got.as_deref(), want, "{text}");
    }
    check::<Duration>("1h30m", Some("90m"));
    check::<Duration>("500ms", Some("500ms"));
    check::<Duration>("7d", Some("7d"));
    check::<Duration>("0", Some("0"));
    check::<Duration>("30", None);
    check::<Duration>("", None);
    check::<Duration>("-1s", None);
    check::<Duration>("99999999999999999999s", None);
    check::<ByteSize>("64KiB", Some("64KiB"));
    check::<ByteSize>("1000", Some("1000"));
    check::<ByteSize>("1.5MiB", None);
    check::<ByteSize>("18446744073709551615GiB", None);
}
