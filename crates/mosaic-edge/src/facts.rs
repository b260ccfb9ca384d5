//! What the border knows of a request before anybody has looked into it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use mosaic_core::{Origin, Runtime, Trace};

use crate::listen::Arrival;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Facts of one request, carried from layer to layer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Trace of the request; its id is the request id.
    pub trace: Trace,
    /// Address and agent of the client.
    pub origin: Origin,
}

impl Facts {
    /// Reads the facts: a trace of the client's is continued, an address is taken from a header only if the peer is a
    /// proxy that we trust.
    pub(crate) fn read(runtime: &Runtime, headers: &HeaderMap, arrival: Option<Arrival>, trusted: &[IpAddr]) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let trace = text(TRACEPARENT)
            .and_then(Trace::parse)
            .unwrap_or_else(|| Trace::start(runtime));
        let ip = arrival.map(|arrival| {
            let peer = arrival.peer.ip().to_canonical();
            if trusted.contains(&peer) {
                forwarded(text(FORWARDED_FOR), trusted).unwrap_or(peer)
            } else {
                peer
            }
        });
        let user_agent = text(header::USER_AGENT)
            .filter(|agent| agent.len() <= 512)
            .map(Arc::from);
        Self {
            trace,
            origin: Origin { ip, user_agent },
        }
    }
}

/// Returns the last address of the list that is not one of our own proxies: what stands before it, a client may forge.
fn forwarded(list: Option<&str>, trusted: &[IpAddr]) -> Option<IpAddr> {
    let hops = list?.rsplit(',').map(|hop| hop.trim().parse::<IpAddr>());
    hops.map_while(Result::ok).find(|ip| !trusted.contains(ip))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_forwarded_address_is_believed_from_a_trusted_proxy_only() {
        #[track_caller]
        fn check(peer: &str, header: &str, want: &str) {
            let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            let arrival = Arrival {
                peer: SocketAddr::new(peer.parse().unwrap(), 1),
                has_two_lengths: false,
            };
            let facts = Facts::read(&Runtime::system(), &headers, Some(arrival), &trusted);
            assert_eq!(facts.origin.ip, Some(want.parse().unwrap()));
        }
        check("9.9.9.9", "1.2.3.4", "9.9.9.9");
        check("10.0.0.1", "1.2.3.4", "1.2.3.4");
        check("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4");
        check("10.0.0.1", "garbage", "10.0.0.1");
        check("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4");
    }
}
