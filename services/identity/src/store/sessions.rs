//! Sessions, and the revocations that every process must hear of.

use std::time::Duration;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::{QuerySelect as _, Set};
use mosaic::sql::{Transaction, into_error, micros, timestamp};
use mosaic::{AccountId, Result, Runtime, Timestamp};
use mosaic_api::identity::v1::{Revocation, revocation::Subject};

use super::Store;

mod session {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "session")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: String,
        pub(super) account_id: i64,
        pub(super) generation: i64,
        pub(super) agent_hash: String,
        pub(super) created_at: i64,
        pub(super) rotated_at: i64,
        pub(super) expires_at: i64,
        pub(super) revoked_at: Option<i64>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod revocation {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "revocation")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) session_id: Option<String>,
        pub(super) account_id: Option<i64>,
        pub(super) revoked_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// A session as stored.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    pub(crate) generation: i64,
    pub(crate) agent_hash: String,
    pub(crate) rotated: Timestamp,
    pub(crate) is_revoked: bool,
}

impl Store {
    pub(crate) async fn insert_session(&self, session: &Session, created: Timestamp, expires: Timestamp) -> Result<()> {
        let row = session::ActiveModel {
            id: Set(session.id.clone()),
            account_id: Set(session.account.get()),
            generation: Set(session.generation),
            agent_hash: Set(session.agent_hash.clone()),
            created_at: Set(micros(created)),
            rotated_at: Set(micros(session.rotated)),
            expires_at: Set(micros(expires)),
            revoked_at: Set(None),
        };
        let inserted = session::Entity::insert(row)
            .exec_without_returning(self.database.connection())
            .await;
        inserted.map(drop).map_err(into_error)
    }

    pub(crate) async fn session(&self, id: &str) -> Result<Option<Session>> {
        let row = session::Entity::find_by_id(id)
            .one(self.database.connection())
            .await
            .map_err(into_error)?;
        let read = |row: session::Model| -> Result<Session> {
            Ok(Session {
                account: AccountId::try_from(row.account_id)?,
                id: row.id,
                generation: row.generation,
                agent_hash: row.agent_hash,
                rotated: timestamp(row.rotated_at),
                is_revoked: row.revoked_at.is_some(),
            })
        };
        row.map(read).transpose()
    }

    /// Moves a session to the next generation if it is still at `generation`; says whether it did.
    pub(crate) async fn advance(&self, id: &str, generation: i64, now: Timestamp, expires: Timestamp) -> Result<bool> {
        let updated = session::Entity::update_many()
            .col_expr(session::Column::Generation, Expr::value(generation + 1))
            .col_expr(session::Column::RotatedAt, Expr::value(micros(now)))
            .col_expr(session::Column::ExpiresAt, Expr::value(micros(expires)))
            .filter(session::Column::Id.eq(id))
            .filter(session::Column::Generation.eq(generation))
            .filter(session::Column::RevokedAt.is_null())
            .exec(self.database.connection())
            .await
            .map_err(into_error)?;
        Ok(updated.rows_affected == 1)
    }

    /// Ends a session.
    pub(crate) async fn revoke_session(&self, runtime: &Runtime, id: &str) -> Result<Revocation> {
        self.database
            .transaction(|tx| async move {
                let now = runtime.now();
                session::Entity::update_many()
                    .col_expr(session::Column::RevokedAt, Expr::value(micros(now)))
                    .filter(session::Column::Id.eq(id))
                    .filter(session::Column::RevokedAt.is_null())
                    .exec(&tx)
                    .await
                    .map_err(into_error)?;
                let subject = Subject::SessionId(id.to_owned());
                insert_revocation(
                    &tx,
                    runtime,
                    Revocation {
                        subject: Some(subject),
                        at: micros(now),
                    },
                )
                .await
            })
            .await
    }

    pub(crate) async fn revocations_since(&self, since: Timestamp) -> Result<Vec<Revocation>> {
        let rows = revocation::Entity::find()
            .filter(revocation::Column::RevokedAt.gte(micros(since)))
            .limit(100_000)
            .all(self.database.connection())
            .await
            .map_err(into_error)?;
        let read = |row: revocation::Model| {
            let subject = row
                .session_id
                .map(Subject::SessionId)
                .or(row.account_id.map(Subject::AccountId));
            Revocation {
                subject,
                at: row.revoked_at,
            }
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Forgets sessions and revocations that no token can speak of any more.
    pub(crate) async fn clean_up(&self, now: Timestamp, access_ttl: Duration, kept: Duration) -> Result<()> {
        let over = session::Column::ExpiresAt.lt(micros(now.minus(kept)));
        session::Entity::delete_many()
            .filter(over)
            .exec(self.database.connection())
            .await
            .map_err(into_error)?;
        let over = revocation::Column::RevokedAt.lt(micros(now.minus(access_ttl * 2)));
        revocation::Entity::delete_many()
            .filter(over)
            .exec(self.database.connection())
            .await
            .map_err(into_error)?;
        Ok(())
    }
}

/// Ends every session of `account`; part of what voids its tokens.
pub(super) async fn end_sessions(tx: &Transaction, runtime: &Runtime, account: AccountId) -> Result<Revocation> {
    let now = micros(runtime.now());
    session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(now))
        .filter(session::Column::AccountId.eq(account.get()))
        .filter(session::Column::RevokedAt.is_null())
        .exec(tx)
        .await
        .map_err(into_error)?;
    let revocation = Revocation {
        subject: Some(Subject::AccountId(account.get())),
        at: now,
    };
    insert_revocation(tx, runtime, revocation).await
}

async fn insert_revocation(tx: &Transaction, runtime: &Runtime, revocation: Revocation) -> Result<Revocation> {
    let (session_id, account_id) = match &revocation.subject {
        Some(Subject::SessionId(session)) => (Some(session.clone()), None),
        Some(Subject::AccountId(account)) => (None, Some(*account)),
        None => (None, None),
    };
    let row = revocation::ActiveModel {
        id: Set(runtime.next_id()),
        session_id: Set(session_id),
        account_id: Set(account_id),
        revoked_at: Set(revocation.at),
    };
    revocation::Entity::insert(row)
        .exec_without_returning(tx)
        .await
        .map_err(into_error)?;
    Ok(revocation)
}
