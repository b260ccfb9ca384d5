//! An engine in memory: for one process, and for tests that hold time still.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Result, Runtime, Timestamp};

use crate::lease::{Acquired, Holder, Lease, Leases, NodeLoad, check_names, read_load, stored_load};

/// See the module documentation.
#[derive(Debug)]
pub struct MemoryLeases {
    runtime: Runtime,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    leases: BTreeMap<String, Row>,
    loads: BTreeMap<(String, String), (i64, Timestamp)>,
}

#[derive(Debug)]
struct Row {
    holder: String,
    fence: i64,
    until: Timestamp,
}

impl MemoryLeases {
    /// Makes an engine that goes by the clock of `runtime`.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sets the end of a lease that is still `lease`'s at `now`; says whether it was.
    fn set_end(&mut self, lease: &Lease, now: Timestamp, until: Timestamp) -> bool {
        match self.leases.get_mut(&lease.name) {
            Some(row) if row.fence == lease.fence && row.until > now => {
                row.until = until;
                true
            }
            _ => false,
        }
    }
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Acquired> {
        check_names(&[name, holder])?;
        let now = self.runtime.now();
        let mut state = self.state();
        let fence = match state.leases.get(name) {
            Some(row) if row.until > now => {
                return Ok(Acquired::Theirs(Holder {
                    holder: row.holder.clone(),
                    fence: row.fence,
                    remaining: row.until.since(now),
                }));
            }
            Some(row) => row.fence + 1,
            None => 1,
        };
        let row = Row {
            holder: holder.to_owned(),
            fence,
            until: now.plus(ttl),
        };
        state.leases.insert(name.to_owned(), row);
        Ok(Acquired::Ours(Lease {
            name: name.to_owned(),
            fence,
        }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        Ok(self.state().set_end(lease, now, now.plus(ttl)))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let now = self.runtime.now();
        self.state().set_end(lease, now, now);
        Ok(())
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>> {
        let now = self.runtime.now();
        let state = self.state();
        let held = state.leases.get(name).filter(|row| row.until > now);
        Ok(held.map(|row| Holder {
            holder: row.holder.clone(),
            fence: row.fence,
            remaining: row.until.since(now),
        }))
    }

    async fn report(&self, group: &str, load: &NodeLoad, ttl: Duration) -> Result<()> {
        check_names(&[group, &load.node])?;
        let until = self.runtime.now().plus(ttl);
        let key = (group.to_owned(), load.node.clone());
        self.state().loads.insert(key, (stored_load(load.load), until));
        Ok(())
    }

    async fn reports(&self, group: &str) -> Result<Vec<NodeLoad>> {
        let now = self.runtime.now();
        let mut state = self.state();
        state.loads.retain(|_, (_, until)| *until > now);
        let of_group = state.loads.iter().filter(|((of, _), _)| of == group);
        let reports = of_group.map(|((_, node), (load, _))| NodeLoad {
            node: node.clone(),
            load: read_load(*load),
        });
        Ok(reports.collect())
    }
}
