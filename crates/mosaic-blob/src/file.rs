//! Blobs as files of this machine.
//!
//! For one machine, or several that share a directory: the embedded engine, durable (every put is on the disk before it is
//! answered) and without any server. Its presigned URLs are answered by a router of our own, with what S3 would
//! refuse refused. A full disk is `BLOBS_UNAVAILABLE` and leaves what was there before.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use mosaic_core::{Error, Result, Runtime, Secret, Timestamp};
use tokio::io::AsyncWriteExt as _;

use crate::engine::{check_ttl, clip};
use crate::error::{too_large, unavailable};
use crate::signed_url::{Grant, UrlSigner};
use crate::staged::Staged;
use crate::stored::{SUFFIX, Stored, is_absence, path_of, trailer};
use crate::{
    Blob, BlobKey, BlobMeta, BlobPrefix, BlobStream, Blobs, ContentType, GetGrant, LIST_MAX, Page, Presigned, PutGrant,
    ROUTE_PREFIX,
};

/// What lies in the directory of uploads for so long was left by a crash.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileBlobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    layout: OnceLock<Layout>,
    runtime: Runtime,
    signer: UrlSigner,
    public_url: String,
}

/// The two directories, both there and both canonical.
#[derive(Debug, Clone)]
struct Layout {
    objects: PathBuf,
    incoming: PathBuf,
}

impl FileBlobs {
    /// Makes an engine of the directory `root`, which is created when it is first used. URLs are signed with `signing_key` and
    /// begin with `public_url`, which may be empty.
    pub fn new(root: &Path, signing_key: Secret<Vec<u8>>, public_url: &str, runtime: &Runtime) -> Self {
        Self(Arc::new(Inner {
            root: root.to_owned(),
            layout: OnceLock::new(),
            runtime: runtime.clone(),
            signer: UrlSigner::new(signing_key),
            public_url: public_url.trim_end_matches('/').to_owned(),
        }))
    }

    /// Returns what a query allows now.
    pub(crate) fn verify(&self, method: &str, key: &BlobKey, query: &str) -> Result<Grant> {
        self.0.signer.verify(method, key, query, self.0.runtime.now())
    }

    /// Opens a blob for somebody who reads it bit by bit.
    pub(crate) async fn open(&self, key: &BlobKey) -> Result<Option<Stored>> {
        let key = key.clone();
        self.blocking(move |layout| Stored::open(&layout.objects, &key)).await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Layout) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.0.clone();
        let running = tokio::task::spawn_blocking(move || work(&inner.layout()?));
        running.await.map_err(Error::internal)?
    }

    fn presigned(&self, method: &'static str, key: &BlobKey, ttl: Duration, grant: Grant) -> Result<Presigned> {
        check_ttl(ttl)?;
        let expires_s = self.0.runtime.now().plus(ttl).as_secs();
        let grant = Grant { expires_s, ..grant };
        let query = self.0.signer.sign(method, key, &grant);
        Ok(Presigned {
            method,
            url: format!("{}{ROUTE_PREFIX}{key}?{query}", self.0.public_url),
            headers: Vec::new(),
            expires: Timestamp::from_secs(expires_s),
        })
    }
}

impl Inner {
    fn layout(&self) -> Result<Layout> {
        if let Some(layout) = self.layout.get() {
            return Ok(layout.clone());
        }
        let create = |name: &str| -> io::Result<PathBuf> {
            let directory = self.root.join(name);
            fs::create_dir_all(&directory)?;
            fs::canonicalize(directory)
        };
        let layout = Layout {
            objects: create("objects").map_err(unavailable)?,
            incoming: create("incoming").map_err(unavailable)?,
        };
        sweep(&layout.incoming, self.runtime.now());
        Ok(self.layout.get_or_init(|| layout).clone())
    }
}

/// Removes what crashes have left; what cannot be removed waits for the next start.
fn sweep(incoming: &Path, now: Timestamp) {
    let entries = fs::read_dir(incoming).into_iter().flatten().flatten();
    for entry in entries {
        let modified = entry.metadata().and_then(|status| status.modified());
        let since = modified
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let is_left = since.is_some_and(|since| now.since(Timestamp::EPOCH.plus(since)) > LEFT_AFTER);
        if is_left && let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(%error, "what is left of an upload cannot be removed");
        }
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn put(&self, key: &BlobKey, bytes: Bytes, content_type: &ContentType) -> Result<()> {
        let body = futures::stream::iter([Ok(bytes)]).boxed();
        self.put_stream(key, body, u64::MAX, content_type).await.map(drop)
    }

    async fn put_stream(
        &self,
        key: &BlobKey,
        mut body: BlobStream<'_>,
        len_max: u64,
        content_type: &ContentType,
    ) -> Result<u64> {
        let name = self.0.runtime.random_hex::<16>();
        let staged = self.blocking(move |layout| Staged::create(&layout.incoming, &name).map_err(unavailable));
        // The guard before the file: it is dropped last.
        let (staged, file) = staged.await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut len: u64 = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            len += chunk.len() as u64;
            if len > len_max {
                return Err(too_large(len_max));
            }
            file.write_all(&chunk).await.map_err(unavailable)?;
        }
        file.write_all(&trailer(content_type)).await.map_err(unavailable)?;
        file.flush().await.map_err(unavailable)?;
        file.sync_all().await.map_err(unavailable)?;
        drop(file);
        let key = key.clone();
        self.blocking(move |layout| {
            let to = path_of(&layout.objects, &key);
            staged.move_to(&layout.objects, &to).map_err(unavailable)
        })
        .await?;
        Ok(len)
    }

    async fn get(&self, key: &BlobKey, len_max: u64) -> Result<Option<Blob>> {
        let key = key.clone();
        self.blocking(move |layout| {
            let Some(stored) = Stored::open(&layout.objects, &key)? else {
                return Ok(None);
            };
            let meta = stored.meta.clone();
            let len = usize::try_from(meta.size_bytes)
                .ok()
                .filter(|_| meta.size_bytes <= len_max);
            let bytes = stored.part(0, len.ok_or_else(|| too_large(len_max))?)?.into();
            Ok(Some(Blob { bytes, meta }))
        })
        .await
    }

    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Option<Blob>> {
        let key = key.clone();
        self.blocking(move |layout| {
            let Some(stored) = Stored::open(&layout.objects, &key)? else {
                return Ok(None);
            };
            let meta = stored.meta.clone();
            let (start, len) = clip(&range, meta.size_bytes)?;
            let bytes = stored.part(start, len)?.into();
            Ok(Some(Blob { bytes, meta }))
        })
        .await
    }

    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        Ok(self.open(key).await?.map(|stored| stored.meta))
    }

    async fn copy(&self, from: &BlobKey, to: &BlobKey) -> Result<bool> {
        let name = self.0.runtime.random_hex::<16>();
        let (from, to) = (from.clone(), to.clone());
        self.blocking(move |layout| {
            // Also looks whether it leads elsewhere.
            if Stored::open(&layout.objects, &from)?.is_none() {
                return Ok(false);
            }
            let staged = match Staged::link(&path_of(&layout.objects, &from), &layout.incoming, &name) {
                Err(error) if is_absence(&error) => return Ok(false),
                staged => staged.map_err(unavailable)?,
            };
            let to = path_of(&layout.objects, &to);
            staged.move_to(&layout.objects, &to).map_err(unavailable)?;
            Ok(true)
        })
        .await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let key = key.clone();
        self.blocking(move |layout| match fs::remove_file(path_of(&layout.objects, &key)) {
            Err(error) if !is_absence(&error) => Err(unavailable(error)),
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    async fn list(&self, prefix: &BlobPrefix, after: Option<&BlobKey>, limit: usize) -> Result<Page> {
        let mut listing = Listing {
            prefix: prefix.as_str().to_owned(),
            after: after.map_or_else(String::new, ToString::to_string),
            limit: limit.min(LIST_MAX),
            found: BTreeSet::new(),
        };
        self.blocking(move |layout| {
            listing.walk(&layout.objects, "").map_err(unavailable)?;
            listing.page()
        })
        .await
    }

    async fn presign_get(&self, key: &BlobKey, grant: &GetGrant) -> Result<Presigned> {
        let allowed = Grant {
            content_type: grant.content_type.clone(),
            disposition: Some(grant.disposition.to_string()),
            ..Grant::default()
        };
        self.presigned("GET", key, grant.ttl, allowed)
    }

    async fn presign_put(&self, key: &BlobKey, grant: &PutGrant) -> Result<Presigned> {
        let allowed = Grant {
            content_type: Some(grant.content_type.clone()),
            size_bytes: Some(grant.size_bytes),
            ..Grant::default()
        };
        let mut presigned = self.presigned("PUT", key, grant.ttl, allowed)?;
        presigned.headers = grant.headers();
        Ok(presigned)
    }

    async fn ping(&self) -> Result<()> {
        self.blocking(|layout| fs::metadata(&layout.objects).map(drop).map_err(unavailable))
            .await
    }
}

/// The smallest keys of those that are asked for: all files are looked at, few names are kept.
struct Listing {
    prefix: String,
    after: String,
    limit: usize,
    found: BTreeSet<String>,
}

impl Listing {
    /// Looks through `directory`, whose keys begin with `path`.
    fn walk(&mut self, directory: &Path, path: &str) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Err(error) if is_absence(&error) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let beneath = format!("{path}{name}/");
                if beneath.starts_with(&self.prefix) || self.prefix.starts_with(&beneath) {
                    self.walk(&entry.path(), &beneath)?;
                }
            } else if let Some(name) = name.strip_suffix(SUFFIX).filter(|_| kind.is_file()) {
                self.offer(format!("{path}{name}"));
            }
        }
        Ok(())
    }

    fn offer(&mut self, key: String) {
        if key.starts_with(&self.prefix) && key > self.after {
            self.found.insert(key);
        }
        if self.found.len() > self.limit + 1 {
            self.found.pop_last();
        }
    }

    fn page(mut self) -> Result<Page> {
        let is_more = self.found.len() > self.limit && self.found.pop_last().is_some();
        let keys: Vec<BlobKey> = self.found.iter().map(|key| key.parse()).collect::<Result<_>>()?;
        let next = keys.last().filter(|_| is_more).cloned();
        Ok(Page { keys, next })
    }
}
