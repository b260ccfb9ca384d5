//! DNS (`dns://`), where something else writes the names: Consul, Kubernetes' headless services, a zone file.
//!
//! DNS tells nobody of a change, so it is asked again whenever an answer has ended, within bounds of our own: answers
//! with a time to live of zero must not become a storm, nor those of a day leave calls with the dead. Asked by a resolver
//! of ours, because the one of the system hides both the time to live and the difference between "no" and "no answer".
//!
//! - An answer that fails (SERVFAIL, REFUSED, a timeout) changes nothing.
//! - "There is no such name" and "it has no addresses" are answers. As these are also what a mistake in a zone looks
//!   like, instances that are known go only after three of them in a row.
//!
//! Registering succeeds and changes nothing: the names are written by others.

mod ask;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use mosaic_core::{Runtime, TaskGroup};

use self::ask::{Answer, Ask, Question};
use crate::backoff::Backoff;
use crate::feed::{Feeds, Publisher};
use crate::location::Location;
use crate::{Instance, Registration, Registry, RegistryError, ServiceName, Watch};

const PORT: u16 = 53;
/// Longest wait for an answer of a server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const MIN_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL_LEAST: Duration = Duration::from_millis(10);
const INTERVAL_MOST: Duration = Duration::from_secs(3600);
/// Answers in a row that name nobody until they are believed over what is known.
const N_EMPTY_BELIEVED: u32 = 3;

#[derive(Debug)]
pub(crate) struct DnsRegistry {
    ask: Ask,
    pace: Pace,
    feeds: Feeds,
    runtime: Runtime,
}

/// Bounds of the time between two questions.
#[derive(Debug, Clone, Copy)]
struct Pace {
    least: Duration,
    most: Duration,
}

impl DnsRegistry {
    /// Opens `dns://[server[:53],..]/?port=9080[&name={service}]` or `dns://[server[:53],..]/?srv=_grpc._tcp.{service}`,
    /// both with `[&interval=30s&min_interval=1s]`.
    pub(crate) fn open(mut location: Location, runtime: &Runtime, tasks: &TaskGroup) -> Result<Self, RegistryError> {
        let ask = Ask {
            resolver: resolver(&location.hosts)?,
            question: question(&mut location)?,
        };
        let bounds = INTERVAL_LEAST..=INTERVAL_MOST;
        let most = location.take_duration("interval", INTERVAL_DEFAULT, bounds.clone())?;
        let least = location.take_duration("min_interval", MIN_INTERVAL_DEFAULT.min(most), bounds)?;
        if least > most {
            return Err(RegistryError::Url("min_interval is longer than interval".to_owned()));
        }
        if location.login.is_some() || !location.path.is_empty() {
            return Err(RegistryError::Url("dns takes no user and no path".to_owned()));
        }
        location.finish()?;
        Ok(Self {
            ask,
            pace: Pace { least, most },
            feeds: Feeds::new(runtime, tasks),
            runtime: runtime.clone(),
        })
    }
}

fn question(location: &mut Location) -> Result<Question, RegistryError> {
    let port = location.take_parsed("port", "a port")?;
    let (name, srv) = (location.take("name"), location.take("srv"));
    let question = match (name, srv, port) {
        (None, Some(template), None) => Question::Service { template },
        (name, None, Some(port)) if port != 0 => Question::Host {
            template: name.unwrap_or_else(|| "{service}".to_owned()),
            port,
        },
        _ => {
            return Err(RegistryError::Url(
                "dns needs either port, and perhaps name, or srv".to_owned(),
            ));
        }
    };
    if question.template().contains("{service}") {
        Ok(question)
    } else {
        Err(RegistryError::Url(
            "name and srv must have {service} in them".to_owned(),
        ))
    }
}

/// Makes a resolver of these servers, or of those of the system.
fn resolver(servers: &[String]) -> Result<TokioResolver, RegistryError> {
    let unusable = |_| RegistryError::Url("the system names no DNS server".to_owned());
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(unusable)?
    } else {
        let servers = servers
            .iter()
            .map(|server| name_server(server))
            .collect::<Result<_, _>>()?;
        TokioResolver::builder_with_config(
            ResolverConfig::from_parts(None, Vec::new(), servers),
            TokioRuntimeProvider::default(),
        )
    };
    let options = builder.options_mut();
    options.timeout = ANSWER_TIMEOUT;
    options.attempts = 1;
    // We ask when an answer has ended; a cache could only answer late.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(unusable)
}

fn name_server(text: &str) -> Result<NameServerConfig, RegistryError> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = text
        .parse()
        .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)))
        .map_err(|_| RegistryError::Url("a DNS server is an IP address, perhaps with a port".to_owned()))?;
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    Ok(NameServerConfig::new(address.ip(), true, connections.to_vec()))
}

impl Registry for DnsRegistry {
    fn register(&self, _service: &ServiceName, _instance: Instance) -> Registration {
        Registration::by_others()
    }

    fn watch(&self, service: &ServiceName) -> Watch {
        let (ask, pace, runtime) = (self.ask.clone(), self.pace, self.runtime.clone());
        self.feeds.watch(service, move |publisher| {
            follow(ask.clone(), pace, runtime.clone(), publisher)
        })
    }
}

async fn follow(ask: Ask, pace: Pace, runtime: Runtime, publisher: Publisher) {
    let mut backoff = Backoff::new(&runtime);
    let mut belief = Belief::default();
    loop {
        match ask.instances(publisher.service(), &publisher).await {
            Ok(Answer { instances, ttl }) => {
                backoff.reset();
                publisher.alive();
                if belief.accepts(instances.len()) {
                    publisher.publish(instances);
                }
                tokio::time::sleep(ttl.unwrap_or(pace.least).clamp(pace.least, pace.most)).await;
            }
            Err(cause) => {
                publisher.lost(&cause);
                backoff.pause().await;
            }
        }
    }
}

/// Whether an answer is believed.
#[derive(Debug, Default)]
struct Belief {
    is_somebody_known: bool,
    n_empty: u32,
}

impl Belief {
    fn accepts(&mut self, n_instances: usize) -> bool {
        if n_instances > 0 {
            *self = Self {
                is_somebody_known: true,
                n_empty: 0,
            };
            return true;
        }
        self.n_empty += 1;
        if self.n_empty >= N_EMPTY_BELIEVED {
            self.is_somebody_known = false;
        }
        !self.is_somebody_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_believed_at_once_only_where_nobody_was_known() {
        let mut belief = Belief::default();
        assert!(belief.accepts(0));
        assert!(belief.accepts(2));
        assert_eq!([0, 0].map(|n| belief.accepts(n)), [false, false]);
        assert!(belief.accepts(1));
        assert_eq!([0, 0, 0, 0].map(|n| belief.accepts(n)), [false, false, true, true]);
    }
}
