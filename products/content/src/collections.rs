//! Folders of collected articles, in the words of the clients.

use mosaic::{Context, Error, Result};
use mosaic_api::content::v1::{
    self as proto, CollectedEntry, CollectedList, CreateFolderRequest, Folder, FolderId, FolderList,
    ListCollectedRequest, RenameFolderRequest,
};
use mosaic_api::interaction::v1::{self as interaction, DeleteFolderRequest, ListFoldersRequest};

use crate::articles::show::Show;
use crate::articles::store::Store;
use crate::articles::{BIZ, page_limit, timeline};
use crate::model::number;
use crate::words::in_our_words;

/// Longest name of a folder, in characters.
const NAME_MAX: usize = 64;
/// What clients call the folder that everybody has.
const DEFAULT_NAME: &str = "默认收藏夹";

/// See the module documentation.
pub(crate) struct Collections {
    store: Store,
    show: Show,
}

impl Collections {
    pub(crate) const fn new(store: Store, show: Show) -> Self {
        Self { store, show }
    }
}

#[mosaic::async_trait]
impl proto::Collections for Collections {
    async fn create_folder(&self, cx: &Context, request: CreateFolderRequest) -> Result<FolderId> {
        let request = interaction::CreateFolderRequest {
            account_id: cx.account()?.get(),
            biz: BIZ.to_owned(),
            name: name(&request.name)?,
        };
        let made = self.show.interaction.create_folder(cx, request).await;
        let cid = made.map_err(in_our_words)?.id;
        Ok(FolderId { cid })
    }

    async fn rename_folder(&self, cx: &Context, request: RenameFolderRequest) -> Result<()> {
        let request = interaction::RenameFolderRequest {
            account_id: cx.account()?.get(),
            folder_id: request.cid,
            name: name(&request.name)?,
        };
        let renamed = self.show.interaction.rename_folder(cx, request).await;
        renamed.map_err(in_our_words)
    }

    async fn delete_folder(&self, cx: &Context, request: FolderId) -> Result<()> {
        let request = DeleteFolderRequest {
            account_id: cx.account()?.get(),
            folder_id: request.cid,
        };
        let deleted = self.show.interaction.delete_folder(cx, request).await;
        deleted.map_err(in_our_words)
    }

    async fn list_folders(&self, cx: &Context, (): ()) -> Result<FolderList> {
        let request = ListFoldersRequest {
            account_id: cx.account()?.get(),
            biz: BIZ.to_owned(),
        };
        let made = self.show.interaction.list_folders(cx, request).await;
        let made = made.map_err(in_our_words)?.folders.into_iter();
        let default = Folder {
            cid: 0,
            name: DEFAULT_NAME.to_owned(),
        };
        let made = made.map(|interaction::Folder { id, name }| Folder { cid: id, name });
        Ok(FolderList {
            folders: [default].into_iter().chain(made).collect(),
        })
    }

    async fn list_collected(&self, cx: &Context, request: ListCollectedRequest) -> Result<CollectedList> {
        let request = interaction::ListCollectedRequest {
            account_id: cx.account()?.get(),
            biz: BIZ.to_owned(),
            folder_id: request.cid,
            before: timeline::parse_cursor(&request.before)?,
            limit: page_limit(request.limit)?,
        };
        let collected = self.show.interaction.list_collected(cx, request).await;
        let collected = collected.map_err(in_our_words)?.entries;
        let marks: Vec<_> = collected.iter().map(|entry| (entry.biz_id, entry.at_us)).collect();
        let entries = timeline::entries(cx, &self.store, &self.show, &marks).await?;
        let entries = entries.into_iter().map(|entry| CollectedEntry {
            article: Some(entry.article),
            collected_at: entry.at,
            cursor: entry.cursor,
        });
        Ok(CollectedList {
            entries: entries.collect(),
        })
    }
}

/// Reads the name of a folder.
///
/// # Errors
/// `InvalidArgument` (`FOLDER_NAME_INVALID`), numbered and in the words of the clients.
fn name(text: &str) -> Result<String> {
    let text = text.trim();
    let invalid = |said| Err(Error::invalid_argument("FOLDER_NAME_INVALID", said).numbered(number::USER));
    if text.is_empty() {
        return invalid("收藏夹名称不能为空");
    }
    if text.chars().count() > NAME_MAX {
        return invalid("收藏夹名称过长");
    }
    Ok(text.to_owned())
}
