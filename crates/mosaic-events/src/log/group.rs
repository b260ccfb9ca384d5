//! Who gets which partition: a pure function, asked by each member for itself.
//!
//! Every member has a quota, P / M rounded down, and the first P % M members (by name) one more; the quotas add up to P. Who has
//! less takes what nobody holds, who has more gives back, so members only ever move what must move, and agree without
//! talking to each other once they see the same rows.

use mosaic_core::Timestamp;

/// A partition's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) partition: u32,
    pub(crate) owner: Option<String>,
    pub(crate) fence: i64,
    pub(crate) lease_until: Timestamp,
    pub(crate) next: u64,
}

impl Row {
    /// Is it there for the taking?
    pub(crate) fn is_free(&self, now: Timestamp) -> bool {
        self.owner.is_none() || self.lease_until <= now
    }

    pub(crate) fn is_of(&self, member: &str) -> bool {
        self.owner.as_deref() == Some(member)
    }
}

/// What a member is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Partitions to take now.
    pub(crate) take: Vec<u32>,
    /// Partitions to give back when what was begun is done.
    pub(crate) give: Vec<u32>,
}

/// Returns what `me`, who is among the living `members`, is to do.
pub(crate) fn plan(rows: &[Row], members: &[String], me: &str, now: Timestamp) -> Plan {
    let quota = quota(rows.len(), members, me);
    let mine: Vec<u32> = rows
        .iter()
        .filter(|row| row.is_of(me))
        .map(|row| row.partition)
        .collect();
    let free = rows.iter().filter(|row| !row.is_of(me) && row.is_free(now));
    Plan {
        take: free
            .map(|row| row.partition)
            .take(quota.saturating_sub(mine.len()))
            .collect(),
        give: mine
            .iter()
            .rev()
            .take(mine.len().saturating_sub(quota))
            .copied()
            .collect(),
    }
}

fn quota(n_partitions: usize, members: &[String], me: &str) -> usize {
    let rank = members.iter().filter(|member| member.as_str() < me).count();
    let n_members = members.len().max(1);
    n_partitions / n_members + usize::from(rank < n_partitions % n_members)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(100);

    fn row(partition: u32, owner: Option<&str>) -> Row {
        Row {
            partition,
            owner: owner.map(str::to_owned),
            fence: 1,
            lease_until: Timestamp::from_secs(101),
            next: 0,
        }
    }

    fn members(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn one_member_takes_all_and_gives_half_to_the_second() {
        let free: Vec<Row> = (0..4).map(|n| row(n, None)).collect();
        assert_eq!(plan(&free, &members(&["a"]), "a", NOW).take, [0, 1, 2, 3]);
        let held: Vec<Row> = (0..4).map(|n| row(n, Some("a"))).collect();
        let two = members(&["a", "b"]);
        assert_eq!(plan(&held, &two, "a", NOW).give, [3, 2]);
        assert_eq!(plan(&held, &two, "b", NOW), Plan::default());
    }

    #[test]
    fn what_a_dead_member_held_is_free() {
        let held = [row(0, Some("dead")), row(1, Some("a"))];
        assert_eq!(plan(&held, &members(&["a"]), "a", NOW), Plan::default());
        let later = Timestamp::from_secs(101);
        assert_eq!(plan(&held, &members(&["a"]), "a", later).take, [0]);
    }

    #[test]
    fn whatever_the_numbers_all_partitions_find_a_member_and_then_rest() {
        for n_partitions in 1..9 {
            for n_members in 1..6 {
                let names: Vec<String> = (0..n_members).map(|n| format!("m{n}")).collect();
                let mut rows: Vec<Row> = (0..n_partitions).map(|n| row(n, Some("m0"))).collect();
                for _ in 0..3 {
                    for name in &names {
                        let Plan { take, give } = plan(&rows, &names, name, NOW);
                        for row in &mut rows {
                            if take.contains(&row.partition) {
                                row.owner = Some(name.clone());
                            } else if give.contains(&row.partition) {
                                row.owner = None;
                            }
                        }
                    }
                }
                assert!(
                    names
                        .iter()
                        .all(|name| plan(&rows, &names, name, NOW) == Plan::default())
                );
                assert!(rows.iter().all(|row| row.owner.is_some()));
            }
        }
    }
}
