//! The instances of one service, from what the registry says to what is picked from.
//!
//! One task applies snapshots and state changes and publishes a [`Ready`] set, whole and immutable; picks read the last
//! one without waiting. Each instance has a task of its own that keeps it connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mosaic_registry::{Address, Instance, Watch};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::endpoint::{Endpoint, State, keep_connected};
use super::{Affinity, Setup};
use crate::balance::{Balance, Draws, Picker, hash_text, scramble};

/// How long calls wait after the last instance that was ready has gone: in a restart its successor is about to be announced.
const SUCCESSION: Duration = Duration::from_millis(250);

/// How often slow starts, weights and ejections are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What calls find; see the module documentation.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) picker: Picker,
    pub(crate) affinity: Affinity,
    pub(crate) prospect: Prospect,
}

/// What a call that finds nobody ready may hope for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// The registry has not spoken yet.
    Unknown,
    /// Somebody is being connected to.
    Soon,
    /// Nobody is registered, but that is news: somebody may be about to be, as after a restart or when the registry has
    /// come back without its data.
    Perhaps,
    /// Nobody is there, or nobody can be reached.
    None(Lack),
}

/// Why nobody is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// No instance is registered.
    Nobody,
    /// None of them can be reached.
    AllDown,
}

/// Publishes the ready set.
#[derive(Debug)]
pub(crate) struct Fleet {
    ready: ArcSwap<Ready>,
    published: watch::Sender<()>,
}

struct Member {
    endpoint: Arc<Endpoint>,
    priority: u32,
    removed: Arc<Notify>,
}

impl Fleet {
    pub(crate) fn new(draws: &Draws) -> Self {
        Self {
            ready: ArcSwap::from_pointee(Ready {
                endpoints: Vec::new(),
                picker: Picker::new(Balance::default(), Vec::new(), 0, draws),
                affinity: Affinity::default(),
                prospect: Prospect::Unknown,
            }),
            published: watch::Sender::new(()),
        }
    }

    pub(crate) fn ready(&self) -> arc_swap::Guard<Arc<Ready>> {
        self.ready.load()
    }

    /// Returns what tells of the next ready set.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// Follows the registry and the states of instances, for ever.
    pub(crate) async fn lead(self: Arc<Self>, setup: Arc<Setup>, mut instances: Watch) {
        let mut members = Members::default();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let succession = members.last_ready_us.map(|last| {
                let since = Duration::from_micros(setup.now_us().saturating_sub(last));
                SUCCESSION.saturating_sub(since)
            });
            tokio::select! {
                snapshot = instances.changed() => match snapshot {
                    Some(snapshot) => members.apply(snapshot.instances(), &setup),
                    None => return,
                },
                () = setup.changed.notified() => {}
                () = tokio::time::sleep(succession.unwrap_or_default()), if succession.is_some_and(|left| !left.is_zero()) => {}
                _ = tick.tick() => members.reap(),
            }
            members.hope(&setup);
            self.ready.store(Arc::new(members.ready(&setup)));
            self.published.send_replace(());
        }
    }
}

#[derive(Default)]
struct Members {
    /// `None` until the registry has spoken.
    by_address: Option<BTreeMap<Address, Member>>,
    /// Since when nobody is registered.
    empty_since_us: Option<u64>,
    /// Has one been ready since all were tried?
    had_ready: bool,
    /// When one was ready last, as far as was seen; `None` while one is.
    last_ready_us: Option<u64>,
    tasks: JoinSet<()>,
}

impl Members {
    /// Lets go of instances that are not in the snapshot, takes in those that are new.
    fn apply(&mut self, instances: &[Instance], setup: &Arc<Setup>) {
        let is_other = |instance: &&Instance| Some(&instance.address) != setup.routing.own.as_ref();
        let instances: Vec<&Instance> = instances.iter().filter(is_other).collect();
        let chosen = subset(instances, setup.options.subset, setup.client_seed);
        let members = self.by_address.get_or_insert_default();
        let mut before = std::mem::take(members);
        for instance in chosen {
            let member = match before.remove(&instance.address) {
                Some(mut member) => {
                    member.endpoint.node.set_weight(instance.weight());
                    member.priority = instance.priority();
                    member
                }
                None => begin(instance, setup, &mut self.tasks),
            };
            members.insert(instance.address.clone(), member);
        }
        if members.is_empty() {
            self.empty_since_us.get_or_insert_with(|| setup.now_us());
        } else {
            self.empty_since_us = None;
        }
        before.into_values().for_each(|member| member.removed.notify_one());
    }

    /// When the last one that was ready is down, tries all others at once instead of after their pauses: one that died and
    /// was started again at its address may be well by now.
    fn hope(&mut self, setup: &Setup) {
        let members = || self.by_address.iter().flat_map(BTreeMap::values);
        let is_any_ready = members().any(|member| member.endpoint.state() == State::Ready);
        if is_any_ready {
            (self.had_ready, self.last_ready_us) = (true, None);
            return;
        }
        if !self.had_ready {
            return;
        }
        self.last_ready_us = Some(setup.now_us());
        if members().all(|member| member.endpoint.state() == State::Down) {
            members().for_each(|member| member.endpoint.hope(setup));
            // Once, or those who fail again would be tried without a pause.
            self.had_ready = false;
        }
    }

    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    fn ready(&self, setup: &Setup) -> Ready {
        let now_us = setup.now_us();
        let members = || self.by_address.iter().flat_map(BTreeMap::values);
        let is_up = |member: &&Member| member.endpoint.state() == State::Ready;
        let priority = members().filter(is_up).map(|member| member.priority).min();
        let mut up: Vec<_> = members()
            .filter(is_up)
            .filter(|member| Some(member.priority) == priority)
            .map(|member| member.endpoint.clone())
            .collect();
        leave_out_ejected(&mut up, now_us);
        // Who was out begins anew, slowly: what is known of it is why it was put out.
        for endpoint in up.iter().filter(|endpoint| endpoint.outliers.has_returned(now_us)) {
            endpoint.node.set_ready(now_us, setup.expected_us());
        }
        let prospect = match &self.by_address {
            None => Prospect::Unknown,
            Some(members) if members.is_empty() => {
                let empty_us = now_us.saturating_sub(self.empty_since_us.unwrap_or(now_us));
                if u128::from(empty_us) < setup.options.ready_timeout.as_micros() {
                    Prospect::Perhaps
                } else {
                    Prospect::None(Lack::Nobody)
                }
            }
            Some(members) if members.values().all(|member| member.endpoint.state() == State::Down) => {
                let since_us = self.last_ready_us.map(|last| now_us.saturating_sub(last));
                if since_us.is_some_and(|since| u128::from(since) < SUCCESSION.as_micros()) {
                    Prospect::Soon
                } else {
                    Prospect::None(Lack::AllDown)
                }
            }
            Some(_) => Prospect::Soon,
        };
        let nodes: Vec<_> = up.iter().map(|endpoint| endpoint.node.clone()).collect();
        setup.expect(nodes.iter().map(|node| node.latency_us(now_us)));
        Ready {
            picker: Picker::new(setup.balance(), nodes, now_us, &setup.draws),
            affinity: setup.affinity(),
            endpoints: up,
            prospect,
        }
    }
}

fn begin(instance: &Instance, setup: &Arc<Setup>, tasks: &mut JoinSet<()>) -> Member {
    let endpoint = Arc::new(Endpoint::new(instance.clone(), &setup.options));
    let removed = Arc::new(Notify::new());
    tasks.spawn(keep_connected(endpoint.clone(), setup.clone(), removed.clone()));
    Member {
        endpoint,
        priority: instance.priority(),
        removed,
    }
}

/// Takes out those that are ejected, but never more than half of all: if most fail, it is not they who are to blame.
fn leave_out_ejected(endpoints: &mut Vec<Arc<Endpoint>>, now_us: u64) {
    let n_out_max = endpoints.len() / 2;
    let mut out: Vec<_> = endpoints
        .iter()
        .filter(|endpoint| endpoint.outliers.is_ejected(now_us))
        .map(|endpoint| endpoint.outliers.ejected_until_us())
        .collect();
    if out.is_empty() {
        return;
    }
    // Those that are out for longest stay out.
    out.sort_unstable_by(|one, other| other.cmp(one));
    let mut n_out = 0;
    let last_out = out.get(n_out_max.saturating_sub(1)).copied().unwrap_or_default();
    endpoints.retain(|endpoint| {
        let is_out = n_out < n_out_max
            && endpoint.outliers.is_ejected(now_us)
            && endpoint.outliers.ejected_until_us() >= last_out;
        n_out += usize::from(is_out);
        !is_out
    });
}

/// Chooses at most `n_max` instances for this client, so that large fleets do not connect everybody to everybody.
///
/// Rendezvous hashing (Thaler, Ravishankar 1998): each client has an order of its own, and the choice changes by one
/// when one instance comes or goes.
fn subset(mut chosen: Vec<&Instance>, n_max: usize, client_seed: u64) -> Vec<&Instance> {
    if n_max > 0 && chosen.len() > n_max {
        let rank = |instance: &&Instance| scramble(hash_text(&instance.address.to_string()) ^ client_seed);
        chosen.sort_by_cached_key(rank);
        chosen.truncate(n_max);
    }
    chosen
}
