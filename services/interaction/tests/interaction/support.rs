//! A product that uses interaction, on an engine.

use std::sync::{Arc, Mutex};

use mosaic::events::{ConsumerOptions, Handle, Listener, Message, Outbox, Reporter};
use mosaic::sql::sea_orm::{ConnectionTrait as _, Statement};
use mosaic::sql::{Database, Options};
use mosaic::{App, Context, Module, Result, lock};
use mosaic_api::events::{ArticleRead, LikesChanged};
use mosaic_api::interaction::v1::{GetRequest, InteractionClient, ItemState, SetCollectedRequest, SetLikeRequest};
use mosaic_testing::{FreshDatabase, Shape, TestApp, TestAppBuilder, engine_url, keys};

pub(crate) const ARTICLE: &str = "article";

/// What the product keeps of its `install`.
#[derive(Clone)]
struct Doors {
    reporter: Reporter<ArticleRead>,
    database: Database,
    outbox: Outbox,
}

type Kept = Arc<Mutex<Option<Doors>>>;

/// Numbers of items and their likes, as they were told.
pub(crate) type Told = Arc<Mutex<Vec<(i64, i64)>>>;

struct Hear(Told);

impl Handle<LikesChanged> for Hear {
    async fn handle(&self, _: &Context, event: LikesChanged) -> Result<()> {
        lock(&self.0).push((event.item.biz_id, event.likes));
        Ok(())
    }
}

/// An application and what tests ask of it.
pub(crate) struct Bench {
    pub(crate) app: TestApp,
    pub(crate) client: InteractionClient,
    pub(crate) cx: Context,
    pub(crate) told: Told,
    /// Items and accounts count from here: a cache that tests share keeps what others counted.
    base: i64,
    doors: Kept,
    settings: Vec<(String, String)>,
    url: String,
    fresh: Option<FreshDatabase>,
}

/// What to start; to be given settings.
pub(crate) struct Plan {
    builder: TestAppBuilder,
    doors: Kept,
    told: Told,
    settings: Vec<(String, String)>,
    fresh: Option<FreshDatabase>,
}

impl Plan {
    /// On SQLite.
    pub(crate) fn embedded() -> Self {
        let (doors, told) = (Kept::default(), Told::default());
        let (kept, hear) = (doors.clone(), told.clone());
        let app = App::new("interaction-test")
            .module("content", async move |m: &mut Module| {
                let doors = Doors {
                    reporter: m.reporter(),
                    database: m.database(&[]).await?,
                    outbox: m.outbox()?,
                };
                *lock(&kept) = Some(doors);
                let hear = Arc::new(Hear(hear.clone()));
                m.listen(Listener::new("test", ConsumerOptions::default()).on(hear));
                Ok(())
            })
            .module("interaction", interaction::install)
            .everywhere("keys", keys);
        Self {
            builder: TestApp::builder(app),
            doors,
            told,
            settings: Vec::new(),
            fresh: None,
        }
    }

    /// On the engine that the variable names, if it is there.
    pub(crate) async fn on(variable: &str) -> Option<Self> {
        let fresh = FreshDatabase::create(&engine_url(variable)?).await;
        let mut plan = Self::embedded().set("database.url", &fresh.url());
        plan.fresh = Some(fresh);
        Some(plan)
    }

    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.builder = self.builder.set(key, value);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn shape(mut self, shape: Shape) -> Self {
        self.builder = self.builder.shape(shape);
        self
    }

    pub(crate) async fn start(self) -> Bench {
        let app = self.builder.start().await;
        let last = app.processes().len() - 1;
        let url = match &self.fresh {
            Some(fresh) => fresh.url(),
            None => format!("sqlite:{}/", app.data(last).display()),
        };
        let cx = Context::new(app.runtime());
        let client = app.client("content");
        let base = app.runtime().random_below(1 << 40) as i64;
        Bench {
            app,
            client,
            cx,
            told: self.told,
            base,
            doors: self.doors,
            settings: self.settings,
            url,
            fresh: self.fresh,
        }
    }
}

impl Bench {
    /// Starts another process on the same engines, unless the database is of this process only.
    pub(crate) async fn twin(&self) -> Option<Self> {
        self.fresh.as_ref()?;
        let set = |plan: Plan, (key, value): &(String, String)| plan.set(key, value);
        let mut twin = self.settings.iter().fold(Plan::embedded(), set).start().await;
        twin.base = self.base;
        twin.url.clone_from(&self.url);
        Some(twin)
    }

    /// Returns the id of item number `n` of this test.
    pub(crate) fn id(&self, n: i64) -> i64 {
        self.base + n
    }

    /// Returns the id of account number `n` of this test; 0 is nobody.
    pub(crate) fn who(&self, n: i64) -> i64 {
        if n == 0 { 0 } else { self.base + n }
    }

    /// Returns what was told of likes so far: numbers of items of this test and their likes.
    pub(crate) fn told(&self) -> Vec<(i64, i64)> {
        let told = lock(&self.told);
        told.iter().map(|(id, likes)| (id - self.base, *likes)).collect()
    }

    pub(crate) async fn like(&self, n: i64, account_id: i64, liked: bool) -> mosaic::Result<()> {
        let request = SetLikeRequest {
            biz: ARTICLE.to_owned(),
            biz_id: self.id(n),
            account_id: self.who(account_id),
            liked,
        };
        self.client.set_like(&self.cx, request).await
    }

    pub(crate) async fn collect(&self, n: i64, account_id: i64, folder: Option<i64>) -> mosaic::Result<()> {
        let request = SetCollectedRequest {
            biz: ARTICLE.to_owned(),
            biz_id: self.id(n),
            account_id: self.who(account_id),
            folder_id: folder.unwrap_or_default(),
            collected: folder.is_some(),
        };
        self.client.set_collected(&self.cx, request).await
    }

    pub(crate) async fn get(&self, n: i64, account_id: i64) -> ItemState {
        let request = GetRequest {
            biz: ARTICLE.to_owned(),
            biz_id: self.id(n),
            account_id: self.who(account_id),
        };
        self.client.get(&self.cx, request).await.unwrap()
    }

    /// Returns the event that `reader` has read item number `n`.
    fn read_event(&self, n: i64, reader: Option<i64>, at_us: i64) -> ArticleRead {
        ArticleRead {
            article_id: self.id(n),
            reader: reader.map(|n| self.who(n).try_into().unwrap()),
            at_us,
        }
    }

    fn doors(&self) -> Doors {
        lock(&self.doors).clone().unwrap()
    }

    /// Reports that `reader` has read item number `n`.
    pub(crate) fn read(&self, n: i64, reader: Option<i64>, at_us: i64) {
        let event = self.read_event(n, reader, at_us);
        self.doors().reporter.report(&self.cx, &event);
    }

    /// Publishes one and the same read of item number `n` so many times.
    pub(crate) async fn read_repeated(&self, n: i64, reader: i64, times: usize) {
        let Doors { database, outbox, .. } = self.doors();
        let message = Message::of(&self.cx, &self.read_event(n, Some(reader), 1)).unwrap();
        for message in vec![message; times] {
            let message = &[message];
            let published = database.transaction(async |tx| outbox.publish_all(&tx, message).await);
            published.await.unwrap();
        }
    }

    pub(crate) async fn database(&self) -> Database {
        Database::open(&self.url, "interaction", &Options::default(), &[])
            .await
            .unwrap()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let database = self.database().await;
        let statement = Statement::from_string(database.backend(), sql);
        let row = database.query_one_raw(statement).await.unwrap().unwrap();
        let number = row.try_get::<i64>("", "n").unwrap();
        database.close().await;
        number
    }

    /// Are the counters those of the rows, in the tables and as callers see them?
    pub(crate) async fn check_counters(&self, items: &[i64]) {
        for (kind, counter) in [(1, "n_likes"), (2, "n_collects")] {
            let wrong = format!(
                "SELECT COUNT(*) AS n FROM item WHERE {counter} <> (SELECT COUNT(*) FROM mark WHERE mark.biz = item.biz \
                 AND mark.biz_id = item.biz_id AND mark.kind = {kind})"
            );
            assert_eq!(self.number(&wrong).await, 0, "{counter} are not those of the rows");
        }
        for n in items {
            let (state, biz_id) = (self.get(*n, 0).await, self.id(*n));
            let rows = |kind| format!("SELECT COUNT(*) AS n FROM mark WHERE biz_id = {biz_id} AND kind = {kind}");
            assert_eq!(state.likes, self.number(&rows(1)).await, "likes as shown");
            assert_eq!(state.collects, self.number(&rows(2)).await, "collections as shown");
        }
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
        if let Some(fresh) = self.fresh {
            fresh.remove().await;
        }
    }
}
