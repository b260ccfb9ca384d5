//! The tables of the embedded bus.
//!
//! `mosaic_bus_partition` holds where each partition ends; who appends locks its row until the commit, so offsets become visible in
//! their order and without gaps. `mosaic_bus_batch` holds the records, up to a thousand a row.

use mosaic_sql::sea_orm::DbBackend;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use mosaic_sql::{Migration, Schema};

/// Migrations of a database that holds an embedded bus.
pub const BUS_MIGRATIONS: &[Migration] = &[Migration {
    name: "mosaic_events_0001_create_bus",
    up: create,
}];

pub(super) const TOPIC: &str = "mosaic_bus_topic";
pub(super) const PARTITION: &str = "mosaic_bus_partition";
pub(super) const BATCH: &str = "mosaic_bus_batch";
pub(super) const SEAT: &str = "mosaic_bus_seat";
pub(super) const MEMBER: &str = "mosaic_bus_member";

fn create(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().take();
    let text = |name: &'static str| ColumnDef::new(name).string_len(80).not_null().take();
    let table = |name: &'static str| -> TableCreateStatement { Table::create().table(name).col(text("topic")).take() };
    let key = |columns: &[&'static str]| {
        let mut key = Index::create();
        for column in columns {
            key.col(*column);
        }
        key
    };
    let records = match schema.backend() {
        // MySQL's BLOB ends at 64 KiB.
        DbBackend::MySql => ColumnDef::new("records").custom("longblob").not_null().take(),
        _ => ColumnDef::new("records").blob().not_null().take(),
    };
    let mut topic = table(TOPIC);
    topic
        .col(number("partitions"))
        .col(number("retention_us"))
        .col(number("retention_bytes"));
    schema.run(topic.primary_key(&mut key(&["topic"])));
    let mut partition = table(PARTITION);
    partition.col(number("part")).col(number("end_offset"));
    schema.run(partition.primary_key(&mut key(&["topic", "part"])));
    let mut batch = table(BATCH);
    batch
        .col(number("part"))
        .col(number("base"))
        .col(number("n"))
        .col(number("n_bytes"))
        .col(number("stored_at"));
    schema.run(batch.col(records).primary_key(&mut key(&["topic", "part", "base"])));
    let mut seat = table(SEAT);
    seat.col(text("grp"))
        .col(number("part"))
        .col(ColumnDef::new("owner").string_len(80).null());
    seat.col(number("fence"))
        .col(number("lease_until"))
        .col(number("next_offset"));
    schema.run(seat.primary_key(&mut key(&["topic", "grp", "part"])));
    let mut member = table(MEMBER);
    member.col(text("grp")).col(text("member")).col(number("lease_until"));
    schema.run(member.primary_key(&mut key(&["topic", "grp", "member"])));
}
