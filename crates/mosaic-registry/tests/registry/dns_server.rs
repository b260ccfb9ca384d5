//! A DNS server of a test's own: a zone in memory, over UDP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the server knows.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    /// By name, in lower case and with its last dot.
    pub(crate) records: HashMap<String, Vec<RData>>,
    pub(crate) ttl_secs: u32,
    /// Answered to everything instead of records.
    pub(crate) failure: Option<ResponseCode>,
    /// Questions for addresses or services so far, by name.
    pub(crate) n_asked: HashMap<String, usize>,
}

pub(crate) struct DnsServer {
    zone: Arc<Mutex<Zone>>,
    address: SocketAddr,
    /// Dropped, the server is gone.
    running: JoinSet<()>,
}

impl DnsServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let mut server = Self {
            zone: Arc::default(),
            address: socket.local_addr().expect("an address"),
            running: JoinSet::new(),
        };
        server.serve(socket);
        server
    }

    pub(crate) async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    pub(crate) async fn run_again(&mut self) {
        let socket = UdpSocket::bind(self.address).await.expect("the port of before");
        self.serve(socket);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().expect("no panic")
    }

    /// Adds a record to a name.
    pub(crate) fn add(&self, name: &str, data: RData) {
        self.zone().records.entry(format!("{name}.")).or_default().push(data);
    }

    fn serve(&mut self, socket: UdpSocket) {
        let zone = self.zone.clone();
        self.running.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let query = Message::from_vec(&buffer[..len]).expect("a DNS message");
                let reply = answer(&mut zone.lock().expect("no panic"), &query);
                let _ = socket.send_to(&reply.to_vec().expect("a message"), from).await;
            }
        });
    }
}

fn answer(zone: &mut Zone, query: &Message) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let Some(question) = query.queries.first() else {
        return reply;
    };
    reply.add_query(question.clone());
    let name = question.name().to_ascii().to_lowercase();
    if question.query_type() != RecordType::AAAA {
        *zone.n_asked.entry(name.clone()).or_default() += 1;
    }
    reply.metadata.response_code = match (zone.failure, zone.records.get(&name)) {
        (Some(failure), _) => failure,
        (None, None) => ResponseCode::NXDomain,
        (None, Some(_)) => ResponseCode::NoError,
    };
    if zone.failure.is_none() {
        let records = zone.records.get(&name).into_iter().flatten();
        for data in records.filter(|data| data.record_type() == question.query_type()) {
            reply.add_answer(Record::from_rdata(question.name().clone(), zone.ttl_secs, data.clone()));
        }
    }
    reply
}
