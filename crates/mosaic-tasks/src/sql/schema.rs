//! The tables of tasks.
//!
//! One index of tasks for each question: who is next, what becomes due, whose lease ran out, what may be deleted, who shares
//! a key. Where the engine has partial indexes a task is only in those that its state is asked for in, so ended tasks
//! cost the living nothing, and an insert touches two indexes instead of six.

use mosaic_sql::sea_orm::DbBackend;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use mosaic_sql::{Migration, Schema};

/// Migrations of the tables of tasks; a service adds them to its own.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "mosaic_tasks_0001_create_mosaic_task",
    up: create,
}];

pub(super) const TABLE: &str = "mosaic_task";
pub(super) const EDGES: &str = "mosaic_task_edge";
pub(super) const KEYS: &str = "mosaic_task_key";
pub(super) const GROUPS: &str = "mosaic_task_group";
pub(super) const QUEUES: &str = "mosaic_task_queue";
pub(super) const DAYS: &str = "mosaic_task_day";
pub(super) const SCHEDULES: &str = "mosaic_task_schedule";

/// Index, columns, and condition (as the queries have it, or a partial index is of no use).
const INDEXES: [(&str, &str, &str); 5] = [
    ("next", "queue, priority DESC, due_at, id", "state = 1"),
    ("due", "due_at", "state IN (2, 4)"),
    ("lease", "lease_until", "state = 3"),
    ("keep", "keep_until", "state IN (5, 6)"),
    ("wait", "wait_key", "wait_key IS NOT NULL"),
];

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn maybe(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

fn text(name: &'static str, len: u32) -> ColumnDef {
    ColumnDef::new(name).string_len(len).not_null().take()
}

/// MySQL's BLOB ends at 64 KiB.
fn bytes(name: &'static str, backend: DbBackend) -> ColumnDef {
    match backend {
        DbBackend::MySql => ColumnDef::new(name).custom("longblob").take(),
        _ => ColumnDef::new(name).blob().take(),
    }
}

fn create(schema: &mut Schema) {
    create_task(schema);
    let mut edge = table(EDGES);
    edge.col(text("later", 32))
        .col(text("earlier", 32))
        .col(bytes("result", schema.backend()).null())
        .primary_key(Index::create().col("later").col("earlier"));
    schema.run(&edge);
    schema.sql(format!("CREATE INDEX ix_{EDGES}_earlier ON {EDGES} (earlier)"));
    let mut key = table(KEYS);
    key.col(text("name", 300).primary_key())
        .col(number("time_at"))
        .col(maybe("wake_at"));
    schema.run(&key);
    schema.sql(format!("CREATE INDEX ix_{KEYS}_wake ON {KEYS} (wake_at)"));
    let mut group = table(GROUPS);
    group.col(text("name", 300).primary_key());
    for name in ["n", "first_at", "flush_at"] {
        group.col(number(name));
    }
    schema.run(&group);
    schema.sql(format!("CREATE INDEX ix_{GROUPS}_flush ON {GROUPS} (flush_at)"));
    let mut queue = table(QUEUES);
    queue.col(text("name", 64).primary_key()).col(number("is_paused"));
    schema.run(&queue);
    let mut day = table(DAYS);
    day.col(text("queue", 64));
    for name in ["day", "shard", "n_processed", "n_failed"] {
        day.col(number(name));
    }
    schema.run(day.primary_key(Index::create().col("queue").col("day").col("shard")));
    let mut schedule = table(SCHEDULES);
    schedule
        .col(text("name", 100).primary_key())
        .col(text("owner", 100))
        .col(text("rule", 500))
        .col(number("next_at"));
    schema.run(&schedule);
}

fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).take()
}

fn create_task(schema: &mut Schema) {
    let mut task = table(TABLE);
    task.col(ColumnDef::new("id").char_len(32).not_null().primary_key())
        .col(text("queue", 64))
        .col(text("kind", 100))
        .col(bytes("payload", schema.backend()).not_null())
        .col(bytes("result", schema.backend()).not_null())
        .col(ColumnDef::new("extra").text().not_null())
        .col(ColumnDef::new("unique_key").string_len(190).null())
        .col(ColumnDef::new("wait_key").string_len(300).null())
        .col(ColumnDef::new("last_error").string_len(1000).null());
    for name in [
        "priority",
        "state",
        "due_at",
        "n_failed",
        "retries_max",
        "backoff_base_us",
        "backoff_max_us",
        "timeout_us",
        "retention_us",
        "fence",
        "is_cancelled",
        "enqueued_at",
        "n_awaited",
        "is_awaited",
    ] {
        task.col(number(name));
    }
    for name in [
        "deadline_at",
        "unique_until",
        "lease_until",
        "finished_at",
        "keep_until",
        "waits_for",
    ] {
        task.col(maybe(name));
    }
    schema.run(&task);
    let has_partial = schema.backend() != DbBackend::MySql;
    for (name, columns, condition) in INDEXES {
        schema.sql(if has_partial {
            format!("CREATE INDEX ix_{TABLE}_{name} ON {TABLE} ({columns}) WHERE {condition}")
        } else {
            format!("CREATE INDEX ix_{TABLE}_{name} ON {TABLE} (state, {columns})")
        });
    }
    let condition = if has_partial {
        " WHERE unique_key IS NOT NULL"
    } else {
        ""
    };
    schema.sql(format!(
        "CREATE UNIQUE INDEX uq_{TABLE}_unique_key ON {TABLE} (unique_key){condition}"
    ));
}
