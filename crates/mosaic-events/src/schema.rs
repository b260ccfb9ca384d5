//! The tables that a module has in its own database: what it publishes, what it has handled, what it could not handle.

use mosaic_sql::sea_orm::DbBackend;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Index, Table};
use mosaic_sql::{Migration, Schema};

/// Migrations of outbox, inbox and dead letters; a module adds them to its own, with those of `mosaic-lease`.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "mosaic_events_0001_create_outbox_inbox_dead_letters",
    up: create,
}];

pub(crate) const OUTBOX: &str = "mosaic_outbox";
pub(crate) const INBOX: &str = "mosaic_inbox";
pub(crate) const DEAD: &str = "mosaic_dead_letter";

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn text(name: &'static str, len: u32) -> ColumnDef {
    ColumnDef::new(name).string_len(len).not_null().take()
}

fn bytes(name: &'static str, backend: DbBackend) -> ColumnDef {
    match backend {
        // MySQL's BLOB ends at 64 KiB.
        DbBackend::MySql => ColumnDef::new(name).custom("longblob").not_null().take(),
        _ => ColumnDef::new(name).blob().not_null().take(),
    }
}

fn create(schema: &mut Schema) {
    let backend = schema.backend();
    let mut outbox = Table::create();
    outbox
        .table(OUTBOX)
        .col(number("seq").auto_increment().primary_key())
        .col(number("state"))
        .col(number("kind"))
        .col(ColumnDef::new("id").char_len(32).not_null())
        .col(text("target", 100))
        .col(text("name", 100))
        .col(text("event_key", 255))
        .col(ColumnDef::new("headers").text().not_null())
        .col(number("at"))
        .col(number("done_at"))
        .col(ColumnDef::new("error").string_len(1000).null())
        .col(bytes("payload", backend));
    schema.run(&outbox);
    let mut next = Index::create();
    schema.run(next.name("ix_mosaic_outbox_next").table(OUTBOX).col("state").col("seq"));

    let mut inbox = Table::create();
    let mut key = Index::create();
    inbox
        .table(INBOX)
        .col(text("consumer", 80))
        .col(ColumnDef::new("event_id").char_len(32).not_null())
        .col(number("handled_at"))
        .primary_key(key.col("event_id").col("consumer"));
    schema.run(&inbox);
    let mut old = Index::create();
    schema.run(old.name("ix_mosaic_inbox_old").table(INBOX).col("handled_at"));

    let mut dead = Table::create();
    dead.table(DEAD)
        .col(number("seq").auto_increment().primary_key())
        .col(text("consumer", 80))
        .col(ColumnDef::new("id").char_len(32).not_null())
        .col(text("topic", 80))
        .col(text("name", 100))
        .col(text("event_key", 255))
        .col(ColumnDef::new("headers").text().not_null())
        .col(number("at"))
        .col(number("attempts"))
        .col(number("failed_at"))
        .col(text("error", 1000))
        .col(bytes("payload", backend));
    schema.run(&dead);
    let mut once = Index::create();
    once.name("uq_mosaic_dead_letter_consumer_id").table(DEAD).unique();
    schema.run(once.col("consumer").col("id"));
}
