//! Keeps one instance listed in etcd, for ever.
//!
//! A lease is granted, the key is put under it, and from then on every third of the lease is one round: prolong the
//! lease, look whether the key is there. Whatever is missing is made again: the lease after an outage longer than it, the
//! key after somebody removed it, both after etcd lost its data. The task has no state in which it gives up.
//!
//! An instance goes with its lease, not by its key: a process that has taken over the address meanwhile has put the key
//! under a lease of its own, and keeps it.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::Runtime;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::client::Client;
use super::entry::{Layout, write};
use super::wire::{PutRequest, RangeRequest};
use crate::backoff::Backoff;
use crate::keeper::{Keeper, Wanted};
use crate::{Instance, ServiceName};

/// How long an instance that goes tries to say so; then its lease ends by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(2500);

/// What an instance is kept with.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Layout,
    pub(crate) service: ServiceName,
    pub(crate) ttl: Duration,
    pub(crate) runtime: Runtime,
}

/// What we believe to be in etcd.
#[derive(Debug, Default)]
struct Believed {
    lease: Option<i64>,
    written: Option<Instance>,
}

impl Keep {
    /// Makes etcd agree with what is wanted until nothing is wanted any more.
    pub(crate) async fn run(self, mut keeper: Keeper) {
        let mut believed = Believed::default();
        let mut backoff = Backoff::new(&self.runtime);
        // Until when the lease holds, as far as we know.
        let mut holds_until = Instant::now();
        while let Wanted::Listed(instance) = keeper.wanted() {
            let begun = Instant::now();
            let mut returns = self.client.returns();
            let agreed = {
                let told = keeper.clone();
                tokio::select! {
                    // A call that is cut short is repeated, or undone with the lease.
                    () = keeper.changed() => continue,
                    agreed = self.agree(&mut believed, &instance, &told) => agreed,
                }
            };
            let pause = async {
                match agreed {
                    Ok(()) => {
                        holds_until = begun + self.ttl;
                        keeper.listed(&instance);
                        backoff.reset();
                        tokio::time::sleep(self.ttl / 3).await;
                    }
                    Err(status) => {
                        if Instant::now() >= holds_until {
                            keeper.lost(status.message());
                        }
                        tokio::select! {
                            () = backoff.pause() => {}
                            _ = returns.changed() => {}
                        }
                    }
                }
            };
            let mut heard = keeper.clone();
            tokio::select! {
                () = heard.changed() => {}
                () = pause => {}
            }
        }
        keeper.ended(self.leave(believed.lease).await);
    }

    /// One round: lease and key are there when this returns.
    async fn agree(&self, believed: &mut Believed, instance: &Instance, keeper: &Keeper) -> Result<(), Status> {
        if let Some(lease) = believed.lease
            && !self.client.keep_alive(lease).await?
        {
            keeper.lost("its lease has ended");
            *believed = Believed::default();
        }
        let lease = match believed.lease {
            Some(lease) => lease,
            None => *believed.lease.insert(self.client.grant(self.ttl).await?),
        };
        if believed.written.as_ref() == Some(instance) {
            if self.is_there(instance).await? {
                return Ok(());
            }
            keeper.lost("its key was removed");
        }
        let request = PutRequest {
            key: self.layout.key(&self.service, &instance.address).into(),
            value: write(instance),
            lease,
        };
        believed.written = None;
        match self.client.put(request).await {
            Ok(()) => believed.written = Some(instance.clone()),
            Err(status) => {
                if status.code() == Code::NotFound {
                    believed.lease = None;
                }
                return Err(status);
            }
        }
        Ok(())
    }

    async fn is_there(&self, instance: &Instance) -> Result<bool, Status> {
        let request = RangeRequest {
            key: self.layout.key(&self.service, &instance.address).into(),
            count_only: true,
            ..RangeRequest::default()
        };
        Ok(self.client.range(request).await?.count > 0)
    }

    /// Returns whether etcd has agreed that we are gone.
    async fn leave(&self, lease: Option<i64>) -> bool {
        let Some(lease) = lease else {
            return true;
        };
        let mut backoff = Backoff::new(&self.runtime);
        let revoke = async {
            while self.client.revoke(lease).await.is_err() {
                backoff.pause().await;
            }
        };
        tokio::time::timeout(LEAVE_TIMEOUT, revoke).await.is_ok()
    }
}
