//! Clients and servers in virtual time, around the real [`Picker`] and [`Node`].
//!
//! A discrete-event simulation: arrivals are Poisson and open-loop (nobody waits for an answer before the next call), a
//! server is a queue with some workers, and each client has nodes, draws and a picker of its own, as processes have. A
//! client makes its picker anew every second and when the set changes, as a channel does. One seed gives one run, and the
//! same arrivals and keys for every balancer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use mosaic::rpc::balance::{Ask, Balance, Draws, Held, Node, Outcome, Picker};

use crate::balancers_scenes::{Conduct, Keys, Scene};

pub(crate) const SECOND: u64 = 1_000_000;
/// Half of a round trip.
const WIRE_US: u64 = 250;
/// A call without an answer is given up after this.
pub(crate) const TIMEOUT_US: u64 = SECOND;
const FAIL_US: u64 = 500;
const TICK_US: u64 = SECOND;

/// What became of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) started_us: u64,
    pub(crate) latency_us: u64,
    pub(crate) server: usize,
    pub(crate) key: u64,
    pub(crate) is_good: bool,
}

/// Runs `scene` under `balance`; returns what became of its calls.
pub(crate) fn run(scene: &Scene, balance: Balance, seed: u64) -> Vec<Ended> {
    let mut world = World::new(scene, balance, seed);
    while let Some(Reverse((now_us, _, event))) = world.events.pop() {
        world.now_us = now_us;
        world.take(event);
    }
    world.ended
}

/// Numbers name a client, a server or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Reached {
        call: usize,
    },
    Served {
        call: usize,
    },
    Answered {
        call: usize,
    },
    Failed {
        call: usize,
    },
    TimedOut {
        call: usize,
    },
    Joined {
        server: usize,
    },
    Tick {
        client: usize,
    },
    /// The connection is found dead.
    Cut {
        client: usize,
        server: usize,
    },
}

struct World<'a> {
    scene: &'a Scene,
    balance: Balance,
    now_us: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    n_events: u64,
    arrivals: Chance,
    services: Chance,
    keys: Chance,
    servers: Vec<Server>,
    clients: Vec<Client>,
    calls: Vec<Call>,
    ended: Vec<Ended>,
}

#[derive(Default)]
struct Server {
    n_busy: usize,
    queue: VecDeque<usize>,
    is_there: bool,
}

struct Call {
    client: usize,
    server: usize,
    key: u64,
    started_us: u64,
    /// `None` when it is over.
    held: Option<Held>,
}

struct Client {
    draws: Draws,
    nodes: Vec<Arc<Node>>,
    records: Vec<Record>,
    picker: Picker,
    /// The server of each position of the picker.
    positions: Vec<usize>,
    expected_us: Option<f64>,
}

/// What a channel keeps beside the node: consecutive failures eject for 2 s, then 4 s ..
#[derive(Default)]
struct Record {
    n_failures: u32,
    n_ejections: u32,
    ejected_until_us: u64,
    is_cut: bool,
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, balance: Balance, seed: u64) -> Self {
        let client = |index: u64| Client::new(scene, balance, seed * 1_000 + index);
        let mut world = Self {
            scene,
            balance,
            now_us: 0,
            events: BinaryHeap::new(),
            n_events: 0,
            arrivals: Chance::new(seed ^ 0xa),
            services: Chance::new(seed ^ 0xb),
            keys: Chance::new(seed ^ 0xc),
            servers: scene.servers.iter().map(|_| Server::default()).collect(),
            clients: (0..scene.n_clients as u64).map(client).collect(),
            calls: Vec::new(),
            ended: Vec::new(),
        };
        for (server, spec) in scene.servers.iter().enumerate() {
            match spec.joins_us {
                0 => world.join(server),
                at => world.at(at, Event::Joined { server }),
            }
        }
        for client in 0..scene.n_clients {
            // Ticks of processes do not fall together.
            world.at(TICK_US * client as u64 / scene.n_clients as u64, Event::Tick { client });
        }
        world.at(0, Event::Arrival);
        world.schedule_cuts();
        world
    }

    /// Health checks find a silent server within an interval of 5 s and a timeout of 2 s.
    fn schedule_cuts(&mut self) {
        for (server, spec) in self.scene.servers.iter().enumerate() {
            let Some(silent_us) = spec.silent_from_us().filter(|_| self.scene.has_ejection) else {
                continue;
            };
            for client in 0..self.scene.n_clients {
                let wait_us = self.keys.unit() * 5e6;
                self.at(silent_us + wait_us as u64 + 2 * SECOND, Event::Cut { client, server });
            }
        }
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.n_events += 1;
        self.events.push(Reverse((at_us, self.n_events, event)));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrive(),
            Event::Reached { call } => self.reach(call),
            Event::Served { call } => self.finish_service(call),
            Event::Answered { call } => self.end(call, Outcome::Answered),
            Event::Failed { call } => self.end(call, Outcome::Failed),
            Event::TimedOut { call } => self.end(call, Outcome::Failed),
            Event::Joined { server } => self.join(server),
            Event::Tick { client } => {
                self.renew(client);
                if self.now_us < self.scene.ends_us {
                    self.at(self.now_us + TICK_US, Event::Tick { client });
                }
            }
            Event::Cut { client, server } => {
                self.clients[client].records[server].is_cut = true;
                self.renew(client);
            }
        }
    }

    fn arrive(&mut self) {
        let pause_us = -(1.0 - self.arrivals.unit()).ln() * 1e6 / self.scene.calls_per_s;
        let next_us = self.now_us + (pause_us as u64).max(1);
        if next_us < self.scene.ends_us {
            self.at(next_us, Event::Arrival);
        }
        let client = self.arrivals.below(self.scene.n_clients);
        let key = match &self.scene.keys {
            Keys::Even(n_keys) => self.keys.below(*n_keys) as u64,
            Keys::Zipf(ends) => {
                let point = self.keys.unit() * ends.last().copied().unwrap_or_default();
                ends.partition_point(|end| *end <= point) as u64
            }
        };
        let caller = &self.clients[client];
        let ask = Ask {
            // As the hash of an account is: keys that follow each other have nothing in common.
            key: Draws::new(key).next(),
            now_us: self.now_us,
        };
        let Some(position) = caller.picker.pick(ask, &caller.draws, &[]) else {
            return;
        };
        let server = caller.positions[position];
        let held = Some(caller.nodes[server].hold(self.now_us));
        let call = self.calls.len();
        self.calls.push(Call {
            client,
            server,
            key,
            started_us: self.now_us,
            held,
        });
        self.at(self.now_us + WIRE_US, Event::Reached { call });
        self.at(self.now_us + TIMEOUT_US, Event::TimedOut { call });
    }

    fn reach(&mut self, call: usize) {
        let server = self.calls[call].server;
        match self.scene.servers[server].conduct(self.now_us) {
            Conduct::Silent => {}
            Conduct::FailsFast => self.at(self.now_us + FAIL_US + WIRE_US, Event::Failed { call }),
            Conduct::Serves { .. } if self.servers[server].n_busy < self.scene.servers[server].n_workers => {
                self.begin_service(call);
            }
            Conduct::Serves { .. } => self.servers[server].queue.push_back(call),
        }
    }

    fn begin_service(&mut self, call: usize) {
        let Call { server, started_us, .. } = self.calls[call];
        self.servers[server].n_busy += 1;
        let factor = match self.scene.servers[server].conduct(self.now_us) {
            Conduct::Serves { factor } => factor,
            Conduct::FailsFast | Conduct::Silent => 1.0,
        };
        let service_us = self.scene.service_us(self.services.normal()) * factor;
        // The deadline travels with the call, and no work goes on after it.
        let until_us = (self.now_us + service_us as u64).min(started_us + TIMEOUT_US);
        self.at(until_us.max(self.now_us + 1), Event::Served { call });
    }

    fn finish_service(&mut self, call: usize) {
        let Call { server, started_us, .. } = self.calls[call];
        self.servers[server].n_busy -= 1;
        if self.now_us < started_us + TIMEOUT_US {
            self.at(self.now_us + WIRE_US, Event::Answered { call });
        }
        while let Some(next) = self.servers[server].queue.pop_front() {
            if self.now_us < self.calls[next].started_us + TIMEOUT_US {
                self.begin_service(next);
                break;
            }
        }
    }

    fn end(&mut self, call: usize, outcome: Outcome) {
        let Call {
            client,
            server,
            key,
            started_us,
            ref mut held,
        } = self.calls[call];
        let Some(held) = held.take() else { return };
        held.finish(outcome, self.now_us);
        drop(held);
        self.ended.push(Ended {
            started_us,
            latency_us: self.now_us - started_us,
            server,
            key,
            is_good: outcome == Outcome::Answered,
        });
        if self.scene.has_ejection && self.clients[client].records[server].note(outcome, self.now_us) {
            self.renew(client);
        }
    }

    fn join(&mut self, server: usize) {
        self.servers[server].is_there = true;
        for client in 0..self.clients.len() {
            let caller = &self.clients[client];
            if self.now_us == 0 {
                caller.nodes[server].set_warm(0);
            } else {
                caller.nodes[server].set_ready(self.now_us, caller.expected_us);
            }
            self.renew(client);
        }
    }

    /// Makes the picker of `client` anew.
    fn renew(&mut self, client: usize) {
        let now_us = self.now_us;
        let client = &mut self.clients[client];
        let is_known = |server: &usize| self.servers[*server].is_there && !client.records[*server].is_cut;
        let known: Vec<usize> = (0..self.servers.len()).filter(is_known).collect();
        let is_out = |server: &&usize| now_us < client.records[**server].ejected_until_us;
        let n_out_max = known.len() / 2;
        let out: Vec<usize> = known.iter().filter(is_out).take(n_out_max).copied().collect();
        client.positions = known.into_iter().filter(|server| !out.contains(server)).collect();
        let nodes: Vec<_> = client
            .positions
            .iter()
            .map(|server| client.nodes[*server].clone())
            .collect();
        let n_nodes = nodes.len() as f64;
        let sum: f64 = nodes.iter().map(|node| node.latency_us(now_us)).sum();
        client.expected_us = (n_nodes > 0.0).then(|| sum / n_nodes);
        client.picker = Picker::new(self.balance, nodes, now_us, &client.draws);
    }
}

impl Client {
    fn new(scene: &Scene, balance: Balance, seed: u64) -> Self {
        let node = |(index, spec): (usize, &crate::balancers_scenes::Spec)| {
            Arc::new(Node::new(
                &format!("10.0.0.{index}:9080"),
                spec.weight,
                scene.slow_start_us,
            ))
        };
        let draws = Draws::new(Draws::new(seed).next());
        Self {
            nodes: scene.servers.iter().enumerate().map(node).collect(),
            records: scene.servers.iter().map(|_| Record::default()).collect(),
            picker: Picker::new(balance, Vec::new(), 0, &draws),
            positions: Vec::new(),
            expected_us: None,
            draws,
        }
    }
}

impl Record {
    /// Returns whether that was one failure too many.
    fn note(&mut self, outcome: Outcome, now_us: u64) -> bool {
        if outcome == Outcome::Answered {
            self.n_failures = 0;
            return false;
        }
        self.n_failures += 1;
        if self.n_failures != 5 || now_us < self.ejected_until_us {
            return false;
        }
        self.n_failures = 0;
        self.ejected_until_us = now_us + ((2 * SECOND) << self.n_ejections.min(4)).min(60 * SECOND);
        self.n_ejections += 1;
        true
    }
}

/// Seeded draws of the world, apart from those of the balancers.
struct Chance(Draws);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Draws::new(Draws::new(seed).next()))
    }

    /// Returns a number from 0 to below 1.
    fn unit(&self) -> f64 {
        (self.0.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// Returns a number of the standard normal distribution (Box and Muller 1958).
    fn normal(&self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
