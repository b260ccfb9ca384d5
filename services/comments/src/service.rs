//! The contract over rules and store.

use mosaic::{AccountId, Context, Result};
use mosaic_api::comments::v1::{
    Comment as Shown, Comments, CountRequest, CountResponse, CreateRequest, DeleteItemRequest, DeleteRequest,
    ListRepliesRequest, ListRepliesResponse, ListRootsRequest, ListRootsResponse, Root,
};

use crate::model::{Comment, CommentId, Draft, Item, Key};
use crate::store::Store;

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) store: Store,
}

#[mosaic::async_trait]
impl Comments for Service {
    async fn create(&self, cx: &Context, request: CreateRequest) -> Result<Shown> {
        let parent = match request.parent_id {
            0 => None,
            id => Some(CommentId::try_from(id)?),
        };
        let draft = Draft {
            item: Item {
                biz: request.biz,
                biz_id: request.biz_id,
            },
            account: AccountId::try_from(request.account_id)?,
            parent,
            content: request.content,
            key: cx.idempotency_key().map(|key| Key::of(key)),
        };
        let comment = self.store.create(cx.runtime(), &draft).await?;
        Ok(shown(&draft.item, comment))
    }

    async fn delete(&self, _: &Context, request: DeleteRequest) -> Result<()> {
        let account = AccountId::try_from(request.account_id)?;
        self.store.delete(CommentId::try_from(request.id)?, account).await
    }

    async fn list_roots(&self, _: &Context, request: ListRootsRequest) -> Result<ListRootsResponse> {
        let item = Item {
            biz: request.biz,
            biz_id: request.biz_id,
        };
        let threads = self.store.roots(&item, request.before_id, request.limit).await?;
        let roots = threads.into_iter().map(|thread| Root {
            n_replies: thread.root.n_replies,
            comment: Some(shown(&item, thread.root)),
            newest_replies: thread
                .newest_replies
                .into_iter()
                .map(|reply| shown(&item, reply))
                .collect(),
        });
        Ok(ListRootsResponse { roots: roots.collect() })
    }

    async fn list_replies(&self, _: &Context, request: ListRepliesRequest) -> Result<ListRepliesResponse> {
        let root = CommentId::try_from(request.root_id)?;
        let Some((item, replies)) = self.store.replies(root, request.after_id, request.limit).await? else {
            return Ok(ListRepliesResponse::default());
        };
        let replies = replies.into_iter().map(|reply| shown(&item, reply)).collect();
        Ok(ListRepliesResponse { replies })
    }

    async fn count(&self, _: &Context, request: CountRequest) -> Result<CountResponse> {
        let found = self.store.counts(&request.biz, &request.biz_ids).await?;
        let counts = request.biz_ids.iter().map(|id| found.get(id).copied().unwrap_or(0));
        Ok(CountResponse {
            counts: counts.collect(),
        })
    }

    async fn delete_item(&self, cx: &Context, request: DeleteItemRequest) -> Result<()> {
        let item = Item {
            biz: request.biz,
            biz_id: request.biz_id,
        };
        self.store.delete_item(cx.runtime(), &item).await
    }
}

fn shown(item: &Item, comment: Comment) -> Shown {
    Shown {
        id: comment.id.get(),
        biz: item.biz.clone(),
        biz_id: item.biz_id,
        account_id: comment.account.get(),
        root_id: comment.place.root().map_or(0, CommentId::get),
        parent_id: comment.place.parent().map_or(0, CommentId::get),
        content: comment.content,
        created_at_us: comment.created.as_micros(),
    }
}
