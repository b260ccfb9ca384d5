//! The lighter node takes the job: the rules, as pure functions, and the node's side of them.
//!
//! Nodes publish their load to a board. A node that may take a job counts those that are lighter than it by more than
//! [`LoadPolicy::margin`], and leaves each of them [`LoadPolicy::patience`] to take it first; then it takes the job itself, so a board full
//! of dead, silent or unwilling nodes delays a job and never stops it. A holder that stays heavier than the lightest node by
//! [`LoadPolicy::hand_over_margin`] for some rounds gives the job back and stays away for a while.
//!
//! The second margin is the larger one, and the job itself is part of the load: a job that weighs more than the
//! difference would travel for ever. [`LoadPolicy::tenure_min`] bounds how often it can.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::lease::{Leases, NodeLoad};

/// Says how busy this node is: 0 idle, 1 full.
pub trait LoadSource: Send + Sync + 'static {
    /// Returns the load now.
    fn load(&self) -> f64;
}

impl<F: Fn() -> f64 + Send + Sync + 'static> LoadSource for F {
    fn load(&self) -> f64 {
        self()
    }
}

/// How much load decides; see the module documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadPolicy {
    /// How often loads are published and compared. Default 5 s; forgotten after three times that.
    pub report_every: Duration,
    /// Who is lighter by no more than this counts as equal. Default 0.1.
    pub margin: f64,
    /// How long each lighter node may hesitate. Default 2 s.
    pub patience: Duration,
    /// Longest hesitation for all of them. Default 10 s.
    pub patience_max: Duration,
    /// A holder heavier than the lightest by this gives the job away. Default 0.3.
    pub hand_over_margin: f64,
    /// ... if it is so in so many rounds in a row. Default 3.
    pub hand_over_after: u32,
    /// ... and has had the job for this long. Default 1 min.
    pub tenure_min: Duration,
    /// How long it then leaves the job to others. Default 30 s.
    pub abstain: Duration,
}

impl Default for LoadPolicy {
    fn default() -> Self {
        Self {
            report_every: Duration::from_secs(5),
            margin: 0.1,
            patience: Duration::from_secs(2),
            patience_max: Duration::from_secs(10),
            hand_over_margin: 0.3,
            hand_over_after: 3,
            tenure_min: Duration::from_secs(60),
            abstain: Duration::from_secs(30),
        }
    }
}

/// When a node may take a job that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nobody is lighter.
    Now,
    /// If it is still free after this.
    After(Duration),
}

impl LoadPolicy {
    /// Returns when `node` with `load` may take a job that is free; `reports` may hold its own.
    pub fn turn(&self, node: &str, load: f64, reports: &[NodeLoad]) -> Turn {
        let is_lighter = |other: &&NodeLoad| other.node != node && other.load + self.margin < load;
        match u32::try_from(reports.iter().filter(is_lighter).count()).unwrap_or(u32::MAX) {
            0 => Turn::Now,
            n_lighter => Turn::After(self.patience.saturating_mul(n_lighter).min(self.patience_max)),
        }
    }

    /// Is there a node to which the holder should hand over?
    pub fn is_too_heavy(&self, node: &str, load: f64, reports: &[NodeLoad]) -> bool {
        let others = reports.iter().filter(|other| other.node != node);
        others
            .into_iter()
            .any(|other| other.load + self.hand_over_margin < load)
    }
}

/// One node's part in the placement of one kind of job.
pub(crate) struct Balance {
    pub(crate) policy: LoadPolicy,
    board: Arc<dyn Leases>,
    source: Arc<dyn LoadSource>,
    group: String,
    node: String,
}

impl Balance {
    pub(crate) fn new(
        policy: LoadPolicy,
        board: Arc<dyn Leases>,
        source: Arc<dyn LoadSource>,
        group: &str,
        node: &str,
    ) -> Self {
        Self {
            policy,
            board,
            source,
            group: group.to_owned(),
            node: node.to_owned(),
        }
    }

    /// Publishes our load, for ever.
    pub(crate) async fn report_for_ever(&self) {
        loop {
            let load = NodeLoad {
                node: self.node.clone(),
                load: self.source.load(),
            };
            let ttl = self.policy.report_every * 3;
            if let Err(error) = self.board.report(&self.group, &load, ttl).await {
                tracing::warn!(
                    group = self.group,
                    cause = error.cause_chain(),
                    "cannot publish the load: {error}"
                );
            }
            tokio::time::sleep(self.policy.report_every).await;
        }
    }

    /// Without a board everybody may: a job in the wrong place beats none.
    async fn reports(&self) -> Vec<NodeLoad> {
        match self.board.reports(&self.group).await {
            Ok(reports) => reports,
            Err(error) => {
                tracing::warn!(
                    group = self.group,
                    cause = error.cause_chain(),
                    "cannot compare loads: {error}"
                );
                Vec::new()
            }
        }
    }

    /// Returns when we may take a job that is free.
    pub(crate) async fn turn(&self) -> Turn {
        self.policy.turn(&self.node, self.source.load(), &self.reports().await)
    }

    /// Completes when a job that we have had since `since` should go to somebody lighter.
    pub(crate) async fn too_heavy(&self, since: Instant) {
        let mut n_rounds = 0;
        loop {
            tokio::time::sleep(self.policy.report_every).await;
            let is_heavy = self
                .policy
                .is_too_heavy(&self.node, self.source.load(), &self.reports().await);
            n_rounds = if is_heavy { n_rounds + 1 } else { 0 };
            if n_rounds >= self.policy.hand_over_after && since.elapsed() >= self.policy.tenure_min {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(of: &[(&str, f64)]) -> Vec<NodeLoad> {
        let load = |&(node, load): &(&str, f64)| NodeLoad {
            node: node.to_owned(),
            load,
        };
        of.iter().map(load).collect()
    }

    #[test]
    fn each_lighter_node_is_given_its_time() {
        let policy = LoadPolicy::default();
        let after = |secs| Turn::After(Duration::from_secs(secs));
        let cases = [
            (0.5, loads(&[]), Turn::Now),
            (0.5, loads(&[("me", 0.1)]), Turn::Now),
            (0.5, loads(&[("a", 0.5), ("b", 0.9)]), Turn::Now),
            (0.5, loads(&[("a", 0.45)]), Turn::Now),
            (0.5, loads(&[("a", 0.3)]), after(2)),
            (0.5, loads(&[("a", 0.3), ("b", 0.1), ("c", 0.49)]), after(4)),
            (f64::NAN, loads(&[("a", 0.3)]), Turn::Now),
            (9.0, loads(&[("a", 0.0); 20]), after(10)),
        ];
        for (load, reports, expected) in cases {
            assert_eq!(policy.turn("me", load, &reports), expected, "{load} among {reports:?}");
        }
    }

    #[test]
    fn a_job_is_handed_over_for_a_large_difference_only() {
        let policy = LoadPolicy::default();
        let cases = [
            (0.9, loads(&[("me", 0.0)]), false),
            (0.9, loads(&[("a", 0.7)]), false),
            (0.9, loads(&[("a", 0.7), ("b", 0.5)]), true),
            (0.2, loads(&[("a", 0.0)]), false),
        ];
        for (load, reports, expected) in cases {
            assert_eq!(
                policy.is_too_heavy("me", load, &reports),
                expected,
                "{load} among {reports:?}"
            );
        }
    }
}
