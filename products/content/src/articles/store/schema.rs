//! The two libraries, as migrations and rows.

use mosaic::sql::sea_orm::DbBackend;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, IndexOrder, Table};
use mosaic::sql::{Migration, Schema};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_articles",
    up: create_articles,
}];

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn text(name: &'static str, len: u32) -> ColumnDef {
    ColumnDef::new(name).string_len(len).not_null().take()
}

fn long_text(name: &'static str, backend: DbBackend) -> ColumnDef {
    match backend {
        // MySQL's TEXT ends at 64 KiB.
        DbBackend::MySql => ColumnDef::new(name).custom("longtext").not_null().take(),
        _ => ColumnDef::new(name).text().not_null().take(),
    }
}

fn create_articles(schema: &mut Schema) {
    let backend = schema.backend();
    schema.run(
        Table::create()
            .table("article")
            .col(number("id").primary_key())
            .col(number("author_id"))
            .col(text("title", 200))
            .col(text("summary", 128))
            .col(long_text("content", backend))
            .col(text("tags", 1024))
            .col(number("status"))
            .col(number("created_at"))
            .col(number("updated_at")),
    );
    schema.run(
        Index::create()
            .name("ix_article_author_id_updated_at")
            .table("article")
            .col("author_id")
            .col(("updated_at", IndexOrder::Desc))
            .col(("id", IndexOrder::Desc)),
    );
    schema.run(
        Table::create()
            .table("published_article")
            .col(number("id").primary_key())
            .col(number("author_id"))
            .col(text("title", 200))
            .col(text("summary", 128))
            // Where the text is: in `content`, or in the object store under `body_key`.
            .col(long_text("content", backend))
            .col(text("body_key", 128))
            .col(text("tags", 1024))
            .col(number("status"))
            .col(number("published_at"))
            .col(number("created_at"))
            .col(number("updated_at")),
    );
    schema.run(
        Index::create()
            .name("ix_published_article_body_key")
            .table("published_article")
            .col("body_key"),
    );
}

pub(super) mod article {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "article")]
    pub(in super::super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in super::super) id: i64,
        pub(in super::super) author_id: i64,
        pub(in super::super) title: String,
        pub(in super::super) summary: String,
        pub(in super::super) content: String,
        pub(in super::super) tags: String,
        pub(in super::super) status: i64,
        pub(in super::super) created_at: i64,
        pub(in super::super) updated_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod published {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "published_article")]
    pub(in super::super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in super::super) id: i64,
        pub(in super::super) author_id: i64,
        pub(in super::super) title: String,
        pub(in super::super) summary: String,
        pub(in super::super) content: String,
        pub(in super::super) body_key: String,
        pub(in super::super) tags: String,
        pub(in super::super) status: i64,
        pub(in super::super) published_at: i64,
        pub(in super::super) created_at: i64,
        pub(in super::super) updated_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}
