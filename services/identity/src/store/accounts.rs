//! Accounts and what signs in to them.

use mosaic::cache::CacheKey;
use mosaic::sql::sea_orm::Set;
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::{into_error, micros, unique_violation};
use mosaic::{AccountId, Context, Error, Result, Runtime, Secret};
use mosaic_api::events::UserRegistered;
use mosaic_api::identity::v1::{CredentialKind, Revocation};

use super::Store;
use super::sessions::end_sessions;

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

impl Store {
    /// Creates an account with one credential, and tells of it.
    ///
    /// # Errors
    /// `AlreadyExists` (`CREDENTIAL_TAKEN`) if the credential has an account.
    pub(crate) async fn create_account(
        &self,
        cx: &Context,
        key: &CredentialKey,
        password_hash: Option<&str>,
        union_id: Option<&str>,
    ) -> Result<AccountId> {
        self.transactions
            .run(|tx| async move {
                let account = AccountId::new(cx.runtime());
                let now = micros(cx.runtime().now());
                let row = account::ActiveModel {
                    id: Set(account.get()),
                    created_at: Set(now),
                };
                account::Entity::insert(row)
                    .exec_without_returning(&*tx)
                    .await
                    .map_err(into_error)?;
                insert_credential(&*tx, cx.runtime(), account, key, password_hash, union_id).await?;
                tx.publish(cx, &UserRegistered { account }).await?;
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
            Ok(()) => {
                self.credentials.invalidate(&credentials_key(account)).await;
                Ok(true)
            }
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

    /// Returns how `account` can be signed in to, read through the cache.
    pub(crate) async fn credentials(&self, account: AccountId) -> Result<Vec<(CredentialKind, String)>> {
        let found = self
            .credentials
            .get_or_load(&credentials_key(account), || self.load_credentials(account))
            .await?;
        let found = found.iter().flat_map(|found| found.iter());
        Ok(found
            .map(|(kind, identifier)| (kind_of(kind), identifier.clone()))
            .collect())
    }

    async fn load_credentials(&self, account: AccountId) -> Result<Option<Vec<(String, String)>>> {
        let rows = credential::Entity::find()
            .filter(credential::Column::AccountId.eq(account.get()))
            .all(self.database.connection())
            .await
            .map_err(into_error)?;
        Ok(Some(rows.into_iter().map(|row| (row.kind, row.identifier)).collect()))
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
        let revocation = self
            .database
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
            .await?;
        self.credentials.invalidate(&credentials_key(account)).await;
        Ok(revocation)
    }
}

fn credentials_key(account: AccountId) -> CacheKey {
    CacheKey::new("credentials").part(account)
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
