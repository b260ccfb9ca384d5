//! Blobs in a bucket of S3, or of what speaks its protocol.
//!
//! Small bodies are one request, larger ones are uploaded in parts that nobody sees until they are completed; what is given
//! up is aborted, and what a crash leaves is for the bucket's own rule on incomplete uploads. Requests that are safe to
//! repeat are repeated twice, and nothing waits longer than the limits below: a server that is gone is
//! `BLOBS_UNAVAILABLE` within seconds. A store of this kind on plain files may not take both `a` and `a/b`.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mosaic_core::{Error, Result, Runtime, Timestamp};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, MultipartUpload,
    ObjectStore as _, ObjectStoreExt as _, PutMultipartOptions, PutOptions, RetryConfig,
};

use crate::engine::{check_ttl, clip};
use crate::error::{too_large, unavailable};
use crate::s3_presign::{Unsigned, presign};
use crate::s3_url::S3Url;
use crate::{
    Blob, BlobKey, BlobMeta, BlobPrefix, BlobStream, Blobs, ContentType, GetGrant, LIST_MAX, Page, Presigned, PutGrant,
};

/// Time to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time in which nothing is heard; the server may have to copy a file meanwhile.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time of one request, bytes included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Time after which nothing is tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one part of an upload, and of what is held in memory.
const PART_LEN: usize = 8 << 20;

/// See the module documentation.
#[derive(Debug)]
pub struct S3Blobs {
    store: AmazonS3,
    address: S3Url,
    runtime: Runtime,
}

impl S3Blobs {
    pub(crate) fn new(address: S3Url, runtime: &Runtime) -> Result<Self> {
        // The second call changes nothing: a process has one cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT);
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
        };
        let store = AmazonS3Builder::new()
            .with_client_options(options)
            .with_allow_http(!address.is_tls)
            .with_endpoint(address.endpoint())
            .with_virtual_hosted_style_request(!address.is_path_style)
            .with_bucket_name(&address.bucket)
            .with_region(&address.region)
            .with_access_key_id(&address.access_key)
            .with_secret_access_key(address.secret_key.expose())
            // Not all that speak the protocol can delete many at once.
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig {
                backoff,
                max_retries: 2,
                retry_timeout: RETRY_TIMEOUT,
            });
        Ok(Self {
            store: store.build().map_err(Error::internal)?,
            address,
            runtime: runtime.clone(),
        })
    }

    async fn read(
        &self,
        key: &BlobKey,
        options: GetOptions,
    ) -> Result<Option<(GetResult, BlobMeta)>, object_store::Error> {
        match self.store.get_opts(&path(key), options).await {
            Ok(result) => {
                let meta = meta(&result);
                Ok(Some((result, meta)))
            }
            Err(object_store::Error::NotFound { source, .. }) if !is_no_bucket(&*source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put_whole(&self, key: &BlobKey, bytes: Bytes, content_type: &ContentType) -> Result<()> {
        let options = PutOptions {
            attributes: attributes(content_type),
            ..PutOptions::default()
        };
        let path = path(key);
        let put = self.store.put_opts(&path, bytes.into(), options);
        put.await.map(drop).map_err(unavailable)
    }
}

/// Bytes of an upload, of which at most a part is in memory.
struct Parts<'a> {
    body: BlobStream<'a>,
    pending: BytesMut,
    len: u64,
    len_max: u64,
    is_at_end: bool,
}

impl Parts<'_> {
    /// Returns the next part; all but the last are full.
    async fn next(&mut self) -> Result<Bytes> {
        while self.pending.len() < PART_LEN && !self.is_at_end {
            match self.body.next().await {
                None => self.is_at_end = true,
                Some(chunk) => {
                    let chunk = chunk?;
                    self.len += chunk.len() as u64;
                    if self.len > self.len_max {
                        return Err(too_large(self.len_max));
                    }
                    self.pending.extend_from_slice(&chunk);
                }
            }
        }
        let part_len = self.pending.len().min(PART_LEN);
        Ok(self.pending.split_to(part_len).freeze())
    }

    fn is_done(&self) -> bool {
        self.is_at_end && self.pending.is_empty()
    }
}

/// Sends all parts, beginning with `first`.
async fn send(upload: &mut Box<dyn MultipartUpload>, first: Bytes, parts: &mut Parts<'_>) -> Result<()> {
    upload.put_part(first.into()).await.map_err(unavailable)?;
    while !parts.is_done() {
        let part = parts.next().await?;
        if !part.is_empty() {
            upload.put_part(part.into()).await.map_err(unavailable)?;
        }
    }
    upload.complete().await.map(drop).map_err(unavailable)
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &BlobKey, bytes: Bytes, content_type: &ContentType) -> Result<()> {
        self.put_whole(key, bytes, content_type).await
    }

    async fn put_stream(
        &self,
        key: &BlobKey,
        body: BlobStream<'_>,
        len_max: u64,
        content_type: &ContentType,
    ) -> Result<u64> {
        let mut parts = Parts {
            body,
            pending: BytesMut::new(),
            len: 0,
            len_max,
            is_at_end: false,
        };
        let first = parts.next().await?;
        if parts.is_done() {
            self.put_whole(key, first, content_type).await?;
            return Ok(parts.len);
        }
        let options = PutMultipartOptions {
            attributes: attributes(content_type),
            ..PutMultipartOptions::default()
        };
        let upload = self.store.put_multipart_opts(&path(key), options).await;
        let mut upload = upload.map_err(unavailable)?;
        if let Err(error) = send(&mut upload, first, &mut parts).await {
            if let Err(left) = upload.abort().await {
                tracing::warn!(%key, error = %left, "parts of an upload are left in the bucket");
            }
            return Err(error);
        }
        Ok(parts.len)
    }

    async fn get(&self, key: &BlobKey, len_max: u64) -> Result<Option<Blob>> {
        let Some((result, meta)) = self.read(key, GetOptions::default()).await.map_err(unavailable)? else {
            return Ok(None);
        };
        if meta.size_bytes > len_max {
            return Err(too_large(len_max));
        }
        let bytes = result.bytes().await.map_err(unavailable)?;
        Ok(Some(Blob { bytes, meta }))
    }

    async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<Option<Blob>> {
        clip(&range, range.end)?;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let outcome = self.read(key, options).await;
        let cause = match outcome {
            Ok(None) => return Ok(None),
            Ok(Some((result, meta))) => {
                let bytes = result.bytes().await.map_err(unavailable)?;
                return Ok(Some(Blob { bytes, meta }));
            }
            Err(cause) => cause,
        };
        // The library has no name for "not satisfiable": the length tells whether it was that.
        let Some(meta) = self.head(key).await? else {
            return Ok(None);
        };
        clip(&range, meta.size_bytes)?;
        Err(unavailable(cause))
    }

    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let read = self.read(key, options).await.map_err(unavailable)?;
        Ok(read.map(|(_, meta)| meta))
    }

    async fn copy(&self, from: &BlobKey, to: &BlobKey) -> Result<bool> {
        match self.store.copy(&path(from), &path(to)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { source, .. }) if !is_no_bucket(&*source) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.store.delete(&path(key)).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::NotFound { source, .. }) if !is_no_bucket(&*source) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn list(&self, prefix: &BlobPrefix, after: Option<&BlobKey>, limit: usize) -> Result<Page> {
        if limit == 0 {
            return Ok(Page::default());
        }
        let options = PaginatedListOptions {
            offset: after.map(ToString::to_string),
            max_keys: Some(limit.min(LIST_MAX)),
            ..PaginatedListOptions::default()
        };
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let listed = self.store.list_paginated(prefix, options).await.map_err(unavailable)?;
        // What others have put there under names of their own is not ours.
        let objects = listed.result.objects.iter();
        let keys: Vec<BlobKey> = objects
            .filter_map(|object| object.location.as_ref().parse().ok())
            .collect();
        let next = keys.last().filter(|_| listed.page_token.is_some()).cloned();
        Ok(Page { keys, next })
    }

    async fn presign_get(&self, key: &BlobKey, grant: &GetGrant) -> Result<Presigned> {
        let mut query = vec![("response-content-disposition", grant.disposition.to_string())];
        if let Some(content_type) = &grant.content_type {
            query.push(("response-content-type", content_type.to_string()));
        }
        let request = Unsigned {
            method: "GET",
            key,
            ttl: grant.ttl,
            headers: &[],
            query,
        };
        self.presigned(request, Vec::new())
    }

    async fn presign_put(&self, key: &BlobKey, grant: &PutGrant) -> Result<Presigned> {
        let headers = grant.headers();
        let request = Unsigned {
            method: "PUT",
            key,
            ttl: grant.ttl,
            headers: &headers,
            query: Vec::new(),
        };
        self.presigned(request, headers.clone())
    }

    async fn ping(&self) -> Result<()> {
        self.list(&BlobPrefix::default(), None, 1).await.map(drop)
    }
}

impl S3Blobs {
    fn presigned(&self, request: Unsigned<'_>, headers: Vec<(&'static str, String)>) -> Result<Presigned> {
        check_ttl(request.ttl)?;
        let now = self.runtime.now();
        let (method, expires) = (request.method, Timestamp::from_secs(now.as_secs()).plus(request.ttl));
        Ok(Presigned {
            method,
            url: presign(&self.address, request, now)?,
            headers,
            expires,
        })
    }
}

fn path(key: &BlobKey) -> Path {
    Path::from(key.as_str())
}

fn attributes(content_type: &ContentType) -> Attributes {
    [(Attribute::ContentType, content_type.to_string())]
        .into_iter()
        .collect()
}

fn meta(result: &GetResult) -> BlobMeta {
    let content_type = result.attributes.get(&Attribute::ContentType);
    BlobMeta {
        size_bytes: result.meta.size,
        // What others have put there may have none.
        content_type: content_type
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(ContentType::octets),
        modified: Timestamp::from_micros(result.meta.last_modified.timestamp_micros()),
    }
}

/// Is the bucket missing, and not the object? That is a mistake of ours and must not look like an empty store.
fn is_no_bucket(source: &(dyn std::error::Error + Send + Sync)) -> bool {
    source.to_string().contains("NoSuchBucket")
}
