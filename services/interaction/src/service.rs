//! The contract over committer, counters and lists.

use std::collections::HashMap;

use mosaic::{AccountId, Context, Result};
use mosaic_api::interaction::v1::{
    CollectedEntry, CreateFolderRequest, Cursor, DeleteFolderRequest, Folder, GetManyRequest, GetManyResponse,
    GetRequest, HistoryEntry, Interaction, ItemState, ListCollectedIdsRequest, ListCollectedIdsResponse,
    ListCollectedRequest, ListCollectedResponse, ListFoldersRequest, ListFoldersResponse, ListHistoryRequest,
    ListHistoryResponse, ListLikedRequest, ListLikedResponse, RenameFolderRequest, SetCollectedRequest, SetLikeRequest,
};

use crate::committer::Committer;
use crate::counts::CachedCounts;
use crate::model::{Change, Counts, DEFAULT_FOLDER, Item, Kind, Mark, Own};
use crate::own::CachedOwn;
use crate::store::{Entry, Folders, Lists, Page};

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) committer: Committer,
    pub(crate) counts: CachedCounts,
    pub(crate) own: CachedOwn,
    pub(crate) lists: Lists,
    pub(crate) folders: Folders,
}

#[mosaic::async_trait]
impl Interaction for Service {
    async fn set_like(&self, cx: &Context, request: SetLikeRequest) -> Result<()> {
        let mark = mark(request.biz, request.biz_id, request.account_id, Kind::Like)?;
        let wanted = request.liked.then_some(DEFAULT_FOLDER);
        self.committer.commit(cx, Change { mark, wanted }).await
    }

    async fn set_collected(&self, cx: &Context, request: SetCollectedRequest) -> Result<()> {
        let mark = mark(request.biz, request.biz_id, request.account_id, Kind::Collection)?;
        let wanted = request.collected.then_some(request.folder_id);
        self.committer.commit(cx, Change { mark, wanted }).await
    }

    async fn get(&self, _: &Context, request: GetRequest) -> Result<ItemState> {
        let own = match request.account_id {
            0 => Own::default(),
            account => {
                let account = AccountId::try_from(account)?;
                self.own.one(account, &request.biz, request.biz_id).await?
            }
        };
        let item = Item {
            biz: request.biz.into(),
            biz_id: request.biz_id,
        };
        let counts = self.counts.get(&item).await?;
        Ok(state(item.biz_id, counts, own))
    }

    async fn get_many(&self, _: &Context, request: GetManyRequest) -> Result<GetManyResponse> {
        let GetManyRequest {
            biz,
            biz_ids,
            account_id,
        } = request;
        let counts = self.lists.counts(&biz, &biz_ids).await?;
        let own = match account_id {
            0 => HashMap::new(),
            account => self.own.many(AccountId::try_from(account)?, &biz, &biz_ids).await?,
        };
        let state = |id: i64| {
            let counts = counts.get(&id).copied().unwrap_or_default();
            state(id, counts, own.get(&id).copied().unwrap_or_default())
        };
        Ok(GetManyResponse {
            items: biz_ids.into_iter().map(state).collect(),
        })
    }

    async fn list_history(&self, _: &Context, request: ListHistoryRequest) -> Result<ListHistoryResponse> {
        let account = AccountId::try_from(request.account_id)?;
        let page = page(request.before, request.limit);
        let entries = self.lists.history(account, &request.biz, page).await?;
        let shown = |Entry { biz_id, at_us }| HistoryEntry { biz_id, at_us };
        Ok(ListHistoryResponse {
            entries: entries.into_iter().map(shown).collect(),
        })
    }

    async fn create_folder(&self, cx: &Context, request: CreateFolderRequest) -> Result<Folder> {
        let account = AccountId::try_from(request.account_id)?;
        let created = self
            .folders
            .create(cx.runtime(), account, &request.biz, request.name)
            .await?;
        Ok(Folder {
            id: created.id,
            name: created.name,
        })
    }

    async fn rename_folder(&self, _: &Context, request: RenameFolderRequest) -> Result<()> {
        let account = AccountId::try_from(request.account_id)?;
        self.folders.rename(account, request.folder_id, &request.name).await
    }

    async fn delete_folder(&self, _: &Context, request: DeleteFolderRequest) -> Result<()> {
        let account = AccountId::try_from(request.account_id)?;
        self.folders.delete(account, request.folder_id).await
    }

    async fn list_folders(&self, _: &Context, request: ListFoldersRequest) -> Result<ListFoldersResponse> {
        let account = AccountId::try_from(request.account_id)?;
        let folders = self.folders.list(account, &request.biz).await?;
        let shown = folders.into_iter().map(|folder| Folder {
            id: folder.id,
            name: folder.name,
        });
        Ok(ListFoldersResponse {
            folders: shown.collect(),
        })
    }

    async fn list_collected(&self, _: &Context, request: ListCollectedRequest) -> Result<ListCollectedResponse> {
        let account = AccountId::try_from(request.account_id)?;
        let page = page(request.before, request.limit);
        let folder = Some(request.folder_id);
        let entries = self.lists.collected(account, &request.biz, folder, page).await?;
        let shown = |Entry { biz_id, at_us }| CollectedEntry { biz_id, at_us };
        Ok(ListCollectedResponse {
            entries: entries.into_iter().map(shown).collect(),
        })
    }

    async fn list_collected_ids(
        &self,
        _: &Context,
        request: ListCollectedIdsRequest,
    ) -> Result<ListCollectedIdsResponse> {
        let account = AccountId::try_from(request.account_id)?;
        let page = page(None, request.limit);
        let entries = self.lists.collected(account, &request.biz, None, page).await?;
        Ok(ListCollectedIdsResponse { biz_ids: ids(&entries) })
    }

    async fn list_liked(&self, _: &Context, request: ListLikedRequest) -> Result<ListLikedResponse> {
        let account = AccountId::try_from(request.account_id)?;
        let entries = self
            .lists
            .liked(account, &request.biz, page(None, request.limit))
            .await?;
        Ok(ListLikedResponse { biz_ids: ids(&entries) })
    }
}

fn mark(biz: String, biz_id: i64, account_id: i64, kind: Kind) -> Result<Mark> {
    Ok(Mark {
        item: Item {
            biz: biz.into(),
            biz_id,
        },
        account: AccountId::try_from(account_id)?,
        kind,
    })
}

fn page(before: Option<Cursor>, limit: u32) -> Page {
    let before = before.map(|Cursor { at_us, biz_id }| Entry { biz_id, at_us });
    Page { before, limit }
}

fn ids(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.biz_id).collect()
}

fn state(biz_id: i64, counts: Counts, own: Own) -> ItemState {
    let Counts { reads, likes, collects } = counts;
    let Own { liked, collected } = own;
    ItemState {
        biz_id,
        reads,
        likes,
        collects,
        liked,
        collected,
    }
}
