//! The contract over the table and the engine.

use std::sync::Arc;

use mosaic::blob::{BlobKey, BlobPrefix, Blobs as Engine, ContentType, Disposition, GetGrant, LIST_MAX, PutGrant};
use mosaic::sql::micros;
use mosaic::{AccountId, Context, Error, Result, Timestamp};
use mosaic_api::blobs::v1::{
    self as proto, BeginUploadRequest, BeginUploadResponse, Blob, Blobs, DeleteRequest, FinishUploadRequest,
    GetRequest, GetUrlRequest, GetUrlResponse,
};

use crate::model::{ABANDONED_AFTER, GET_TTL, HEAD_LEN, Kind, PUT_TTL, Refusal, Type, UNFINISHED_MAX, accept, examine};
use crate::store::{File, Finished, Store};

/// Pages of a listing that one clean-up looks at.
const PAGES_MAX: usize = 20;

/// See the module documentation.
pub(crate) struct Service {
    store: Store,
    engine: Arc<dyn Engine>,
}

impl Service {
    pub(crate) fn new(store: Store, engine: Arc<dyn Engine>) -> Self {
        Self { store, engine }
    }

    async fn finished(&self, id: &str) -> Result<(File, Finished)> {
        let file = self.store.file(id).await?.ok_or_else(not_found)?;
        let finished = file.finished.clone().ok_or_else(not_found)?;
        Ok((file, finished))
    }

    /// Takes a copy of what was put and looks at it; only the copy of the attempt that is first in the table is ever read.
    async fn finish(&self, cx: &Context, file: File) -> Result<Blob> {
        let attempt = cx.runtime().random_hex::<16>();
        let copy = copied(&file.id, &attempt)?;
        if !self.engine.copy(&incoming(&file.id)?, &copy).await? {
            // Another call may have finished it, and cleared up, since we looked.
            let (file, finished) = self.finished(&file.id).await.map_err(|error| match error.code() {
                mosaic::Code::NotFound => Error::failed_precondition("BLOB_NOT_UPLOADED", "nothing was uploaded"),
                _ => error,
            })?;
            return Ok(shown(&file, &finished));
        }
        let examined = self.examine(&file, &copy).await;
        if let Err(error) = examined {
            self.engine.delete(&copy).await?;
            if error.reason() != "BLOBS_UNAVAILABLE" && self.store.give_up(&file.id).await? {
                self.erase(&file.id).await?;
            }
            return Err(error);
        }
        let now_us = micros(cx.runtime().now());
        if !self.store.finish(&file.id, &attempt, now_us).await? {
            self.engine.delete(&copy).await?;
        }
        let (file, finished) = self.finished(&file.id).await?;
        if let Err(error) = self.engine.delete(&incoming(&file.id)?).await {
            tracing::info!(cause = error.cause_chain(), "what was uploaded is cleared up later");
        }
        Ok(shown(&file, &finished))
    }

    async fn examine(&self, file: &File, copy: &BlobKey) -> Result<()> {
        let meta = self.engine.head(copy).await?.ok_or_else(not_found)?;
        let head = match meta.size_bytes {
            0 => None,
            size_bytes => self.engine.get_range(copy, 0..HEAD_LEN.min(size_bytes)).await?,
        };
        let head = head.map(|blob| blob.bytes).unwrap_or_default();
        examine(file.content_type, file.size_bytes, meta.size_bytes, &head).map_err(Error::from)
    }

    /// Deletes the bytes of a file that is removed, and then forgets it: what fails here is done again by the clean-up.
    async fn erase(&self, id: &str) -> Result<()> {
        self.engine.delete(&incoming(id)?).await?;
        let prefix: BlobPrefix = format!("uploads/files/{id}/").parse()?;
        for copy in self.engine.list(&prefix, None, LIST_MAX).await?.keys {
            self.engine.delete(&copy).await?;
        }
        self.store.forget(id).await
    }

    /// Removes what nobody will finish, and what removals have left.
    pub(crate) async fn clean_up(&self, now: Timestamp) -> Result<()> {
        const AT_ONCE: u64 = 500;
        let begun_before = now.minus(ABANDONED_AFTER);
        for id in self.store.leftovers(micros(begun_before), AT_ONCE).await? {
            if self.store.give_up(&id).await? {
                self.erase(&id).await?;
            }
        }
        self.sweep_incoming(begun_before).await
    }

    /// Removes what was put through URLs whose upload is long finished or gone.
    async fn sweep_incoming(&self, put_before: Timestamp) -> Result<()> {
        let prefix: BlobPrefix = "uploads/incoming/".parse()?;
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.engine.list(&prefix, after.as_ref(), LIST_MAX).await?;
            for key in page.keys {
                let meta = self.engine.head(&key).await?;
                if meta.is_some_and(|meta| meta.modified < put_before) {
                    self.engine.delete(&key).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }
}

#[mosaic::async_trait]
impl Blobs for Service {
    async fn begin_upload(&self, cx: &Context, request: BeginUploadRequest) -> Result<BeginUploadResponse> {
        let account = AccountId::try_from(request.account_id)?;
        let claimed = accept(kind(request.kind())?, &request.content_type, request.size_bytes)?;
        // Not exact when many begin at once, and need not be.
        if self.store.n_unfinished(account).await? >= UNFINISHED_MAX {
            let message = "too many uploads were begun and not finished";
            return Err(Error::resource_exhausted("UPLOADS_TOO_MANY", message));
        }
        let file = File {
            id: cx.runtime().random_hex::<16>(),
            account,
            kind: request.kind,
            content_type: claimed,
            size_bytes: request.size_bytes,
            begun_us: micros(cx.runtime().now()),
            finished: None,
        };
        self.store.begin(&file).await?;
        let grant = PutGrant {
            ttl: PUT_TTL,
            content_type: header(claimed)?,
            size_bytes: u64::try_from(request.size_bytes).map_err(Error::internal)?,
        };
        let link = self.engine.presign_put(&incoming(&file.id)?, &grant).await?;
        let headers = link.headers.into_iter().map(|(name, value)| (name.to_owned(), value));
        Ok(BeginUploadResponse {
            blob_id: file.id,
            url: link.url,
            headers: headers.collect(),
            expires_us: micros(link.expires),
        })
    }

    async fn finish_upload(&self, cx: &Context, request: FinishUploadRequest) -> Result<Blob> {
        let file = self.store.file(&request.blob_id).await?;
        let file = file
            .filter(|file| file.account.get() == request.account_id)
            .ok_or_else(not_found)?;
        match &file.finished {
            Some(finished) => Ok(shown(&file, finished)),
            None => self.finish(cx, file).await,
        }
    }

    async fn get(&self, _: &Context, request: GetRequest) -> Result<Blob> {
        let (file, finished) = self.finished(&request.blob_id).await?;
        Ok(shown(&file, &finished))
    }

    async fn get_url(&self, _: &Context, request: GetUrlRequest) -> Result<GetUrlResponse> {
        let (file, finished) = self.finished(&request.blob_id).await?;
        let disposition = if request.file_name.is_empty() {
            Disposition::Attachment
        } else {
            Disposition::Named(request.file_name)
        };
        let grant = GetGrant {
            ttl: GET_TTL,
            disposition,
            content_type: Some(header(file.content_type)?),
        };
        let link = self
            .engine
            .presign_get(&copied(&file.id, &finished.attempt)?, &grant)
            .await?;
        Ok(GetUrlResponse {
            url: link.url,
            expires_us: micros(link.expires),
        })
    }

    async fn delete(&self, _: &Context, request: DeleteRequest) -> Result<()> {
        let account = AccountId::try_from(request.account_id)?;
        if self.store.remove(&request.blob_id, account).await? {
            return self.erase(&request.blob_id).await;
        }
        match self.store.file(&request.blob_id).await? {
            Some(_) => Err(not_found()),
            None => Ok(()),
        }
    }
}

/// Where a client puts a file. An id from outside that is none is not found.
fn incoming(id: &str) -> Result<BlobKey> {
    format!("uploads/incoming/{id}").parse()
}

/// Where the copy is that an attempt to finish has looked at.
fn copied(id: &str, attempt: &str) -> Result<BlobKey> {
    format!("uploads/files/{id}/{attempt}").parse()
}

fn header(content_type: Type) -> Result<ContentType> {
    content_type.name().parse()
}

fn kind(kind: proto::Kind) -> Result<Kind, Refusal> {
    match kind {
        proto::Kind::Unspecified => Err(Refusal::Type),
        proto::Kind::Avatar => Ok(Kind::Avatar),
        proto::Kind::Image => Ok(Kind::Image),
        proto::Kind::Video => Ok(Kind::Video),
        proto::Kind::Document => Ok(Kind::Document),
    }
}

fn not_found() -> Error {
    Error::not_found("BLOB_NOT_FOUND", "no such file")
}

fn shown(file: &File, finished: &Finished) -> Blob {
    Blob {
        blob_id: file.id.clone(),
        account_id: file.account.get(),
        kind: file.kind,
        size_bytes: file.size_bytes,
        content_type: file.content_type.name().to_owned(),
        finished_us: finished.at_us,
    }
}
