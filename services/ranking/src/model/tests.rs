use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn a_score_falls_with_age_and_rises_with_likes() {
    let cases = [
        (1, 0, 1.5, 0.0),
        (0, 2, 1.5, -0.125),
        (2, 2, 1.5, 0.125),
        (101, 98, 1.5, 0.1),
        (101, 98, 1.0, 1.0),
        (101, 98, 0.0, 100.0),
        (1_000_001, 999_998, 2.0, 1e-6),
    ];
    for (likes, age, gravity, expected) in cases {
        let got = score(likes, Duration::from_secs(age), gravity);
        assert!(
            (got - expected).abs() <= expected.abs() * 1e-12,
            "{likes} {age} {gravity}: {got}"
        );
    }
}

const MINUTE: i64 = 60_000 << 12;
const WITHDRAWN: Change = Change::Withdrawn { author: 7 };

const fn published(at: i64) -> Change {
    Change::Published {
        author: 7,
        published_at: at,
    }
}

/// A name, the changes with the numbers of their events in the order in which they come, and the likes it is ranked with.
type Story = (&'static str, &'static [(Change, i64)], Option<i64>);

const STORIES: [Story; 10] = [
    ("published", &[(published(1), 1)], Some(0)),
    (
        "liked before it is published",
        &[(Change::Likes(3), 2), (published(1), 1)],
        Some(3),
    ),
    ("liked, never published", &[(Change::Likes(3), 2)], None),
    (
        "repeated",
        &[
            (published(1), 1),
            (Change::Likes(3), 2),
            (Change::Likes(3), 2),
            (published(1), 1),
        ],
        Some(3),
    ),
    (
        "withdrawn",
        &[(published(1), 1), (Change::Likes(3), 2), (WITHDRAWN, 3)],
        None,
    ),
    (
        "withdrawn and published again keeps its likes",
        &[
            (published(1), 1),
            (Change::Likes(3), 2),
            (WITHDRAWN, 3),
            (published(1), 4),
        ],
        Some(3),
    ),
    (
        "unliked",
        &[(published(1), 1), (Change::Likes(3), 2), (Change::Likes(0), 3)],
        Some(0),
    ),
    (
        "clocks of two publishers differ a little",
        &[(published(1), 1), (Change::Likes(3), MINUTE), (Change::Likes(4), 1)],
        Some(4),
    ),
    (
        "likes given up and handled again much later",
        &[
            (published(1), 1),
            (Change::Likes(9), 3 * MINUTE),
            (Change::Likes(4), MINUTE),
        ],
        Some(9),
    ),
    (
        "a publication given up and handled again after the withdrawal",
        &[(WITHDRAWN, 3 * MINUTE), (published(1), MINUTE)],
        None,
    ),
];

#[test]
fn events_in_any_order_end_alike() {
    for (name, events, expected) in STORIES {
        let mut item = Item::default();
        for (change, at) in events {
            item.apply(*change, *at);
        }
        assert_eq!(item.standing(), expected, "{name}: {item:?}");
    }
}

#[test]
fn negative_likes_are_none() {
    let mut item = Item::default();
    item.apply(Change::Likes(-3), 1);
    assert_eq!(item.likes, 0);
}

proptest! {
    #[test]
    fn the_heap_has_what_a_full_sort_has(
        scores in prop::collection::vec((-3..4_i32, 0..50_i64), 0..200),
        size in 1..40_usize,
    ) {
        let mut all: Vec<Hot> = scores.iter().map(|(score, id)| Hot { score: f64::from(*score), biz_id: *id }).collect();
        let mut hottest = Hottest::new(size);
        for hot in &all {
            hottest.show(*hot);
        }
        all.sort_by(|a, b| b.cmp(a));
        all.truncate(size);
        prop_assert_eq!(hottest.into_list(), all);
    }

    /// Who is excluded by the bound could not have entered.
    #[test]
    fn the_bound_excludes_nobody_who_is_hot_enough(
        likes in 0..1_000_000_i64, worst_likes in 0..1_000_000_i64, worst_age in 0..700_000_u64,
        cursor in 0..700_000_u64, further in 0..700_000_u64, gravity in 0.0..4.0_f64,
    ) {
        let worst = score(worst_likes, Duration::from_secs(worst_age), gravity);
        let bound = likes_min(worst, Duration::from_secs(cursor), gravity);
        if likes < bound {
            prop_assert!(score(likes, Duration::from_secs(cursor + further), gravity) < worst);
        }
    }
}
