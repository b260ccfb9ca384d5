//! How many connections an address has open.
//!
//! One address that opens connections for ever would take all the places of [`crate::ServerOptions::max_connections`]; so
//! each has a cap of its own. A place is given back when its [`AddressSlot`] is dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open connections by address.
#[derive(Debug, Default)]
pub(crate) struct ByAddress {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    addresses: Arc<ByAddress>,
    ip: IpAddr,
}

impl ByAddress {
    /// Takes a place; `None` if `ip` has `max` already.
    pub(crate) fn enter(self: Arc<Self>, ip: IpAddr, max: usize) -> Option<AddressSlot> {
        let mut open = self.lock();
        let n_open = open.entry(ip).or_default();
        if *n_open >= max {
            return None;
        }
        *n_open += 1;
        drop(open);
        Some(AddressSlot { addresses: self, ip })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = self.addresses.lock();
        if let Some(n_open) = open.get_mut(&self.ip) {
            *n_open -= 1;
            if *n_open == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_cap_and_gives_places_back() {
        let addresses = Arc::new(ByAddress::default());
        let [one, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let first = addresses.clone().enter(one, 2);
        let second = addresses.clone().enter(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(addresses.clone().enter(one, 2).is_none());
        assert!(addresses.clone().enter(other, 2).is_some());
        drop(first);
        assert!(addresses.clone().enter(one, 2).is_some());
        drop(second);
        assert!(addresses.lock().is_empty(), "who is gone is forgotten");
    }
}
