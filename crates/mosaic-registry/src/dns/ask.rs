//! One question to DNS and what its answer means.
//!
//! IPv6 addresses count only where there is no IPv4 one: a host with both would be two instances, and get twice its share.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use crate::feed::Publisher;
use crate::{Address, Instance, ServiceName};

/// Targets of one service that are followed; more is a mistake in the zone.
const N_TARGETS_MAX: usize = 1000;
/// What a weight is at most.
const WEIGHT_MAX: u32 = 1000;

/// What is asked, with `{service}` for the name of the service.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// Addresses of a name, all with the same port.
    Host { template: String, port: u16 },
    /// SRV records: targets, each with port, weight and priority.
    Service { template: String },
}

impl Question {
    pub(super) fn template(&self) -> &str {
        match self {
            Self::Host { template, .. } | Self::Service { template } => template,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) resolver: TokioResolver,
    pub(super) question: Question,
}

/// What DNS said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) instances: Vec<Instance>,
    /// How long it holds, if it says so.
    pub(super) ttl: Option<Duration>,
}

impl Ask {
    /// Asks; an error is the text of why there is no answer.
    pub(super) async fn instances(&self, service: &ServiceName, publisher: &Publisher) -> Result<Answer, String> {
        let name = self.question.template().replace("{service}", service.as_str());
        match &self.question {
            Question::Host { port, .. } => {
                let (ips, ttl) = self.ips(&name).await?;
                let instances = ips.into_iter().filter_map(|ip| instance(ip, *port)).collect();
                Ok(Answer { instances, ttl })
            }
            Question::Service { .. } => self.targets(&name, publisher).await,
        }
    }

    async fn targets(&self, name: &str, publisher: &Publisher) -> Result<Answer, String> {
        let records = self.records(name, RecordType::SRV).await?;
        let mut ttl = ttl_of(&records);
        let targets: Vec<&SRV> = records.iter().filter_map(|record| srv(&record.data)).collect();
        let heaviest = targets.iter().map(|target| u32::from(target.weight)).max().unwrap_or(0);
        let mut instances = Vec::new();
        for target in targets.into_iter().take(N_TARGETS_MAX) {
            // RFC 2782: a target that is the root says that there is no such service.
            if target.target.is_root() {
                continue;
            }
            let host = target.target.to_ascii();
            let (ips, ttl_of_host) = self.ips(&host).await?;
            if ips.is_empty() {
                publisher.garbage(&host, "the target has no address");
            }
            ttl = [ttl, ttl_of_host].into_iter().flatten().min();
            let weight = scaled(u32::from(target.weight), heaviest);
            instances.extend(
                ips.into_iter()
                    .filter_map(|ip| instance(ip, target.port))
                    .map(|instance| {
                        instance
                            .with("weight", weight.to_string())
                            .with("priority", target.priority.to_string())
                    }),
            );
        }
        Ok(Answer { instances, ttl })
    }

    async fn ips(&self, name: &str) -> Result<(Vec<IpAddr>, Option<Duration>), String> {
        let mut records = self.records(name, RecordType::A).await?;
        if records.is_empty() {
            records = self.records(name, RecordType::AAAA).await?;
        }
        let ips = records.iter().filter_map(|record| record.data.ip_addr());
        Ok((ips.collect(), ttl_of(&records)))
    }

    /// Returns the records, none if DNS says that there are none.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, String> {
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) => Ok(lookup.answers().to_vec()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(describe(name, &error)),
        }
    }
}

fn describe(name: &str, error: &NetError) -> String {
    format!("DNS about {name}: {error}")
}

fn srv(data: &RData) -> Option<&SRV> {
    if let RData::SRV(srv) = data { Some(srv) } else { None }
}

fn instance(ip: IpAddr, port: u16) -> Option<Instance> {
    Address::new(&ip.to_string(), port).ok().map(Instance::new)
}

fn ttl_of(records: &[Record]) -> Option<Duration> {
    let ttl = records.iter().map(|record| record.ttl).min();
    ttl.map(|secs| Duration::from_secs(secs.into()))
}

/// Fits weights, at most 65,535 in DNS, into our range with their proportions; zero means hardly ever.
fn scaled(weight: u32, heaviest: u32) -> u32 {
    if heaviest > WEIGHT_MAX {
        (weight * WEIGHT_MAX / heaviest).max(1)
    } else {
        weight.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_proportions() {
        assert_eq!([0, 10, 60].map(|weight| scaled(weight, 60)), [1, 10, 60]);
        assert_eq!([0, 6553, 65535].map(|weight| scaled(weight, 65535)), [1, 99, 1000]);
    }
}
