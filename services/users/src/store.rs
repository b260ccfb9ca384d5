//! The table of profiles and its cache.

use std::time::Duration;

use mosaic::cache::{Cache, CacheKey, ReadThrough};
use mosaic::sql::sea_orm::Set;
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, OnConflict, Table};
use mosaic::sql::{Migration, Schema, into_error, micros};
use mosaic::{AccountId, Context, Result, Transactions};
use mosaic_api::events::ProfileChanged;

use crate::model::{Changes, Profile};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_profile",
    up: create_profile,
}];

/// How long a profile is cached; a change removes it earlier.
const CACHED_FOR: Duration = Duration::from_secs(3600);

fn create_profile(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("profile")
            .col(ColumnDef::new("account_id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("nickname").string_len(64).not_null())
            .col(ColumnDef::new("avatar").string_len(1024).not_null())
            .col(ColumnDef::new("birthday").string_len(10).not_null())
            .col(ColumnDef::new("about_me").string_len(1024).not_null())
            .col(ColumnDef::new("sex").big_integer().not_null())
            .col(ColumnDef::new("signature").string_len(256).not_null())
            .col(ColumnDef::new("background").string_len(1024).not_null())
            .col(ColumnDef::new("updated_at").big_integer().not_null()),
    );
}

mod profile {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "profile")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) account_id: i64,
        pub(super) nickname: String,
        pub(super) avatar: String,
        pub(super) birthday: String,
        pub(super) about_me: String,
        pub(super) sex: i64,
        pub(super) signature: String,
        pub(super) background: String,
        pub(super) updated_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Reads through the cache, writes to the table.
pub(crate) struct Store {
    transactions: Transactions,
    cached: ReadThrough<Profile>,
}

impl Store {
    pub(crate) fn new(transactions: Transactions, cache: &Cache) -> Self {
        Self {
            transactions,
            cached: ReadThrough::new(cache, CACHED_FOR),
        }
    }

    /// Returns the profile of `account`, `None` if it never said anything.
    pub(crate) async fn profile(&self, account: AccountId) -> Result<Option<Profile>> {
        self.look(account, Profile::clone).await
    }

    /// Returns what `look` sees in the profile of `account`, `None` if it never said anything.
    pub(crate) async fn look<R>(&self, account: AccountId, look: impl Fn(&Profile) -> R + Send) -> Result<Option<R>> {
        let load = || load(self.transactions.database().connection(), account);
        self.cached.look_or_load(&key(account), load, look).await
    }

    /// Changes the profile of `account`, tells of it, and returns it.
    pub(crate) async fn change(&self, cx: &Context, account: AccountId, changes: Changes) -> Result<Profile> {
        let now = micros(cx.runtime().now());
        let changed = self.transactions.run(|tx| {
            let changes = changes.clone();
            async move {
                // The row is there before it is read and locked, so that two first changes meet each other.
                insert_default(&*tx, account).await?;
                let current = lock(&*tx, account)
                    .await?
                    .unwrap_or_else(|| Profile::default_of(account));
                let changed = current.changed(changes, now)?;
                update(&*tx, account, &changed).await?;
                let event = ProfileChanged {
                    account,
                    updated_at_us: changed.updated_at_us,
                };
                tx.publish(cx, &event).await?;
                Ok(changed)
            }
        });
        let changed = changed.await?;
        self.cached.invalidate(&key(account)).await;
        Ok(changed)
    }
}

fn key(account: AccountId) -> CacheKey {
    CacheKey::new("profile").part(account)
}

async fn load(db: &impl ConnectionTrait, account: AccountId) -> Result<Option<Profile>> {
    let row = profile::Entity::find_by_id(account.get())
        .one(db)
        .await
        .map_err(into_error)?;
    Ok(row.map(read))
}

async fn lock(db: &impl ConnectionTrait, account: AccountId) -> Result<Option<Profile>> {
    use mosaic::sql::sea_orm::QuerySelect as _;
    let row = profile::Entity::find_by_id(account.get())
        .lock_exclusive()
        .one(db)
        .await
        .map_err(into_error)?;
    Ok(row.map(read))
}

async fn insert_default(db: &impl ConnectionTrait, account: AccountId) -> Result<()> {
    let row = active(account, Profile::default_of(account));
    let unless_there = OnConflict::column(profile::Column::AccountId)
        .do_nothing_on([profile::Column::AccountId])
        .to_owned();
    let inserted = profile::Entity::insert(row)
        .on_conflict(unless_there)
        .exec_without_returning(db)
        .await;
    inserted.map(drop).map_err(into_error)
}

async fn update(db: &impl ConnectionTrait, account: AccountId, profile: &Profile) -> Result<()> {
    let row = active(account, profile.clone());
    profile::Entity::update(row)
        .exec(db)
        .await
        .map(drop)
        .map_err(into_error)
}

fn active(account: AccountId, profile: Profile) -> profile::ActiveModel {
    profile::ActiveModel {
        account_id: Set(account.get()),
        nickname: Set(profile.nickname),
        avatar: Set(profile.avatar),
        birthday: Set(profile.birthday),
        about_me: Set(profile.about_me),
        sex: Set(profile.sex),
        signature: Set(profile.signature),
        background: Set(profile.background),
        updated_at: Set(profile.updated_at_us),
    }
}

fn read(row: profile::Model) -> Profile {
    let profile::Model {
        nickname,
        avatar,
        birthday,
        about_me,
        sex,
        signature,
        background,
        updated_at,
        ..
    } = row;
    Profile {
        nickname,
        avatar,
        birthday,
        about_me,
        sex,
        signature,
        background,
        updated_at_us: updated_at,
    }
}
