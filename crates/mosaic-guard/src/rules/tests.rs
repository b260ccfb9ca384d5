use mosaic_core::config::Layers;

use super::*;
use crate::testing::{SERVICE, rules};

fn problems(file: &str) -> Vec<String> {
    let settings = Layers::default().file("mosaic.toml", file).settings();
    let _ = settings.read::<GuardConfig>();
    settings.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn rules_print_as_they_are_read() {
    #[track_caller]
    fn check<T: Value + PartialEq + fmt::Debug>(text: &str, want: &str) {
        let parsed = T::parse(&Raw::Text(text.to_owned())).unwrap();
        assert_eq!(parsed.show(), want);
        assert_eq!(T::parse(&Raw::Text(parsed.show())).unwrap(), parsed);
    }
    check::<BreakerRule>("off", "off");
    check::<BreakerRule>("sre k=2", "sre k=2 min=5 window=10s");
    check::<BreakerRule>(
        "classic failures 30% open 5s",
        "classic failures=30% min=20 window=10s open=5s probes=5",
    );
    check::<RetryRule>("off", "off");
    check::<RetryRule>("3 base=10ms share=5%", "3 base=10ms max=1s share=5% floor=10");
    check::<HedgeRule>("after 50ms", "after 50ms");
    check::<HedgeRule>("p99.9", "p99.9 min=1ms");
    check::<Reserve>("10ms floor=2ms", "10ms floor 2ms");
    check::<BulkheadRule>("100", "100");
    check::<BulkheadRule>("100 queue=20", "100 queue=20 wait=100ms");
    check::<ShedRule>("cpu 85%", "cpu 85% soft=75%");
    check::<ShedRule>(
        "gradient max=50; cpu 90% soft 50%",
        "cpu 90% soft=50%; gradient tolerance=1.5 start=20 min=4 max=50",
    );
    check::<RateRule>("contract", "contract");
    check::<RateRule>(
        "token-bucket 100/s by account",
        "token-bucket 100/s burst 100 by account",
    );
    check::<RateRule>(
        "leaky-bucket 5/10s burst=2; counter 1000/1d by ip cluster",
        "leaky-bucket 5/10s burst 2 by service; counter 1000/d by ip cluster",
    );
    check::<RateRule>("concurrent 7 by caller", "concurrent 7 by caller");
}

#[test]
fn several_limits_may_be_a_list() {
    let (rules, _) = rules("guard.rate = ['counter 1/s', 'counter 20/m by ip']");
    let text = rules.effective(&SERVICE)[0].rate.rule.to_string();
    assert_eq!(text, "counter 1/s by service; counter 20/m by ip");
}

#[test]
fn every_mistake_is_named_at_once() {
    let file = r#"
        [guard]
        breaker = "sre q=2"
        retry = "99"
        rate = "token-bucket 100"
        shed = "cpu 190%"
        bulkhead = "many"
        brekaer = "off"
        [guard.services]
        users.breaker = "open"
        users.colour = "red"
        stage.rate = "concurrent 5 cluster"
        [guard.methods]
        "stage.v1.Stage/Read".hedge = "p10"
    "#;
    assert_eq!(
        problems(file),
        [
            "guard.breaker: has no option `q`; there is k, min and window (file)",
            "guard.retry: must be at most 10 (file)",
            "guard.rate: needs a rate such as 100/s, 5/10s or 1000/m (file)",
            "guard.shed: must be a percentage from 0% (excluded) to 100% (file)",
            "guard.bulkhead: must be a whole number from 1 to 4294967295, or off (file)",
            "guard.services: stage.rate concurrent counts in one process only: nobody frees the place of a process that died; \
             users.breaker must begin with off, sre or classic; users.colour is no rule; there is breaker retry hedge reserve \
             rate shed bulkhead outgoing priority (file)",
            "guard.methods: stage.v1.Stage/Read.hedge must begin with off, after or a percentile from p50 to p99.9 (file)",
            "guard.brekaer: unknown key (file); did you mean guard.breaker?",
        ]
    );
}

#[test]
fn patterns_of_nobody_and_limits_without_a_store_are_named() {
    let (rules, _) = rules(
        r#"
        [guard.services]
        stage.breaker = "off"
        "stage.v1.Stage".retry = "off"
        stag.breaker = "off"
        [guard.methods]
        "stage.v1.Stage/Read".retry = "off"
        "stage.v1.Stage/Raed".retry = "off"
        "stage.v1.Stage/Write".rate = "counter 5/m cluster"
        "#,
    );
    let problems: Vec<_> = rules.problems(&[&SERVICE]).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "guard.services.stag: no such domain or service; write users or users.v1.Users",
            "guard.methods.stage.v1.Stage/Raed: no such method; write users.v1.Users/Detail",
            "guard.store: missing, and there are limits of the cluster",
        ]
    );
}

#[test]
fn the_nearest_rule_counts() {
    let (rules, settings) = rules(
        r#"
        [guard]
        retry = "1"
        outgoing = "7"
        [guard.services]
        stage.retry = "2"
        stage.outgoing = "8"
        "stage.v1.Stage".retry = "3"
        [guard.methods]
        "stage.v1.Stage/Write".retry = "4"
        "#,
    );
    let effective = rules.effective(&SERVICE);
    let retries: Vec<_> = effective
        .iter()
        .map(|e| (e.retry.rule.retries, e.retry.is_own))
        .collect();
    assert_eq!(retries, [(3, false), (4, true)]);
    assert_eq!(effective[0].outgoing.rule.to_string(), "8");
    assert_eq!(effective[0].breaker.rule.to_string(), "sre k=1.5 min=5 window=10s");
    let version = Rules::version();
    settings.reload(Layers::default().set("guard.retry", "5")).unwrap();
    assert!(Rules::version() > version);
    assert_eq!(rules.effective(&SERVICE)[0].retry.rule.retries, 5);
}
