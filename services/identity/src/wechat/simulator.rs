//! WeChat for a laptop: accepts any code and derives who it is from the code, so that one code is one person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mosaic::{Context, Result, Secret, hex};
use sha2::{Digest as _, Sha256};

use super::{MiniSession, Person, Wechat, refused};

/// The one code that is refused, so that refusal can be tried as well.
const REFUSED_CODE: &str = "refused";

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simulator;

fn derived(purpose: &str, code: &str) -> [u8; 32] {
    Sha256::digest(format!("{purpose}:{code}")).into()
}

fn accept(code: &str) -> Result<()> {
    if code.is_empty() || code == REFUSED_CODE {
        Err(refused("errcode 40029: invalid code"))
    } else {
        Ok(())
    }
}

#[mosaic::async_trait]
impl Wechat for Simulator {
    async fn exchange_code(&self, _: &Context, code: &str) -> Result<Person> {
        accept(code)?;
        let open_id = format!("o{}", &hex(derived("open", code))[..27]);
        Ok(Person {
            open_id,
            union_id: Some(format!("u{}", &hex(derived("union", code))[..27])),
        })
    }

    async fn code_to_session(&self, _: &Context, code: &str) -> Result<MiniSession> {
        accept(code)?;
        Ok(MiniSession {
            open_id: format!("m{}", &hex(derived("mini", code))[..27]),
            union_id: Some(format!("u{}", &hex(derived("union", code))[..27])),
            session_key: Secret::new(STANDARD.encode(&derived("session_key", code)[..16])),
        })
    }
}
