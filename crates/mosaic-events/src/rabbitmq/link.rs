//! A connection to the broker that is made when it is needed, and anew when it broke.

use std::sync::Arc;
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties};
use mosaic_core::{Error, Result, Secret};
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::broker::{Address, BrokerOptions};
use crate::bus::unavailable;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Link {
    scheme: AMQPScheme,
    hosts: Vec<(String, u16)>,
    vhost: String,
    user: String,
    password: Secret<String>,
    options: BrokerOptions,
    /// Shown by the broker's tools.
    name: &'static str,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Link {
    pub(super) fn new(address: &Address, vhost: &str, options: BrokerOptions, name: &'static str) -> Result<Self> {
        let (scheme, port) = match address.scheme.as_str() {
            "amqps" => (AMQPScheme::AMQPS, 5671),
            _ => (AMQPScheme::AMQP, 5672),
        };
        let invalid = |message: &'static str| Error::invalid_argument("EVENTS_URL_INVALID", message);
        let hosts = address.hosts.iter().map(|host| match host.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => Ok((host.to_owned(), port.parse()?)),
            _ => Ok((host.clone(), port)),
        });
        let hosts: std::result::Result<Vec<_>, std::num::ParseIntError> = hosts.collect();
        let vhost = percent_decode_str(vhost).decode_utf8();
        let vhost = vhost.map_err(|_| invalid("the virtual host in the URL of a bus is percent-encoded UTF-8"))?;
        let guest = || "guest".to_owned();
        Ok(Self {
            scheme,
            hosts: hosts.map_err(|_| invalid("a port in the URL of a bus is none"))?,
            vhost: if vhost.is_empty() {
                "/".to_owned()
            } else {
                vhost.into_owned()
            },
            user: address.user.clone().unwrap_or_else(guest),
            password: address.password.clone().unwrap_or_else(|| Secret::new(guest())),
            options,
            name,
            connection: Mutex::default(),
        })
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let opened = timeout(self.options.timeout, async {
            let connection = self.connected().await?;
            connection.create_channel().await.map_err(unavailable)
        });
        opened
            .await
            .unwrap_or_else(|_| Err(unavailable("no connection in time")))
    }

    async fn connected(&self) -> Result<Arc<Connection>> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| open.status().connected()) {
            return Ok(open.clone());
        }
        *connection = None;
        let mut error = unavailable("no host");
        for (host, port) in &self.hosts {
            let properties = ConnectionProperties::default().with_connection_name(self.name.into());
            // Each host has its share of the time.
            let limit = self.options.timeout / self.hosts.len().max(1) as u32;
            match timeout(limit, Connection::connect_uri(self.uri(host, *port), properties)).await {
                Ok(Ok(open)) => {
                    tracing::info!("connected to RabbitMQ");
                    let open = Arc::new(open);
                    *connection = Some(open.clone());
                    return Ok(open);
                }
                Ok(Err(cause)) => error = unavailable(cause),
                Err(_) => error = unavailable("no connection in time"),
            }
        }
        Err(error)
    }

    fn uri(&self, host: &str, port: u16) -> AMQPUri {
        // Two beats that stay away are the end of a connection.
        let heartbeat = self.options.lease.as_secs().div_ceil(2).clamp(1, 60) as u16;
        AMQPUri {
            scheme: self.scheme.clone(),
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.user.clone(),
                    password: self.password.expose().clone(),
                },
                host: host.to_owned(),
                port,
            },
            vhost: self.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(heartbeat),
                connection_timeout: Some(Duration::as_millis(&self.options.timeout) as u64),
                ..AMQPQueryString::default()
            },
        }
    }
}
