//! The tables that a module has in its own database: what it publishes, what it has handled, what it could not handle.

use mosaic_sql::sea_orm::DbBackend;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use mosaic_sql::{Migration, Schema};

/// Migrations of outbox, inbox and dead letters; a module adds them to its own, with those of `mosaic-lease`.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "mosaic_events_0001_create_outbox_inbox_dead_letters",
        up: create,
    },
    Migration {
        name: "mosaic_events_0002_part_outbox",
        up: part_outbox,
    },
    Migration {
        name: "mosaic_events_0003_inbox_without_index_of_times",
        up: drop_inbox_times,
    },
];

/// The outbox before it was parted, with a state.
const OLD_OUTBOX: &str = "mosaic_outbox";

/// What waits to be relayed.
pub(crate) const OUTBOX: &str = "mosaic_outbox_waiting";
/// What was relayed, or refused for good.
pub(crate) const OUTBOX_DONE: &str = "mosaic_outbox_done";
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

/// The number of a row that others are put behind. SQLite counts on from the last row that is there, which is enough where rows are only
/// told apart while they are there; its `AUTOINCREMENT` would write to a table of numbers with every insert.
fn rising(name: &'static str, backend: DbBackend) -> ColumnDef {
    match backend {
        DbBackend::Sqlite => ColumnDef::new(name).integer().not_null().primary_key().take(),
        _ => number(name).auto_increment().primary_key().take(),
    }
}

/// Adds what an outbox carries.
fn with_carried(table: &mut TableCreateStatement, backend: DbBackend) -> &mut TableCreateStatement {
    table
        .col(number("kind"))
        .col(ColumnDef::new("id").char_len(32).not_null())
        .col(text("target", 100))
        .col(text("name", 100))
        .col(text("event_key", 255))
        .col(ColumnDef::new("headers").text().not_null())
        .col(number("at"))
        .col(bytes("payload", backend))
}

fn create(schema: &mut Schema) {
    let backend = schema.backend();
    let mut outbox = Table::create();
    outbox
        .table(OLD_OUTBOX)
        .col(number("seq").auto_increment().primary_key())
        .col(number("state"))
        .col(number("done_at"))
        .col(ColumnDef::new("error").string_len(1000).null());
    schema.run(with_carried(&mut outbox, backend));

    let mut inbox = Table::create();
    let mut key = Index::create();
    inbox
        .table(INBOX)
        .col(text("consumer", 80))
        .col(ColumnDef::new("event_id").char_len(32).not_null())
        .col(number("handled_at"))
        .primary_key(key.col("event_id").col("consumer"));
    schema.run_clustered(&mut inbox);
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

/// What waits gets a table of its own, which needs no state and no second index: the transaction that publishes writes one row into one
/// tree.
fn part_outbox(schema: &mut Schema) {
    let backend = schema.backend();
    let mut waiting = Table::create();
    waiting.table(OUTBOX).col(rising("seq", backend));
    schema.run(with_carried(&mut waiting, backend));
    let mut done = Table::create();
    done.table(OUTBOX_DONE)
        .col(rising("seq", backend))
        .col(number("state"))
        .col(number("done_at"))
        .col(ColumnDef::new("error").string_len(1000).null());
    schema.run(with_carried(&mut done, backend));
    let mut old = Index::create();
    old.name("ix_mosaic_outbox_done_old").table(OUTBOX_DONE);
    schema.run(old.col("state").col("done_at"));

    let carried = "kind, id, target, name, event_key, headers, at, payload";
    schema.sql(format!(
        "INSERT INTO {OUTBOX} ({carried}) SELECT {carried} FROM {OLD_OUTBOX} WHERE state = 1 ORDER BY seq"
    ));
    let done = format!("state, done_at, error, {carried}");
    schema.sql(format!(
        "INSERT INTO {OUTBOX_DONE} ({done}) SELECT {done} FROM {OLD_OUTBOX} WHERE state <> 1 ORDER BY seq"
    ));
    schema.run(Table::drop().table(OLD_OUTBOX));
}

/// Old rows are found by their ids, see [`Inbox::purge`](crate::Inbox::purge).
fn drop_inbox_times(schema: &mut Schema) {
    let mut old = Index::drop();
    schema.run(old.name("ix_mosaic_inbox_old").table(INBOX));
}
