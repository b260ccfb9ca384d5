use mosaic_core::Runtime;
use serde::{Deserialize, Serialize};

use super::*;
use crate::context::TaskContext;

#[derive(Serialize, Deserialize)]
struct Sweep;

impl Task for Sweep {
    const NAME: &'static str = "sweep";
    type Needs = ();
    type Output = ();

    async fn run(self, (): &(), _: &TaskContext) -> Result<()> {
        Ok(())
    }
}

fn at(text: &str) -> Timestamp {
    let time: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(time.as_microsecond())
}

fn periodic(cron: &str, zone: &str) -> Periodic {
    Periodic::new("sweep", cron, zone, &Sweep).unwrap()
}

/// Ticks of `cron` in Berlin from `from` on, as UTC.
#[track_caller]
fn check(cron: &str, from: &str, want: &[&str]) {
    let periodic = periodic(cron, "Europe/Berlin");
    let mut time = at(from);
    for want in want {
        time = periodic.next_after(time);
        assert_eq!(time, at(want), "{cron}");
    }
}

#[test]
fn ticks_are_in_the_time_zone() {
    check(
        "30 9 * * *",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T08:30:00Z", "2026-01-02T08:30:00Z"],
    );
    check("30 9 * * *", "2026-07-01T00:00:00Z", &["2026-07-01T07:30:00Z"]);
    check(
        "*/20 * * * * *",
        "2026-07-01T00:00:01Z",
        &["2026-07-01T00:00:20Z", "2026-07-01T00:00:40Z"],
    );
}

/// On 2026-03-29 in Berlin it is 3:00 right after 1:59:59.
#[test]
fn where_the_clock_is_put_forward_nothing_is_left_out() {
    check(
        "30 2 * * *",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    check(
        "0 * * * *",
        "2026-03-29T00:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
    );
}

/// On 2026-10-25 in Berlin it is 2:00 right after 2:59:59.
#[test]
fn where_the_clock_is_put_back_nothing_comes_twice() {
    check(
        "30 2 * * *",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    check(
        "*/30 * * * *",
        "2026-10-25T00:00:00Z",
        &[
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
}

#[track_caller]
fn check_firing(catch_up: CatchUp, now: &str, want: &[&str]) {
    let periodic = periodic("0 * * * *", "UTC").with_catch_up(catch_up);
    let want: Vec<Timestamp> = want.iter().map(|time| at(time)).collect();
    assert_eq!(
        periodic.firing(at("2026-01-01T01:00:00Z"), at(now)),
        want,
        "{catch_up:?}"
    );
}

#[test]
fn missed_ticks_fire_as_they_should() {
    let (one, two, three) = ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z");
    for catch_up in [CatchUp::Once, CatchUp::Skip, CatchUp::All(9)] {
        check_firing(catch_up, "2026-01-01T00:59:59.9Z", &[]);
        check_firing(catch_up, "2026-01-01T01:00:00.5Z", &[one]);
    }
    check_firing(CatchUp::Once, "2026-01-01T03:30:00Z", &[three]);
    check_firing(CatchUp::Skip, "2026-01-01T03:30:00Z", &[]);
    check_firing(CatchUp::All(9), "2026-01-01T03:30:00Z", &[one, two, three]);
    check_firing(CatchUp::All(2), "2026-01-01T03:30:00Z", &[two, three]);
}

#[test]
fn what_is_no_schedule_is_refused() {
    for (name, cron, zone) in [
        ("", "* * * * *", "UTC"),
        ("x", "* * * *", "UTC"),
        ("x", "61 * * * *", "UTC"),
        ("x", "* * * * *", "Mars/Base"),
    ] {
        let error = Periodic::new(name, cron, zone, &Sweep).unwrap_err();
        assert_eq!(error.reason(), "TASK_SCHEDULE_INVALID", "{cron} {zone}");
    }
    let never = periodic("0 0 30 2 *", "UTC");
    assert_eq!(never.next_after(Runtime::system().now()), NEVER);
}

#[test]
fn the_task_of_a_tick_is_the_same_for_all() {
    let tick = at("2026-01-01T01:00:00Z");
    assert_eq!(tick_id("a", tick), tick_id("a", tick));
    assert_ne!(tick_id("a", tick), tick_id("b", tick));
    assert_ne!(tick_id("a", tick), tick_id("a", tick.plus(ON_TIME)));
}
