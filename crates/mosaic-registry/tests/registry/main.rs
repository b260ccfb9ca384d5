//! One contract over every registry, and for each what only it can go wrong with.
//!
//! Where others write the registry (DNS, Kubernetes), a fixture plays them. etcd is the real program, started by the
//! tests on ports and data of their own, because they kill it, wipe it and start it again.

mod api_server;
mod contract;
mod dns;
mod dns_server;
mod double;
mod embedded;
mod etcd;
mod etcd_security;
mod etcd_server;
mod kubernetes;
mod observed;
mod proxy;
mod stage;
