//! Binds the answer of a partner to the browser that asked (RFC 6749 10.12).
//!
//! The browser keeps `expiry.state.mac` in a cookie; the partner hands `state` back through the URL. Only whoever holds
//! both, within ten minutes, is the one who began.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use mosaic::{Context, Error, Result, Secret};
use sha2::Sha256;

/// How long a sign-in may take from its beginning.
const LIFETIME: Duration = Duration::from_secs(600);

pub(crate) struct StateTokens {
    key: Secret<Vec<u8>>,
}

impl StateTokens {
    pub(crate) const fn new(key: Secret<Vec<u8>>) -> Self {
        Self { key }
    }

    /// Returns a new state and the token that proves it.
    pub(crate) fn issue(&self, cx: &Context) -> (String, String) {
        let state = cx.runtime().random_hex::<16>();
        let claim = format!("{}.{state}", cx.runtime().now().plus(LIFETIME).as_secs());
        let token = format!(
            "{claim}.{}",
            URL_SAFE_NO_PAD.encode(self.mac(&claim).finalize().into_bytes())
        );
        (state, token)
    }

    /// Checks that `token` is ours, not too old, and speaks of `state`.
    ///
    /// # Errors
    /// `InvalidArgument` (`STATE_INVALID`).
    pub(crate) fn verify(&self, cx: &Context, state: &str, token: &str) -> Result<()> {
        let invalid = || Error::invalid_argument("STATE_INVALID", "this sign-in was not begun here");
        let (claim, mac) = token.rsplit_once('.').ok_or_else(invalid)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| invalid())?;
        self.mac(claim).verify_slice(&mac).map_err(|_| invalid())?;
        let (expiry, proven) = claim.split_once('.').ok_or_else(invalid)?;
        let expiry: i64 = expiry.parse().map_err(|_| invalid())?;
        if proven == state && cx.runtime().now().as_secs() <= expiry {
            Ok(())
        } else {
            Err(invalid())
        }
    }

    fn mac(&self, claim: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).expect("HMAC takes keys of every length");
        mac.update(claim.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mosaic::{ManualClock, Runtime, SeededRandom, Timestamp};

    use super::*;

    #[test]
    fn only_both_halves_together_and_in_time() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let cx = Context::new(&Runtime::new(clock.clone(), Arc::new(SeededRandom::new(1))));
        let tokens = StateTokens::new(Secret::new(vec![7; 32]));
        let (state, token) = tokens.issue(&cx);
        let (other_state, other_token) = tokens.issue(&cx);
        assert!(tokens.verify(&cx, &state, &token).is_ok());
        for (state, token) in [
            (&other_state, &token),
            (&state, &other_token),
            (&state, &String::new()),
            (&String::new(), &token),
        ] {
            assert!(tokens.verify(&cx, state, token).is_err(), "{state} {token}");
        }
        let foreign = StateTokens::new(Secret::new(vec![8; 32])).issue(&cx);
        assert!(tokens.verify(&cx, &foreign.0, &foreign.1).is_err());
        clock.advance(LIFETIME + Duration::from_secs(1));
        assert!(tokens.verify(&cx, &state, &token).is_err());
    }
}
