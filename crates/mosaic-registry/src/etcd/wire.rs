//! The messages of etcd, generated from `proto/etcd`.

#![expect(unreachable_pub, reason = "generated")]

pub(crate) mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

pub(crate) mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

pub(crate) use etcdserverpb::*;
pub(crate) use mvccpb::{Event, KeyValue, event::EventType};
