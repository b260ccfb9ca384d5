//! Settings of the HTTP border; the defaults are the limits we promise.

use std::net::IpAddr;
use std::time::Duration;

use mosaic_core::config::{ByteSize, Live};

mosaic_core::config! {
    /// Limits and manners of the public HTTP port.
    pub struct EdgeConfig in "edge" {
        /// Connections that are open at once; more wait in the accept queue of the kernel.
        pub max_connections: usize = "10000",
        /// Connections that are open at once from one address; the loopback address has no such cap.
        pub max_connections_per_ip: usize = "1000",
        /// Time in which a new connection must send its first byte.
        pub first_byte_timeout: Duration = "5s",
        /// Time in which the head of a request must be complete.
        pub header_timeout: Duration = "5s",
        /// Time in which the body of a request must be complete.
        pub body_timeout: Duration = "30s",
        /// Time that an open connection may stay without a request.
        pub idle_timeout: Duration = "60s",
        /// Time that one request may take from its head to its answer.
        pub request_timeout: Duration = "30s",
        /// Largest JSON body.
        pub max_body: ByteSize = "64KiB",
        /// Requests that are worked on at once; more are answered 503 at once.
        pub max_in_flight: Live<usize> = "2000",
        /// Requests a second that one address may make on average; 0, and the loopback address, have no limit.
        pub rate_per_ip: Live<u32> = "500",
        /// Web origins that may call with credentials.
        pub cors_origins: Vec<String> = "http://localhost:3000",
        /// Proxies whose X-Forwarded-For is believed.
        pub trusted_proxies: Vec<IpAddr> = "",
        /// Mark cookies as Secure; unset: in production.
        pub secure_cookies: Option<bool> = "",
        /// Write a log line for each request.
        pub access_log: Live<bool> = "true",
        /// Write request bodies to the access log, secrets masked.
        pub log_bodies: Live<bool> = "false",
    }
}
