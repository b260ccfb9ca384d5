use super::*;

fn node() -> Arc<Node> {
    nodes(1).remove(0)
}

#[test]
fn latency_follows_the_answers() {
    let mut bench = Bench::new(Balance::P2c, nodes(1));
    bench.teach(0, 100, 50_000, Outcome::Answered);
    let slow = bench.node(0).latency_us(bench.now_us);
    assert!((49_000.0..51_000.0).contains(&slow), "{slow}");
    bench.teach(0, 1_000, 2_000, Outcome::Answered);
    let fast = bench.node(0).latency_us(bench.now_us);
    assert!((1_900.0..4_500.0).contains(&fast), "{fast}");
}

#[test]
fn a_burst_of_answers_at_one_instant_counts() {
    let node = node();
    let calls: Vec<Held> = (0..100).map(|_| node.hold(NOW)).collect();
    let at = NOW + 20_000;
    calls.iter().for_each(|call| call.finish(Outcome::Answered, at));
    let latency = node.latency_us(at);
    assert!((10_000.0..=20_000.0).contains(&latency), "{latency}");
}

#[test]
fn the_age_of_calls_without_an_answer_counts_at_once() {
    let node = node();
    let first = node.hold(NOW);
    assert_eq!(node.latency_us(NOW + 500), 1_000.0, "no longer than usual");
    assert_eq!(node.latency_us(NOW + 30_000), 30_000.0);
    let second = node.hold(NOW + 20_000);
    assert_eq!(node.latency_us(NOW + 30_000), 20_000.0, "the mean of 30 and 10 ms");
    drop(second);
    assert_eq!(node.latency_us(NOW + 30_000), 30_000.0);
    drop(first);
    assert_eq!(node.latency_us(NOW + 30_000), 1_000.0);
}

#[test]
fn a_stream_that_has_begun_is_in_flight_and_waits_for_nothing() {
    let node = node();
    let stream = node.hold(NOW);
    stream.finish(Outcome::Answered, NOW + 2_000);
    let later = NOW + 3_600 * SECOND;
    assert_eq!(node.n_in_flight(), 1);
    assert!(node.latency_us(later) < 2_000.0, "{}", node.latency_us(later));
    drop(stream);
    assert_eq!(node.n_in_flight(), 0);
}

#[test]
fn ages_survive_wrapping_and_clocks_that_differ() {
    for start in [0, NOW, (1 << 46) - 5, (1 << 46) + 5, 1 << 60, u64::MAX - 1_000] {
        let node = Arc::new(Node::new("a:1", 100, 0));
        let at = |offset: u64| start.wrapping_add(offset);
        let calls: Vec<Held> = (0..1_000).map(|index| node.hold(at(index))).collect();
        let latency = node.latency_us(at(10_000_000));
        assert!((latency - 9_999_500.5).abs() < 1.0, "from {start}: {latency}");
        assert_eq!(
            node.latency_us(at(0)),
            1_000.0,
            "calls that begin after our clock's now"
        );
        drop(calls);
        assert_eq!((node.n_in_flight(), node.latency_us(at(5))), (0, 1_000.0));
    }
}

#[test]
fn an_outcome_is_heard_once() {
    let node = node();
    let call = node.hold(NOW);
    call.finish(Outcome::Answered, NOW + 1_000);
    (0..50).for_each(|_| call.finish(Outcome::Failed, NOW + 2_000));
    assert_eq!(node.success(), 1.0);
}

#[test]
fn a_fast_failure_does_not_look_fast() {
    let mut bench = Bench::new(Balance::P2c, nodes(1));
    bench.teach(0, 200, 20_000, Outcome::Answered);
    let before = (bench.node(0).latency_us(bench.now_us), bench.node(0).cost(bench.now_us));
    bench.teach(0, 10, 100, Outcome::Failed);
    assert!(bench.node(0).latency_us(bench.now_us) >= before.0 * 0.999);
    assert!(bench.node(0).cost(bench.now_us) > before.1 * 50.0, "seen in ten calls");
}

#[test]
fn success_comes_back_with_answers() {
    let mut bench = Bench::new(Balance::P2c, nodes(1));
    bench.teach(0, 100, 1_000, Outcome::Failed);
    assert_eq!(bench.node(0).success(), 0.05);
    bench.teach(0, 300, 1_000, Outcome::Answered);
    assert!(bench.node(0).success() > 0.95, "{}", bench.node(0).success());
}

#[test]
fn a_call_that_was_given_up_has_taken_at_least_that_long() {
    let mut bench = Bench::new(Balance::P2c, nodes(1));
    bench.teach(0, 20, 10_000, Outcome::Answered);
    let before = bench.node(0).latency_us(bench.now_us);
    bench.teach(0, 100, 1_000, Outcome::Abandoned);
    assert_eq!(bench.node(0).latency_us(bench.now_us), before, "short: says nothing");
    bench.teach(0, 10_000, 1_000, Outcome::Abandoned);
    bench.teach(0, 1, 20_000, Outcome::Answered);
    let after = bench.node(0).latency_us(bench.now_us);
    assert!(
        (after - 20_000.0).abs() < 10.0,
        "and does not make what is known look recent: {before} {after}"
    );
    bench.teach(0, 20, 500_000, Outcome::Abandoned);
    assert!(
        bench.node(0).latency_us(bench.now_us) > 10.0 * before,
        "hedged again and again: it is slow"
    );
    assert_eq!(bench.node(0).success(), 1.0);
}

#[test]
fn a_new_node_grows_to_its_share() {
    let node = Node::new("a:1", 100, 10 * SECOND);
    node.set_ready(NOW, Some(7_000.0));
    let ramp = |seconds: u64| node.ramp(NOW + seconds * SECOND);
    assert_eq!(
        [ramp(0), ramp(1), ramp(5), ramp(10), ramp(99)],
        [0.1, 0.1, 0.5, 1.0, 1.0]
    );
    assert_eq!(
        node.ramp(NOW - 20 * SECOND),
        0.1,
        "another thread's clock read may be older"
    );
    assert_eq!(node.latency_us(NOW), 7_000.0);
    node.set_warm(NOW);
    assert_eq!(node.ramp(NOW), 1.0);
    // Before the slow start would have begun on this clock.
    node.set_warm(3);
    assert_eq!(node.ramp(3), 1.0);
    assert_eq!(Node::new("a:1", 1, 0).ramp(0), 1.0);
    assert_eq!(Node::new("a:1", 1, u64::MAX).ramp(SECOND), 0.1);
}

#[test]
fn one_caller_claims_a_forgotten_node() {
    let node = node();
    assert!(!node.claim(NOW + 3 * SECOND), "not forgotten yet");
    assert!(node.claim(NOW + 3 * SECOND + 1));
    assert!(!node.claim(NOW + 3 * SECOND + 1));
}

#[test]
fn weights_are_never_zero() {
    let node = Node::new("a:1", 0, 0);
    assert_eq!(node.weight(), 1);
    node.set_weight(0);
    assert_eq!(node.weight(), 1);
    assert!(node.cost(0).is_finite());
}
