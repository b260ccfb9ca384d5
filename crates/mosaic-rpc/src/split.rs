//! How much of a service's work goes elsewhere although it is served here.
//!
//! For moving a service out of the process and back: raise the share while the new instances prove themselves, lower it
//! when they do not. What is to go elsewhere stays here as long as nobody else is ready.

use mosaic_core::config::{Raw, Value};

/// A share of calls: `25%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Does the call that drew `bits` belong to the share?
    pub(crate) fn has(self, bits: u64) -> bool {
        // A share of 1 has every draw.
        mosaic_core::fraction(bits) < self.0
    }
}

impl Value for Share {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = String::parse(raw)?;
        let percent = text.strip_suffix('%').and_then(|text| text.trim().parse::<f64>().ok());
        match percent {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            _ => Err("must be a share from 0% to 100%".to_owned()),
        }
    }
    fn show(&self) -> String {
        format!("{}%", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_that_share_of_draws() {
        let draws = crate::balance::Draws::new(7);
        for percent in [0_u32, 1, 25, 100] {
            let share = Share(f64::from(percent) / 100.0);
            let n_of_share = (0..10_000).filter(|_| share.has(draws.next())).count();
            assert!(
                n_of_share.abs_diff(percent as usize * 100) < 150,
                "{percent}: {n_of_share}"
            );
        }
        assert!(Share(1.0).has(u64::MAX) && !Share(0.0).has(0));
    }
}
