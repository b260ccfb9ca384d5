//! The tables of accounts, credentials, sessions and revocations.
//!
//! The unique constraint on credentials is the referee of every race; the generation of a session is changed by one
//! statement that names the generation it expects.

use std::time::Duration;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, Table};
use mosaic::sql::sea_orm::{QuerySelect as _, Set};
use mosaic::sql::{Database, Migration, Schema, Transaction, into_error, micros, timestamp, unique_violation};
use mosaic::{AccountId, Error, Result, Runtime, Secret, Timestamp};
use mosaic_api::identity::v1::{CredentialKind, Revocation, revocation::Subject};

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

pub(crate) const CLEAN_UP_EVERY: Duration = Duration::from_secs(3600);

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

mod account {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "account")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) created_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod credential {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "credential")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) kind: String,
        pub(super) identifier: String,
        pub(super) account_id: i64,
        pub(super) password_hash: Option<String>,
        pub(super) union_id: Option<String>,
        pub(super) created_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

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

/// A credential in its one spelling.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CredentialKey {
    /// Name as stored.
    pub(crate) kind: &'static str,
    pub(crate) identifier: String,
}

impl CredentialKey {
    pub(crate) fn new(kind: CredentialKind, identifier: String) -> Self {
        let kind = match kind {
            CredentialKind::Email => "email",
            CredentialKind::Mobile => "mobile",
            CredentialKind::Username => "username",
            CredentialKind::WechatOpen => "wechat_open",
            CredentialKind::WechatMini => "wechat_mini",
            CredentialKind::Unspecified => "unspecified",
        };
        Self { kind, identifier }
    }
}

fn kind_of(name: &str) -> CredentialKind {
    match name {
        "email" => CredentialKind::Email,
        "mobile" => CredentialKind::Mobile,
        "username" => CredentialKind::Username,
        "wechat_open" => CredentialKind::WechatOpen,
        "wechat_mini" => CredentialKind::WechatMini,
        _ => CredentialKind::Unspecified,
    }
}

/// A credential as stored.
pub(crate) struct Stored {
    pub(crate) account: AccountId,
    pub(crate) password_hash: Option<Secret<String>>,
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

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Creates an account with one credential.
    ///
    /// # Errors
    /// `AlreadyExists` (`CREDENTIAL_TAKEN`) if the credential has an account.
    pub(crate) async fn create_account(
        &self,
        runtime: &Runtime,
        key: &CredentialKey,
        password_hash: Option<&str>,
        union_id: Option<&str>,
    ) -> Result<AccountId> {
        self.database
            .transaction(|tx| async move {
                let account = AccountId::new(runtime);
                let now = micros(runtime.now());
                let row = account::ActiveModel {
                    id: Set(account.get()),
                    created_at: Set(now),
                };
                account::Entity::insert(row)
                    .exec_without_returning(&tx)
                    .await
                    .map_err(into_error)?;
                insert_credential(&tx, runtime, account, key, password_hash, union_id).await?;
                Ok(account)
            })
            .await
    }

    /// Adds a credential to an account; `false` if somebody has it already.
    pub(crate) async fn add_credential(
        &self,
        runtime: &Runtime,
        account: AccountId,
        key: &CredentialKey,
    ) -> Result<bool> {
        let added = insert_credential(self.database.connection(), runtime, account, key, None, None).await;
        match added {
            Ok(()) => Ok(true),
            Err(error) if error.reason() == "CREDENTIAL_TAKEN" => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn credential(&self, key: &CredentialKey) -> Result<Option<Stored>> {
        let row = credential::Entity::find()
            .filter(credential::Column::Kind.eq(key.kind))
            .filter(credential::Column::Identifier.eq(&*key.identifier))
            .one(self.database.connection())
            .await
            .map_err(into_error)?;
        let stored = |row: credential::Model| -> Result<Stored> {
            let account = AccountId::try_from(row.account_id)?;
            Ok(Stored {
                account,
                password_hash: row.password_hash.map(Secret::new),
            })
        };
        row.map(stored).transpose()
    }

    pub(crate) async fn credentials(&self, account: AccountId) -> Result<Vec<(CredentialKind, String)>> {
        let rows = credential::Entity::find()
            .filter(credential::Column::AccountId.eq(account.get()))
            .all(self.database.connection())
            .await
            .map_err(into_error)?;
        Ok(rows
            .into_iter()
            .map(|row| (kind_of(&row.kind), row.identifier))
            .collect())
    }

    /// Returns a hash that a password of the account is checked against.
    pub(crate) async fn password_hash(&self, account: AccountId) -> Result<Option<Secret<String>>> {
        let row = credential::Entity::find()
            .filter(credential::Column::AccountId.eq(account.get()))
            .filter(credential::Column::PasswordHash.is_not_null())
            .one(self.database.connection())
            .await
            .map_err(into_error)?;
        Ok(row.and_then(|row| row.password_hash).map(Secret::new))
    }

    /// Replaces the password hash of every credential of `account` that has one.
    pub(crate) async fn set_password(&self, account: AccountId, hash: &str) -> Result<()> {
        set_password(self.database.connection(), account, hash).await
    }

    /// Replaces the password and ends every session of `account`, in one transaction.
    pub(crate) async fn change_password(
        &self,
        runtime: &Runtime,
        account: AccountId,
        hash: &str,
    ) -> Result<Revocation> {
        self.database
            .transaction(|tx| async move {
                set_password(&tx, account, hash).await?;
                end_sessions(&tx, runtime, account).await
            })
            .await
    }

    /// Removes the account's credentials and ends its sessions, in one transaction.
    pub(crate) async fn close_account(&self, runtime: &Runtime, account: AccountId) -> Result<Revocation> {
        self.database
            .transaction(|tx| async move {
                let own = credential::Column::AccountId.eq(account.get());
                credential::Entity::delete_many()
                    .filter(own)
                    .exec(&tx)
                    .await
                    .map_err(into_error)?;
                account::Entity::delete_by_id(account.get())
                    .exec(&tx)
                    .await
                    .map_err(into_error)?;
                end_sessions(&tx, runtime, account).await
            })
            .await
    }

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

async fn insert_credential(
    db: &impl ConnectionTrait,
    runtime: &Runtime,
    account: AccountId,
    key: &CredentialKey,
    password_hash: Option<&str>,
    union_id: Option<&str>,
) -> Result<()> {
    let row = credential::ActiveModel {
        id: Set(runtime.next_id()),
        kind: Set(key.kind.to_owned()),
        identifier: Set(key.identifier.clone()),
        account_id: Set(account.get()),
        password_hash: Set(password_hash.map(str::to_owned)),
        union_id: Set(union_id.map(str::to_owned)),
        created_at: Set(micros(runtime.now())),
    };
    match credential::Entity::insert(row).exec_without_returning(db).await {
        Ok(_) => Ok(()),
        Err(error)
            if unique_violation(&error).is_some_and(|which| which.is_on("credential", &["kind", "identifier"])) =>
        {
            Err(Error::already_exists("CREDENTIAL_TAKEN", "has an account already"))
        }
        Err(error) => Err(into_error(error)),
    }
}

async fn set_password(db: &impl ConnectionTrait, account: AccountId, hash: &str) -> Result<()> {
    let updated = credential::Entity::update_many()
        .col_expr(credential::Column::PasswordHash, Expr::value(hash))
        .filter(credential::Column::AccountId.eq(account.get()))
        .filter(credential::Column::PasswordHash.is_not_null())
        .exec(db)
        .await;
    updated.map(drop).map_err(into_error)
}

async fn end_sessions(tx: &Transaction, runtime: &Runtime, account: AccountId) -> Result<Revocation> {
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
