//! The module under test with what it asks, somebody who registers people, and calls in short.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic::{AccountId, App, Caller, Context, Identity, Module, Result, Secret, Transactions, lock};
use mosaic_api::events::UserRegistered;
use mosaic_api::search::v1::{
    IndexItemRequest, RebuildRequest, RemoveItemRequest, SearchClient, SearchRequest, SearchResponse,
};
use mosaic_api::users::v1::{UpdateProfileRequest, UsersClient};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys, until};

pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// What is asked in a process of its own.
pub(crate) const APART: Shape = Shape::Apart(&[&["search", "registrar"], &["users", "interaction"]]);

/// Registers people.
#[derive(Clone, Default)]
pub(crate) struct Registrar(Arc<Mutex<Option<Transactions>>>);

impl Registrar {
    pub(crate) async fn register(&self, app: &TestApp, account: i64) {
        let transactions = lock(&self.0).clone().unwrap();
        let account = AccountId::try_from(account).unwrap();
        let cx = Context::new(app.runtime());
        let registered = transactions.run(async |tx| tx.publish(&cx, &UserRegistered { account }).await.map(drop));
        registered.await.unwrap();
    }
}

/// The whole of it.
pub(crate) fn app(shape: Shape) -> (TestAppBuilder, Registrar) {
    let registrar = Registrar::default();
    let kept = registrar.clone();
    let install_registrar = async move |m: &mut Module| {
        m.database(&[]).await?;
        *lock(&kept.0) = Some(m.transactions()?);
        Ok(())
    };
    let app = App::new("search_test")
        .module("search", search::install)
        .module("users", users::install)
        .module("interaction", interaction::install)
        .module("registrar", install_registrar)
        .everywhere("keys", keys);
    (TestApp::builder(app).shape(shape), registrar)
}

/// Search, and nobody whom it could ask.
pub(crate) fn alone() -> TestAppBuilder {
    let app = App::new("search_test")
        .module("search", search::install)
        .everywhere("keys", keys);
    TestApp::builder(app)
}

/// Calls search.
pub(crate) struct Calls<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) client: SearchClient,
}

/// An article.
pub(crate) fn article(biz_id: i64, version: i64, title: &str, content: &str) -> IndexItemRequest {
    IndexItemRequest {
        biz: "article".into(),
        biz_id,
        title: title.into(),
        content: content.into(),
        tags: vec![],
        author_id: 1,
        version,
    }
}

pub(crate) fn query(expression: &str) -> SearchRequest {
    SearchRequest {
        expression: expression.into(),
        limit: 50,
        ..SearchRequest::default()
    }
}

impl<'a> Calls<'a> {
    pub(crate) fn of(app: &'a TestApp) -> Self {
        let client = app.client("content");
        Self { app, client }
    }

    pub(crate) fn cx(&self) -> Context {
        Context::new(self.app.runtime())
    }

    pub(crate) async fn index(&self, item: IndexItemRequest) {
        self.client.index_item(&self.cx(), item).await.unwrap();
    }

    pub(crate) async fn remove(&self, biz_id: i64, version: i64) {
        let biz = "article".to_owned();
        let request = RemoveItemRequest { biz, biz_id, version };
        self.client.remove_item(&self.cx(), request).await.unwrap();
    }

    pub(crate) async fn rebuild(&self) {
        self.client.rebuild(&self.cx(), RebuildRequest {}).await.unwrap();
    }

    pub(crate) async fn search(&self, request: SearchRequest) -> Result<SearchResponse> {
        self.client.search(&self.cx(), request).await
    }

    /// Returns the items that are found, best first.
    pub(crate) async fn items(&self, request: SearchRequest) -> Vec<i64> {
        let found = self.search(request).await.unwrap();
        found.items.iter().map(|item| item.biz_id).collect()
    }

    /// Returns the people who are found, best first.
    pub(crate) async fn users(&self, expression: &str) -> Vec<(i64, String)> {
        let found = self.search(query(expression)).await.unwrap();
        found
            .users
            .into_iter()
            .map(|user| (user.account_id, user.nickname))
            .collect()
    }

    /// Waits until these items are found, in this order.
    pub(crate) async fn until_items(&self, expression: &str, want: &[i64]) {
        until("the items are found", WAIT, || async {
            let found = self.search(query(expression)).await;
            found.is_ok_and(|found| found.items.iter().map(|item| item.biz_id).collect::<Vec<_>>() == want)
        })
        .await;
    }

    /// Changes the nickname of an account, as its owner does.
    pub(crate) async fn rename(&self, account: i64, nickname: &str) {
        let identity = Identity {
            account: AccountId::try_from(account).unwrap(),
            session: "s".into(),
            roles: vec![],
            token: Secret::new(String::new()),
        };
        let cx = self.cx().with_caller(Caller::Account(Arc::new(identity)));
        let request = UpdateProfileRequest {
            nickname: Some(nickname.into()),
            ..UpdateProfileRequest::default()
        };
        // As within their process: nobody here could verify a token of his.
        let users = self.app.processes().last().unwrap();
        let users: UsersClient = users.directory().client("content");
        users.update_profile(&cx, request).await.unwrap();
    }
}
