//! The tables, as migrations.

use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, Table};
use mosaic::sql::{Migration, Schema};

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_create_accounts",
        up: create_accounts,
    },
    Migration {
        name: "0002_create_sessions",
        up: create_sessions,
    },
];

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().to_owned()
}

fn text(name: &'static str, len: u32) -> ColumnDef {
    ColumnDef::new(name).string_len(len).not_null().to_owned()
}

fn create_accounts(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("account")
            .col(number("id").primary_key())
            .col(number("created_at")),
    );
    schema.run(
        Table::create()
            .table("credential")
            .col(number("id").primary_key())
            .col(text("kind", 32))
            .col(text("identifier", 254))
            .col(number("account_id"))
            .col(ColumnDef::new("password_hash").string_len(255))
            .col(ColumnDef::new("union_id").string_len(128))
            .col(number("created_at")),
    );
    let unique = "uq_credential_kind_identifier";
    schema.run(
        Index::create()
            .name(unique)
            .table("credential")
            .col("kind")
            .col("identifier")
            .unique(),
    );
    schema.run(
        Index::create()
            .name("ix_credential_account_id")
            .table("credential")
            .col("account_id"),
    );
}

fn create_sessions(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("session")
            .col(text("id", 32).primary_key())
            .col(number("account_id"))
            .col(number("generation"))
            .col(text("agent_hash", 64))
            .col(number("created_at"))
            .col(number("rotated_at"))
            .col(number("expires_at"))
            .col(ColumnDef::new("revoked_at").big_integer()),
    );
    schema.run(
        Index::create()
            .name("ix_session_account_id")
            .table("session")
            .col("account_id"),
    );
    schema.run(
        Index::create()
            .name("ix_session_expires_at")
            .table("session")
            .col("expires_at"),
    );
    schema.run(
        Table::create()
            .table("revocation")
            .col(number("id").primary_key())
            .col(ColumnDef::new("session_id").string_len(32))
            .col(ColumnDef::new("account_id").big_integer())
            .col(number("revoked_at")),
    );
    schema.run(
        Index::create()
            .name("ix_revocation_revoked_at")
            .table("revocation")
            .col("revoked_at"),
    );
}
