//! The reports of the reconciler, as they were told.

use mosaic::prost::Message as _;
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Table};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Database, Schema, into_error, micros};
use mosaic::{Error, Result, Timestamp};
use mosaic_api::rewards::v1::Report;

pub(crate) fn create_report(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("report")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("made_at").big_integer().not_null())
            .col(ColumnDef::new("content").blob().not_null()),
    );
}

mod report {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "report")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) made_at: i64,
        pub(super) content: Vec<u8>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Keeps reports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reports {
    database: Database,
}

impl Reports {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Keeps a report, and as many disagreements of it as fit into a row.
    pub(crate) async fn keep(&self, report: &Report) -> Result<()> {
        let mut kept = report.clone();
        while kept.encoded_len() > BYTES_MAX {
            kept.is_truncated = true;
            kept.disagreements.truncate(kept.disagreements.len() / 2);
        }
        let row = report::ActiveModel {
            id: Set(kept.report_id),
            made_at: Set(kept.at_us),
            content: Set(kept.encode_to_vec()),
        };
        let inserted = report::Entity::insert(row)
            .exec_without_returning(self.database.connection())
            .await;
        inserted.map(drop).map_err(into_error)
    }

    /// Returns reports, newest first, before the one with the id `before` (0: all).
    pub(crate) async fn list(&self, before: i64, limit: u64) -> Result<Vec<Report>> {
        let before = if before == 0 { i64::MAX } else { before };
        let found = report::Entity::find()
            .filter(report::Column::Id.lt(before))
            .order_by_desc(report::Column::Id)
            .limit(limit)
            .all(self.database.connection())
            .await;
        let read = |row: report::Model| Report::decode(row.content.as_slice()).map_err(Error::internal);
        found.map_err(into_error)?.into_iter().map(read).collect()
    }

    /// Forgets reports made before `time`.
    pub(crate) async fn forget(&self, time: Timestamp) -> Result<()> {
        let forgotten = report::Entity::delete_many()
            .filter(report::Column::MadeAt.lt(micros(time)))
            .exec(self.database.connection())
            .await;
        forgotten.map(drop).map_err(into_error)
    }
}

/// What a BLOB of MySQL holds, with room to spare.
const BYTES_MAX: usize = 60_000;
