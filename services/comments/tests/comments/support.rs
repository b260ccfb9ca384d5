//! The module under test, and calls in short.

use mosaic::{App, Context, Module, Result};
use mosaic_api::comments::v1::{
    Comment, CommentsClient, CountRequest, CreateRequest, DeleteItemRequest, DeleteRequest, ListRepliesRequest,
    ListRootsRequest, Root,
};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys};

const BIZ: &str = "article";

pub(crate) fn app(shape: Shape) -> TestAppBuilder {
    let app = App::new("comments_test")
        .module("comments", comments::install)
        .module("front", async |_: &mut Module| Ok(()))
        .everywhere("keys", keys);
    TestApp::builder(app).shape(shape)
}

/// Calls about one item.
pub(crate) struct Article<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) client: CommentsClient,
    pub(crate) biz_id: i64,
}

impl<'a> Article<'a> {
    pub(crate) fn new(app: &'a TestApp, biz_id: i64) -> Self {
        let client = app.client("content");
        Self { app, client, biz_id }
    }

    pub(crate) fn cx(&self) -> Context {
        Context::new(self.app.runtime())
    }

    pub(crate) fn draft(&self, account_id: i64, parent_id: i64, content: &str) -> CreateRequest {
        CreateRequest {
            biz: BIZ.to_owned(),
            biz_id: self.biz_id,
            account_id,
            parent_id,
            content: content.to_owned(),
        }
    }

    pub(crate) async fn try_write(&self, account: i64, parent: i64, content: &str) -> Result<Comment> {
        self.client
            .create(&self.cx(), self.draft(account, parent, content))
            .await
    }

    pub(crate) async fn write(&self, account: i64, parent: i64, content: &str) -> Comment {
        self.try_write(account, parent, content).await.unwrap()
    }

    pub(crate) async fn delete(&self, id: i64, account_id: i64) -> Result<()> {
        self.client.delete(&self.cx(), DeleteRequest { id, account_id }).await
    }

    pub(crate) async fn delete_item(&self) {
        let request = DeleteItemRequest {
            biz: BIZ.to_owned(),
            biz_id: self.biz_id,
        };
        self.client.delete_item(&self.cx(), request).await.unwrap();
    }

    pub(crate) async fn roots(&self, before_id: i64, limit: u32) -> Vec<Root> {
        let request = ListRootsRequest {
            biz: BIZ.to_owned(),
            biz_id: self.biz_id,
            before_id,
            limit,
        };
        self.client.list_roots(&self.cx(), request).await.unwrap().roots
    }

    /// Returns all replies of a root, page by page.
    pub(crate) async fn replies(&self, root_id: i64) -> Vec<Comment> {
        let mut all: Vec<Comment> = Vec::new();
        loop {
            let request = ListRepliesRequest {
                root_id,
                after_id: all.last().map_or(0, |reply| reply.id),
                limit: 50,
            };
            let page = self.client.list_replies(&self.cx(), request).await.unwrap().replies;
            let is_last = page.len() < 50;
            all.extend(page);
            if is_last {
                return all;
            }
        }
    }

    pub(crate) async fn counts(&self, biz_ids: &[i64]) -> Vec<i64> {
        let request = CountRequest {
            biz: BIZ.to_owned(),
            biz_ids: biz_ids.to_vec(),
        };
        self.client.count(&self.cx(), request).await.unwrap().counts
    }

    /// Fails unless counters are what rows say, and every reply has what it replies to.
    pub(crate) async fn assert_sound(&self) {
        let mut n_rows = 0;
        for root in self.roots(0, 50).await {
            let comment = root.comment.unwrap();
            let replies = self.replies(comment.id).await;
            assert_eq!(root.n_replies, replies.len() as i64, "the counter of a root");
            let ids: std::collections::HashSet<_> = replies.iter().map(|reply| reply.id).chain([comment.id]).collect();
            for reply in &replies {
                assert!(ids.contains(&reply.parent_id), "an orphan: {}", reply.id);
                assert_eq!(reply.root_id, comment.id);
            }
            n_rows += ids.len() as i64;
        }
        assert_eq!(self.counts(&[self.biz_id]).await, [n_rows], "the counter of the item");
    }
}
