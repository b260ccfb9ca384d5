//! Instances found through a registry: whoever comes, goes, lies or flaps, calls reach those who work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mosaic::config::{Live, Raw, Value as _};
use mosaic::registry::{Address, Instance, Options, Registry, ServiceName};
use mosaic::rpc::balance::Balance;
use mosaic::rpc::{Channel, ChannelOptions, Client, Connect as _, Routing};
use mosaic::{Caller, Code, Identity, Runtime, Secret, TaskGroup};
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_testing::{Shape, TestApp, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::stage::{Stage, act, traced};

const FRONT: Shape = Shape::Apart(&[&["edge", "front"]]);
const BACK: Shape = Shape::Apart(&[&["back"]]);
const ALL: Shape = Shape::Apart(&[&["edge", "front", "back"]]);

/// Everybody who announces and looks in one memory.
struct Town {
    stage: Stage,
    url: String,
    registry: std::sync::Arc<dyn Registry>,
    tasks: TaskGroup,
}

impl Town {
    fn new(name: &str) -> Self {
        let url = format!("memory:{name}");
        let tasks = TaskGroup::new(|_| {});
        let registry = mosaic::registry::open(&url, &Options::default(), &Runtime::system(), &tasks).unwrap();
        Self {
            stage: Stage::new(),
            url,
            registry,
            tasks,
        }
    }

    async fn start(&self, shape: Shape) -> TestApp {
        self.start_with(shape, &[]).await
    }

    async fn start_with(&self, shape: Shape, settings: &[(&str, &str)]) -> TestApp {
        let mut builder = self.stage.builder(shape).set("registry.url", &self.url);
        for (key, value) in settings {
            builder = builder.set(key, *value);
        }
        builder.start().await
    }

    fn announce(&self, address: &str) -> mosaic::registry::Registration {
        let name: ServiceName = "back".parse().unwrap();
        let address: Address = address.parse().unwrap();
        self.registry.register(&name, Instance::new(address))
    }
}

fn name_of(app: &TestApp) -> String {
    app.data(0).display().to_string()
}

/// Calls `n` times, one after the other; returns who answered how often.
async fn ask(client: &BackClient, n: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..n {
        let reply = client.act(&traced().0, act("", "asked")).await.expect("no call fails");
        *answers.entry(reply.by).or_default() += 1;
    }
    answers
}

#[tokio::test]
async fn instances_that_are_announced_are_found_and_share_the_work() {
    let town = Town::new("found");
    let front = town.start(FRONT).await;
    let client: BackClient = front.client("test");
    let error = client.act(&traced().0, act("", "")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "SERVICE_UNKNOWN"));
    let backs = [town.start(BACK).await, town.start(BACK).await];
    until("both are found", Duration::from_secs(5), || async {
        client.act(&traced().0, act("", "")).await.is_ok() && ask(&client, 20).await.len() == 2
    })
    .await;
    for app in backs.into_iter().chain([front]) {
        app.stop().await;
    }
}

/// A web server, which speaks no HTTP/2.
async fn web_server(tasks: &TaskGroup) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tasks.spawn("web", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who has gone does not read it.
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    address
}

#[tokio::test]
async fn entries_that_lead_nowhere_cost_no_call() {
    let town = Town::new("liars");
    // One that nobody listens on, one that never answers, one of the web, one of another service.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = web_server(&town.tasks).await;
    let foreign = town.stage.start(FRONT).await;
    let addresses = [
        "127.0.0.1:1".to_owned(),
        "no-such-host.invalid:80".to_owned(),
        silent.local_addr().unwrap().to_string(),
        web,
        foreign.processes()[0].addresses().grpc.to_string(),
    ];
    let _lies: Vec<_> = addresses.iter().map(|address| town.announce(address)).collect();
    let (front, back) = (town.start(FRONT).await, town.start(BACK).await);
    let client: BackClient = front.client("test");
    let name = name_of(&back);
    until("the good one is found", Duration::from_secs(5), || async {
        client.act(&traced().0, act("", "")).await.is_ok()
    })
    .await;
    let started = Instant::now();
    let answers = ask(&client, 200).await;
    assert_eq!(answers, BTreeMap::from([(name, 200)]));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for app in [front, back, foreign] {
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_flaps_a_hundred_times_a_second_costs_no_call() {
    let town = Town::new("flaps");
    let (front, stays, flaps) = (
        town.start(FRONT).await,
        town.start(BACK).await,
        town.stage.start(BACK).await,
    );
    let client: BackClient = front.client("test");
    until("the one that stays is found", Duration::from_secs(5), || async {
        client.act(&traced().0, act("", "")).await.is_ok()
    })
    .await;
    let address = flaps.processes()[0].addresses().grpc.to_string();
    let is_over = AtomicBool::new(false);
    let flap = async {
        for _ in 0..100 {
            let registration = town.announce(&address);
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(registration);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        is_over.store(true, Ordering::SeqCst);
    };
    let n_calls = AtomicUsize::new(0);
    let callers = (0..8).map(|_| async {
        while !is_over.load(Ordering::SeqCst) {
            n_calls.fetch_add(ask(&client, 10).await.values().sum(), Ordering::SeqCst);
        }
    });
    tokio::join!(flap, futures::future::join_all(callers));
    assert_eq!(
        town.stage.witness.seen("asked").n_done,
        n_calls.load(Ordering::SeqCst),
        "each once"
    );
    for app in [front, stays, flaps] {
        app.stop().await;
    }
}

#[tokio::test]
async fn a_share_of_the_calls_moves_out_of_the_process_and_back() {
    let town = Town::new("split");
    for (share, want) in [("0%", 0..=0), ("50%", 60..=140), ("100%", 200..=200)] {
        let settings = [("rpc.split.back", share)];
        let (whole, elsewhere) = (town.start_with(ALL, &settings).await, town.start(BACK).await);
        let client: BackClient = whole.client("test");
        let name = name_of(&elsewhere);
        if share != "0%" {
            until("the other is connected", Duration::from_secs(5), || async {
                ask(&client, 20).await.contains_key(&name)
            })
            .await;
        }
        let n_elsewhere = ask(&client, 200).await.get(&name).copied().unwrap_or_default();
        assert!(want.contains(&n_elsewhere), "{share}: {n_elsewhere}");
        elsewhere.stop().await;
        let answers = ask(&client, 50).await;
        assert_eq!(
            answers,
            BTreeMap::from([(name_of(&whole), 50)]),
            "it serves itself again"
        );
        whole.stop().await;
    }
}

#[tokio::test]
async fn callers_stay_at_their_instance_where_the_configuration_says_so() {
    let town = Town::new("affinity");
    let settings = [
        ("rpc.balancers.back", "consistent-hash"),
        ("rpc.affinity.back", "account"),
    ];
    let front = town.start_with(FRONT, &settings).await;
    let backs = [town.start(BACK).await, town.start(BACK).await, town.start(BACK).await];
    let client: BackClient = front.client("test");
    until("all are found", Duration::from_secs(5), || async {
        client.act(&traced().0, act("", "")).await.is_ok() && ask(&client, 60).await.len() == 3
    })
    .await;
    let mut homes = BTreeMap::<String, usize>::new();
    for account in 1..=30 {
        let identity = Identity {
            account: account.try_into().unwrap(),
            session: "s".into(),
            roles: Vec::new(),
            token: Secret::new(town.stage.token(account, &[])),
        };
        let cx = traced().0.with_caller(Caller::Account(identity.into()));
        let mut by = BTreeMap::<String, usize>::new();
        for _ in 0..10 {
            *by.entry(client.act(&cx, act("", "")).await.unwrap().by).or_default() += 1;
        }
        assert_eq!(by.len(), 1, "account {account} is sent about: {by:?}");
        *homes.entry(by.into_keys().next().unwrap()).or_default() += 1;
    }
    assert_eq!(homes.len(), 3, "all have a home at the same instance: {homes:?}");
    for app in backs.into_iter().chain([front]) {
        app.stop().await;
    }
}

#[tokio::test]
async fn an_instance_that_fails_its_calls_gets_none_for_a_while() {
    let town = Town::new("outlier");
    let settings = [
        ("guard.breaker", "off"),
        ("guard.retry", "off"),
        ("rpc.balancer", "round-robin"),
    ];
    let front = town.start_with(FRONT, &settings).await;
    let (good, bad) = (town.start(BACK).await, town.start(BACK).await);
    let client: BackClient = front.client("test");
    until("both are found", Duration::from_secs(5), || async {
        client.act(&traced().0, act("", "")).await.is_ok() && ask(&client, 20).await.len() == 2
    })
    .await;
    let bad_name = name_of(&bad);
    // The same request fails at one and not at the other.
    let picky = || ActRequest {
        by: bad_name.clone(),
        ..act("fail at", "")
    };
    let mut n_failed = 0;
    for _ in 0..100 {
        n_failed += usize::from(client.act(&traced().0, picky()).await.is_err());
    }
    assert_eq!(n_failed, 5, "five in a row, then it is out");
    for app in [front, good, bad] {
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_ten_times_slower_gets_few_calls_within_three_seconds() {
    let town = Town::new("slow");
    let front = town.start(FRONT).await;
    let backs = [town.start(BACK).await, town.start(BACK).await, town.start(BACK).await];
    let client: BackClient = front.client("test");
    until("all are found", Duration::from_secs(5), || async {
        client.act(&traced().0, act("", "")).await.is_ok() && ask(&client, 60).await.len() == 3
    })
    .await;
    let slow = name_of(&backs[0]);
    let started = Instant::now();
    // Calls of the fourth second on: all of them, and those at the slow one.
    let (n_late, n_late_slow) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let callers = (0..16).map(|_| async {
        while started.elapsed() < Duration::from_secs(5) {
            let request = ActRequest {
                by: slow.clone(),
                // Long beside what a busy machine adds to each call.
                ms: 20,
                ..act("slow at", "")
            };
            let reply = client.act(&traced().0, request).await.expect("slow is not wrong");
            if started.elapsed() > Duration::from_secs(3) {
                n_late.fetch_add(1, Ordering::SeqCst);
                n_late_slow.fetch_add(usize::from(reply.by == slow || reply.by.is_empty()), Ordering::SeqCst);
            }
        }
    });
    futures::future::join_all(callers).await;
    let (n_late, n_late_slow) = (n_late.into_inner(), n_late_slow.into_inner());
    assert!(n_late_slow * 20 < n_late, "{n_late_slow} of {n_late}");
    for app in backs.into_iter().chain([front]) {
        app.stop().await;
    }
}

/// Returns a client of `backs` that is no service of the platform.
fn client_of(backs: &[TestApp], options: ChannelOptions, routing: Routing) -> BackClient {
    let address = |back: &TestApp| Address::try_from(back.processes()[0].addresses().grpc).unwrap();
    let addresses: Vec<_> = backs.iter().map(address).collect();
    let channel = Channel::listed(
        &Runtime::system(),
        &addresses,
        BackClient::SERVICE.name,
        options,
        routing,
    );
    BackClient::from_client(Client::remote(BackClient::SERVICE, channel, "stranger"))
}

#[tokio::test]
async fn the_balancer_changes_while_calls_run() {
    let stage = Stage::new();
    let backs = [
        stage.start(BACK).await,
        stage.start(BACK).await,
        stage.start(BACK).await,
    ];
    let balancer = Live::new(Balance::RoundRobin);
    let routing = Routing {
        balancer: balancer.clone(),
        ..Routing::default()
    };
    let client = client_of(&backs, ChannelOptions::default(), routing);
    until("all are connected", Duration::from_secs(5), || async {
        ask(&client, 30).await.len() == 3
    })
    .await;
    let turns: Vec<_> = futures::future::join_all((0..3).map(|_| ask(&client, 1))).await;
    assert_eq!(
        turns
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .collect::<BTreeSet<_>>()
            .len(),
        3
    );
    // By a key that strangers do not have: then at random, as no round robin would.
    let change = balancer.setter().expect("a live value can be set");
    change(&Raw::Text("consistent-hash".to_owned())).unwrap();
    until("another balancer picks", Duration::from_secs(5), || async {
        let mut runs = 0;
        let mut before = String::new();
        for _ in 0..60 {
            let name = ask(&client, 1).await.into_keys().next().unwrap();
            runs += usize::from(name == before);
            before = name;
        }
        runs > 5
    })
    .await;
    for app in backs {
        app.stop().await;
    }
}

#[tokio::test]
async fn a_client_of_a_large_fleet_knows_a_part_of_it() {
    let stage = Stage::new();
    let backs = [
        stage.start(BACK).await,
        stage.start(BACK).await,
        stage.start(BACK).await,
        stage.start(BACK).await,
    ];
    let options = ChannelOptions {
        subset: 2,
        ..ChannelOptions::default()
    };
    let mut known = BTreeSet::new();
    for _ in 0..12 {
        let client = client_of(&backs, options.clone(), Routing::default());
        until("both are connected", Duration::from_secs(5), || async {
            ask(&client, 20).await.len() == 2
        })
        .await;
        let names: BTreeSet<_> = ask(&client, 40).await.into_keys().collect();
        assert_eq!(names.len(), 2, "always the same two");
        known.extend(names);
    }
    assert_eq!(known.len(), 4, "clients choose differently");
    for app in backs {
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_replaced_under_load_and_no_call_fails() {
    let stage = Stage::new();
    let backs = [stage.start(BACK).await];
    let options = ChannelOptions {
        max_age: Duration::from_millis(100),
        ..ChannelOptions::default()
    };
    let client = client_of(&backs, options, Routing::default());
    let started = Instant::now();
    let callers = (0..8).map(|_| async {
        let mut n_calls = 0;
        while started.elapsed() < Duration::from_secs(2) {
            let request = ActRequest {
                ms: 2,
                ..act("", "aged")
            };
            client.act(&traced().0, request).await.expect("no call fails");
            n_calls += 1;
        }
        n_calls
    });
    let n_calls: usize = futures::future::join_all(callers).await.into_iter().sum();
    assert_eq!(stage.witness.seen("aged").n_done, n_calls, "each once");
    for app in backs {
        app.stop().await;
    }
}
