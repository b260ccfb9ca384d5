//! Comments on articles, in the words of the clients.

use mosaic::{AccountId, Context, Error, Result};
use mosaic_api::comments::v1::{self as comments, CommentsClient};
use mosaic_api::content::v1::{
    self as proto, Comment, CommentList, CommentRequest, DeleteCommentRequest, ListCommentsRequest, ListRepliesRequest,
};

use crate::articles::model::{article_id, not_found};
use crate::articles::show::{Show, author};
use crate::articles::store::Store;
use crate::articles::{BIZ, page_limit};
use crate::model::number;
use crate::words::in_our_words;

/// Longest comment, in characters.
const CONTENT_MAX: usize = 2000;

/// See the module documentation.
pub(crate) struct ArticleComments {
    store: Store,
    show: Show,
    comments: CommentsClient,
}

impl ArticleComments {
    pub(crate) const fn new(store: Store, show: Show, comments: CommentsClient) -> Self {
        Self { store, show, comments }
    }

    /// Puts names to comments.
    async fn signed(&self, cx: &Context, comments: Vec<comments::Comment>) -> Result<Vec<Comment>> {
        let accounts = comments.iter().map(|comment| AccountId::try_from(comment.account_id));
        let accounts = accounts.collect::<Result<Vec<_>>>()?;
        let names = self.show.names(cx, &accounts).await?;
        let signed = comments.into_iter().zip(accounts).map(|(comment, account)| Comment {
            id: comment.id,
            article_id: comment.biz_id,
            root_id: comment.root_id,
            parent_id: comment.parent_id,
            author: Some(author(account, &names)),
            content: comment.content,
            ctime: self.show.time(comment.created_at_us),
            ..Comment::default()
        });
        Ok(signed.collect())
    }
}

#[mosaic::async_trait]
impl proto::ArticleComments for ArticleComments {
    async fn comment(&self, cx: &Context, request: CommentRequest) -> Result<Comment> {
        let account = cx.account()?;
        let invalid = |text| Err(Error::invalid_argument("COMMENT_INVALID", text).numbered(number::USER));
        if request.content.trim().is_empty() {
            return invalid("评论不能为空");
        }
        if request.content.chars().count() > CONTENT_MAX {
            return invalid("评论过长");
        }
        let article = self.store.published(article_id(request.id)?).await?;
        let article = article.ok_or_else(not_found)?;
        let request = comments::CreateRequest {
            biz: BIZ.to_owned(),
            biz_id: article.id.get(),
            account_id: account.get(),
            parent_id: request.parent_id,
            content: request.content,
        };
        let comment = self.comments.create(cx, request).await.map_err(in_our_words)?;
        let mut signed = self.signed(cx, vec![comment]).await?;
        signed.pop().ok_or_else(|| Error::internal("one comment in, one out"))
    }

    async fn delete_comment(&self, cx: &Context, request: DeleteCommentRequest) -> Result<()> {
        let request = comments::DeleteRequest {
            id: request.id,
            account_id: cx.account()?.get(),
        };
        self.comments.delete(cx, request).await.map_err(in_our_words)
    }

    async fn list_comments(&self, cx: &Context, request: ListCommentsRequest) -> Result<CommentList> {
        let request = comments::ListRootsRequest {
            biz: BIZ.to_owned(),
            biz_id: article_id(request.id)?.get(),
            before_id: request.before,
            limit: page_limit(request.limit)?,
        };
        let roots = self.comments.list_roots(cx, request).await.map_err(in_our_words)?.roots;
        // All names of the page are asked for at once.
        let mut flat = Vec::new();
        let mut shape = Vec::with_capacity(roots.len());
        for root in roots {
            shape.push((root.newest_replies.len(), root.n_replies));
            flat.extend(root.comment);
            flat.extend(root.newest_replies);
        }
        let mut signed = self.signed(cx, flat).await?.into_iter();
        let comments = shape.into_iter().filter_map(|(n_newest, reply_cnt)| {
            let root = signed.next()?;
            let replies = signed.by_ref().take(n_newest).collect();
            Some(Comment {
                replies,
                reply_cnt,
                ..root
            })
        });
        Ok(CommentList {
            comments: comments.collect(),
        })
    }

    async fn list_replies(&self, cx: &Context, request: ListRepliesRequest) -> Result<CommentList> {
        let request = comments::ListRepliesRequest {
            root_id: request.root_id,
            after_id: request.after,
            limit: page_limit(request.limit)?,
        };
        let replies = self
            .comments
            .list_replies(cx, request)
            .await
            .map_err(in_our_words)?
            .replies;
        Ok(CommentList {
            comments: self.signed(cx, replies).await?,
        })
    }
}
