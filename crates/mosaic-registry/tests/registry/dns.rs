//! DNS: the contract over addresses and over SRV records, and what only DNS can say.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData};
use mosaic_core::{Runtime, TaskGroup};
use mosaic_registry::{Instance, Options, RegistryError, open};

use crate::contract::{contract, outage_contract};
use crate::dns_server::DnsServer;
use crate::stage::{Breakable, Process, Stage, addresses_of, at, sees, soon};

const ONE: &str = "10.0.0.1:9080";
const TWO: &str = "10.0.0.2:9080";

/// Addresses of one name, one port for all.
struct Hosts(DnsServer);

impl Hosts {
    fn url(&self, query: &str) -> String {
        format!(
            "dns://{}/?port=9080&name={{service}}.internal&{query}",
            self.0.address()
        )
    }
}

#[async_trait]
impl Stage for Hosts {
    const HAS_METADATA: bool = false;

    async fn new() -> Option<Self> {
        Some(Self(DnsServer::start().await))
    }

    fn open(&self) -> Process {
        Process::open(&self.url("interval=1s&min_interval=20ms"), &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        self.0
            .add(&format!("{service}.internal"), address(instance.address.host()));
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        let data = self::address(at(address).address.host());
        let mut zone = self.0.zone();
        let records = zone.records.get_mut(&format!("{service}.internal.")).expect("a name");
        records.retain(|record| *record != data);
    }
}

#[async_trait]
impl Breakable for Hosts {
    async fn break_down(&mut self) {
        self.0.stop().await;
    }

    async fn mend(&mut self) {
        self.0.run_again().await;
    }
}

/// SRV records, a target for each instance.
struct Services(DnsServer);

#[async_trait]
impl Stage for Services {
    const HAS_METADATA: bool = false;

    async fn new() -> Option<Self> {
        Some(Self(DnsServer::start().await))
    }

    fn open(&self) -> Process {
        let query = "srv=_grpc._tcp.{service}.example.com&interval=1s&min_interval=20ms";
        Process::open(&format!("dns://{}/?{query}", self.0.address()), &Options::default())
    }

    async fn announce(&mut self, service: &str, instance: Instance) {
        let (host, port) = (instance.address.host(), instance.address.port());
        let target = format!("h-{}.example.com", host.replace('.', "-"));
        self.0.zone().records.remove(&format!("{target}."));
        self.0.add(&target, address(host));
        self.0.add(&srv_name(service), srv(0, 1, port, &target));
    }

    async fn withdraw(&mut self, service: &str, address: &str) {
        let host = at(address).address.host().replace('.', "-");
        let target = format!("h-{host}.example.com.");
        let mut zone = self.0.zone();
        let records = zone
            .records
            .get_mut(&format!("{}.", srv_name(service)))
            .expect("a name");
        records.retain(|record| !matches!(record, RData::SRV(srv) if srv.target.to_ascii() == target));
    }
}

#[async_trait]
impl Breakable for Services {
    async fn break_down(&mut self) {
        self.0.stop().await;
    }

    async fn mend(&mut self) {
        self.0.run_again().await;
    }
}

mod hosts {
    use super::*;
    contract!(Hosts);
    outage_contract!(Hosts);
}

mod services {
    use super::*;
    contract!(Services);
    outage_contract!(Services);
}

fn address(ip: &str) -> RData {
    ip.parse::<IpAddr>().expect("an IP address").into()
}

fn srv_name(service: &str) -> String {
    format!("_grpc._tcp.{service}.example.com")
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    let target = Name::from_ascii(format!("{target}.")).expect("a name");
    RData::SRV(SRV::new(priority, weight, port, target))
}

#[tokio::test]
async fn weight_port_and_priority_are_those_of_the_records() {
    let stage = Services::new().await.unwrap();
    stage.0.add("a.example.com", address("10.0.0.1"));
    stage.0.add("b.example.com", address("10.0.0.2"));
    stage.0.add(&srv_name("users"), srv(10, 60, 9080, "a.example.com"));
    stage.0.add(&srv_name("users"), srv(20, 0, 9081, "b.example.com"));
    stage.0.add(&srv_name("users"), srv(10, 1, 9082, "missing.example.com"));
    let snapshot = sees(&mut stage.open().watch("users"), &[ONE, "10.0.0.2:9081"]).await;
    let facts = snapshot
        .instances()
        .iter()
        .map(|found| (found.priority(), found.weight()));
    assert_eq!(facts.collect::<Vec<_>>(), [(10, 60), (20, 1)]);
}

#[tokio::test]
async fn failures_of_a_server_that_answers_change_nothing() {
    let mut stage = Hosts::new().await.unwrap();
    stage.announce("users", at(ONE)).await;
    let mut watch = stage.open().watch("users");
    let before = sees(&mut watch, &[ONE]).await;
    for failure in [ResponseCode::ServFail, ResponseCode::Refused] {
        stage.0.zone().failure = Some(failure);
        soon("the failure to be noticed", async {
            while watch.is_live() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(watch.current().as_deref(), Some(&*before));
        stage.0.zone().failure = None;
        soon("the end of it to be noticed", async {
            while !watch.is_live() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_name_that_is_missing_for_a_moment_empties_nothing() {
    let mut stage = Hosts::new().await.unwrap();
    stage.announce("users", at(ONE)).await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    soon("one answer without the name", async {
        let asked = |stage: &Hosts| stage.0.zone().n_asked["users.internal."];
        let (n_before, records) = (asked(&stage), std::mem::take(&mut stage.0.zone().records));
        while asked(&stage) == n_before {
            tokio::task::yield_now().await;
        }
        stage.0.zone().records = records;
    })
    .await;
    stage.announce("users", at(TWO)).await;
    let mut seen = watch.clone();
    let next = soon("the next snapshot", seen.changed()).await.expect("a snapshot");
    assert_eq!(addresses_of(&next), [ONE, TWO], "nothing in between");
}

#[tokio::test]
async fn a_name_that_is_gone_for_good_is_believed() {
    let mut stage = Hosts::new().await.unwrap();
    stage.announce("users", at(ONE)).await;
    let mut watch = stage.open().watch("users");
    sees(&mut watch, &[ONE]).await;
    stage.0.zone().records.clear();
    sees(&mut watch, &[]).await;
    assert!(watch.is_live());
}

#[tokio::test]
async fn nobody_asks_again_before_an_answer_has_ended() {
    let stage = Hosts::new().await.unwrap();
    stage.0.zone().ttl_secs = 3600;
    stage.0.add("users.internal", address("10.0.0.1"));
    let process = Process::open(&stage.url("interval=1h&min_interval=10ms"), &Options::default());
    sees(&mut process.watch("users"), &[ONE]).await;
    stage.0.zone().ttl_secs = 0;
    stage.0.add("other.internal", address("10.0.0.2"));
    let _other = process.watch("other");
    let n_asked = |name: &str| stage.0.zone().n_asked.get(name).copied().unwrap_or(0);
    soon("many questions for the other", async {
        while n_asked("other.internal.") < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(n_asked("users.internal."), 1);
}

#[tokio::test]
async fn a_long_time_to_live_does_not_outlast_the_interval() {
    let stage = Hosts::new().await.unwrap();
    stage.0.zone().ttl_secs = 86_400;
    stage.0.add("users.internal", address("10.0.0.1"));
    let process = Process::open(&stage.url("interval=50ms&min_interval=10ms"), &Options::default());
    let mut watch = process.watch("users");
    sees(&mut watch, &[ONE]).await;
    stage.0.add("users.internal", address("10.0.0.2"));
    sees(&mut watch, &[ONE, TWO]).await;
}

#[tokio::test]
async fn a_host_of_both_families_is_one_instance() {
    let stage = Hosts::new().await.unwrap();
    stage.0.add("both.internal", address("10.0.0.1"));
    stage.0.add("both.internal", address("fd00::1"));
    stage.0.add("new.internal", address("fd00::1"));
    let process = stage.open();
    sees(&mut process.watch("both"), &[ONE]).await;
    sees(&mut process.watch("new"), &["[fd00::1]:9080"]).await;
}

#[tokio::test]
async fn mistakes_in_a_url_are_told() {
    let tasks = TaskGroup::new(|_| {});
    for url in [
        "dns://127.0.0.1/",
        "dns://127.0.0.1/?port=0",
        "dns://127.0.0.1/?port=http",
        "dns://127.0.0.1/?port=80&srv=_grpc._tcp.{service}",
        "dns://127.0.0.1/?port=80&name=users.internal",
        "dns://127.0.0.1/?port=80&interval=1s&min_interval=2s",
        "dns://127.0.0.1/?port=80&interval=0",
        "dns://ns.example.com/?port=80",
        "dns://127.0.0.1/zone?port=80",
        "dns://a:b@127.0.0.1/?port=80",
        "dns://127.0.0.1/?port=80&ttl=5s",
    ] {
        let opened = open(url, &Options::default(), &Runtime::system(), &tasks);
        assert!(matches!(opened, Err(RegistryError::Url(_))), "{url}");
    }
    for url in ["dns://127.0.0.1/?port=80", "dns://[::1]:5353,10.0.0.1?srv={service}.x"] {
        assert!(
            open(url, &Options::default(), &Runtime::system(), &tasks).is_ok(),
            "{url}"
        );
    }
}
