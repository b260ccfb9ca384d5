//! The embedded provider: keeps what it is given, for tests and people to read.
//!
//! In production nobody reads it, so arguments are not kept there: a code in a table is a code that leaks.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, Table};
use mosaic::sql::sea_orm::{QueryOrder, QuerySelect, Set};
use mosaic::sql::{Database, Migration, Schema, into_error, micros, unique_violation};
use mosaic::{Context, Error, Result, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::model::Message;
use crate::sender::Sender;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_sent",
    up: create_sent,
}];

/// How long messages are kept.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

fn create_sent(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("sent")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("channel").string_len(16).not_null())
            .col(ColumnDef::new("receiver").string_len(254).not_null())
            .col(ColumnDef::new("template").string_len(64).not_null())
            .col(ColumnDef::new("args").text().not_null())
            .col(ColumnDef::new("sent_at").big_integer().not_null()),
    );
    schema.run(
        Index::create()
            .name("ix_sent_receiver")
            .table("sent")
            .col("receiver")
            .col("id"),
    );
}

mod sent {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sent")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) channel: String,
        pub(super) receiver: String,
        pub(super) template: String,
        pub(super) args: String,
        pub(super) sent_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// A message as it was taken.
pub(crate) struct Sent {
    pub(crate) channel: String,
    pub(crate) to: String,
    pub(crate) template: String,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) at: Timestamp,
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox {
    database: Database,
    keeps_args: bool,
}

impl Outbox {
    pub(crate) const fn new(database: Database, keeps_args: bool) -> Self {
        Self { database, keeps_args }
    }

    /// Returns messages to `to` (to all, if empty), newest first.
    pub(crate) async fn list(&self, to: &str, limit: u64) -> Result<Vec<Sent>> {
        let mut query = sent::Entity::find()
            .order_by_desc(sent::Column::SentAt)
            .order_by_desc(sent::Column::Id)
            .limit(limit);
        if !to.is_empty() {
            query = query.filter(sent::Column::Receiver.eq(to));
        }
        let rows = query.all(self.database.connection()).await.map_err(into_error)?;
        rows.into_iter().map(read).collect()
    }

    /// Forgets messages that are a week old.
    pub(crate) async fn clean_up(&self, now: Timestamp) -> Result<()> {
        let old = sent::Column::SentAt.lt(micros(now.minus(KEPT)));
        let deleted = sent::Entity::delete_many()
            .filter(old)
            .exec(self.database.connection())
            .await;
        deleted.map(drop).map_err(into_error)
    }
}

fn read(row: sent::Model) -> Result<Sent> {
    let args = serde_json::from_str(&row.args).map_err(Error::internal)?;
    let at = Timestamp::from_micros(row.sent_at);
    Ok(Sent {
        channel: row.channel,
        to: row.receiver,
        template: row.template,
        args,
        at,
    })
}

/// Attempts of one request (or task) have one idempotency key, and so send one message.
fn id_of(cx: &Context, message: &Message) -> i64 {
    let Some(key) = cx.idempotency_key() else {
        return cx.runtime().next_id();
    };
    let mut digest = Sha256::new();
    for part in [key, message.channel.name(), &message.to, &message.template] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    let (first, _) = digest.split_first_chunk::<8>().expect("a SHA-256 has 32 bytes");
    // Positive, and as many bits as other ids have.
    (u64::from_be_bytes(*first) >> 11) as i64
}

#[mosaic::async_trait]
impl Sender for Outbox {
    async fn send(&self, cx: &Context, message: &Message) -> Result<()> {
        let args = if self.keeps_args {
            serde_json::to_string(&message.args).map_err(Error::internal)?
        } else {
            "{}".into()
        };
        let row = sent::ActiveModel {
            id: Set(id_of(cx, message)),
            channel: Set(message.channel.name().to_owned()),
            receiver: Set(message.to.clone()),
            template: Set(message.template.clone()),
            args: Set(args),
            sent_at: Set(micros(cx.runtime().now())),
        };
        let inserted = sent::Entity::insert(row)
            .exec_without_returning(self.database.connection())
            .await;
        match inserted {
            // An earlier attempt sent it.
            Err(error) if unique_violation(&error).is_some() => Ok(()),
            inserted => inserted.map(drop).map_err(into_error),
        }
    }
}
