//! Takes money from outside, for every product.
//!
//! A payment is of a product's item, `(biz, trade_no)`; how it ends is told by `PaymentSettled`, in the transaction of the
//! state. The provider is WeChat Pay, or in development an embedded one that speaks the same protocol, so that
//! one client serves both. What the provider says is believed if it is signed, fresh and about what we asked for; everything
//! else is refused, or parked for a human. A provider that does not call is asked.
//!
//! Promises: a state changes at most once in each of its steps, whatever is repeated, late, forged or out of order; no
//! payment is lost because a notification was.

mod config;
mod embedded;
mod exchange;
mod model;
mod routes;
mod service;
mod settle;
mod store;
mod sync;
mod wechat;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use mosaic::sql::{Database, Migration};
use mosaic::{Mode, Module, Result, Secret};
use mosaic_api::payments::v1::PaymentsServer;

pub use config::PaymentsConfig;
pub use routes::{dev_router, router};

use embedded::Embedded;
use model::Merchant;
use service::{Desk, Service};
use settle::Settlement;
use sync::Sync;
use wechat::crypto::{ApiKey, SigningKey, VerifyingKey};
use wechat::{Addresses, Credentials, HttpTransport, Keys, Transport, WechatPay};

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_create_payment",
        up: store::create_payment,
    },
    Migration {
        name: "0002_create_embedded_trade",
        up: embedded::create_trade,
    },
];

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; keys or a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<PaymentsConfig>()?;
    let database = m.database(MIGRATIONS).await?;
    let provider = provider(m, &config)?;
    let merchant = match provider {
        Provider::Embedded => embedded::merchant(&config.wechat_app_id),
        Provider::Wechat | Provider::None => Merchant {
            merchant_id: config.wechat_merchant_id.clone(),
            app_id: config.wechat_app_id.clone(),
        },
    };
    let settlement = Settlement {
        transactions: m.transactions()?,
        merchant,
        silent_after: config.silent_after,
    };
    let desk = desk(m, &config, &provider, &database, &settlement)?;
    if let Some(desk) = &desk {
        sync::install(m, &desk.sync)?;
    }
    m.serve(PaymentsServer::new(Arc::new(Service {
        desk,
        settlement,
        expire_after: config.expire_after,
    })));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    Wechat,
    Embedded,
    None,
}

fn provider(m: &Module, config: &PaymentsConfig) -> Result<Provider> {
    let has_merchant = !config.wechat_merchant_id.is_empty();
    match (config.provider.as_str(), m.mode()) {
        ("wechat", _) => Ok(Provider::Wechat),
        ("", _) if has_merchant => Ok(Provider::Wechat),
        ("", Mode::Development) => Ok(Provider::Embedded),
        ("", Mode::Production) => Ok(Provider::None),
        ("embedded", mode) => {
            if mode == Mode::Production {
                tracing::warn!("payments go to the embedded provider: nobody pays anything");
            }
            Ok(Provider::Embedded)
        }
        _ => Err(m.misconfigured("payments.provider", "must be wechat, embedded or empty")),
    }
}

fn desk(
    m: &Module,
    config: &PaymentsConfig,
    provider: &Provider,
    database: &Database,
    settlement: &Settlement,
) -> Result<Option<Desk>> {
    let embedded = match provider {
        Provider::None => return Ok(None),
        Provider::Wechat => None,
        Provider::Embedded => Some(Embedded::new(database.clone())),
    };
    let (transport, keys, api): (Box<dyn Transport>, Keys, &str) = match &embedded {
        Some(embedded) => (Box::new(embedded.clone()), embedded::keys(), embedded::BASE_URL),
        None => (
            Box::new(HttpTransport::new(config.wechat_timeout)?),
            keys(m, config)?,
            config.wechat_api.trim_end_matches('/'),
        ),
    };
    let addresses = Addresses {
        api: api.to_owned(),
        notify_url: config.wechat_notify_url.clone(),
        bill_bytes_max: config.bill_max.bytes(),
    };
    let wechat = Arc::new(WechatPay::new(transport, keys, settlement.merchant.clone(), addresses));
    let sync = Sync {
        wechat: wechat.clone(),
        settlement: settlement.clone(),
    };
    Ok(Some(Desk { wechat, sync, embedded }))
}

/// Reads the keys of WeChat Pay; all mistakes name their setting.
fn keys(m: &Module, config: &PaymentsConfig) -> Result<Keys> {
    for (key, value) in [
        ("payments.wechat_merchant_id", &config.wechat_merchant_id),
        ("payments.wechat_merchant_serial", &config.wechat_merchant_serial),
        ("payments.wechat_platform_serial", &config.wechat_platform_serial),
    ] {
        if value.is_empty() {
            return Err(m.misconfigured(key, "is needed for WeChat Pay"));
        }
    }
    let key = "payments.wechat_merchant_key";
    let given = config.wechat_merchant_key.clone();
    let pem = pem(m, key, given, config.wechat_merchant_key_file.as_ref())?;
    let merchant_key = SigningKey::from_pem(pem.expose()).map_err(|error| m.misconfigured(key, error.message()))?;
    let key = "payments.wechat_platform_key";
    let given = Some(config.wechat_platform_key.clone()).filter(|pem| !pem.is_empty());
    let given = given.map(Secret::new);
    let pem = self::pem(m, key, given, config.wechat_platform_key_file.as_ref())?;
    let platform_key = VerifyingKey::from_pem(pem.expose()).map_err(|error| m.misconfigured(key, error.message()))?;
    let key = "payments.wechat_api_v3_key";
    let api_key = config
        .wechat_api_v3_key
        .as_ref()
        .map_or(&[][..], |key| key.expose().as_bytes());
    let api_key = ApiKey::new(api_key.to_vec()).map_err(|error| m.misconfigured(key, error.message()))?;
    let credentials = Credentials {
        merchant_serial: config.wechat_merchant_serial.clone(),
        merchant_key,
        platform_serial: config.wechat_platform_serial.clone(),
        platform_key,
        api_key,
    };
    Ok(Arc::new(LazyLock::new(Box::new(|| credentials))))
}

/// Returns the PEM of a setting, or of the file that its sister names.
fn pem(m: &Module, key: &str, given: Option<Secret<String>>, file: Option<&PathBuf>) -> Result<Secret<String>> {
    match (given, file) {
        (Some(pem), None) => Ok(pem),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(file).map(Secret::new);
            read.map_err(|error| m.misconfigured(&format!("{key}_file"), &format!("cannot be read: {error}")))
        }
        (Some(_), Some(_)) => Err(m.misconfigured(key, "is given twice, as a value and as a file")),
        (None, None) => Err(m.misconfigured(key, "or its _file is needed for WeChat Pay")),
    }
}
