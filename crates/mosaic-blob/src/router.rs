//! Answers presigned URLs of files, as S3 answers its own.
//!
//! Whoever calls has no account here: the signature is all there is, and it is checked before anything else is looked at.
//! What is sent back came from a stranger: the browser is told the type, told not to guess another, and given a page policy under
//! which nothing runs. One range is served, up to four are answered with the whole, more are refused.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use mosaic_core::{Error, Result};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::error::unavailable;
use crate::range::{Wanted, wanted};
use crate::signed_url::Grant;
use crate::stored::Stored;
use crate::{BlobKey, Blobs as _, ContentType, FileBlobs};

/// What paths of presigned URLs begin with.
pub const ROUTE_PREFIX: &str = "/blobs/";

/// Longest time between two chunks of an upload.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that are read at a time.
const CHUNK_LEN: usize = 64 << 10;

pub(crate) fn router(blobs: FileBlobs) -> Router {
    Router::new()
        .route("/blobs/{*key}", get(read).put(write))
        .with_state(blobs)
}

async fn read(
    State(blobs): State<FileBlobs>,
    method: Method,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let reading = async {
        let (key, grant) = allowed(&blobs, &method, &key, query)?;
        let absent = || Error::not_found("BLOB_NOT_FOUND", "no such file");
        let stored = blobs.open(&key).await?.ok_or_else(absent)?;
        answer(stored, &grant, &headers).await
    };
    reading.await.unwrap_or_else(|error| refusal(&error))
}

async fn write(
    State(blobs): State<FileBlobs>,
    method: Method,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let writing = async {
        let (key, grant) = allowed(&blobs, &method, &key, query)?;
        let (content_type, size_bytes) = agreed(grant, &headers)?;
        let body = exactly(size_bytes, body.into_data_stream());
        blobs.put_stream(&key, body.boxed(), size_bytes, &content_type).await
    };
    match writing.await {
        Ok(_) => Response::default(),
        Err(error) => refusal(&error),
    }
}

fn allowed(blobs: &FileBlobs, method: &Method, key: &str, query: Option<String>) -> Result<(BlobKey, Grant)> {
    let key: BlobKey = key.parse()?;
    let grant = blobs.verify(method.as_str(), &key, &query.unwrap_or_default())?;
    Ok((key, grant))
}

/// Checks that an upload is the one that was allowed.
fn agreed(grant: Grant, headers: &HeaderMap) -> Result<(ContentType, u64)> {
    let differs = || Error::permission_denied("BLOB_URL_INVALID", "is not what the link allows");
    let (content_type, size_bytes) = grant.content_type.zip(grant.size_bytes).ok_or_else(differs)?;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::CONTENT_TYPE) != Some(content_type.as_str()) {
        return Err(differs());
    }
    match text(header::CONTENT_LENGTH) {
        None => Err(Error::invalid_argument("LENGTH_REQUIRED", "an upload names its length").with_http_status(411)),
        Some(length) if length.parse() == Ok(size_bytes) => Ok((content_type, size_bytes)),
        Some(_) => Err(differs()),
    }
}

/// Passes a body on; one that breaks off, dawdles or ends early ends with an error.
fn exactly(
    size_bytes: u64,
    body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin,
) -> impl Stream<Item = Result<Bytes>> + Send {
    let broken_off = || Error::invalid_argument("UPLOAD_BROKEN_OFF", "the upload broke off");
    stream::try_unfold((body, 0), move |(mut body, len)| async move {
        let next = tokio::time::timeout(CHUNK_TIMEOUT, body.try_next()).await;
        match next {
            Ok(Ok(Some(chunk))) => {
                let len = len + chunk.len() as u64;
                Ok(Some((chunk, (body, len))))
            }
            Ok(Ok(None)) if len == size_bytes => Ok(None),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(broken_off()),
        }
    })
}

async fn answer(stored: Stored, grant: &Grant, headers: &HeaderMap) -> Result<Response> {
    let Stored { file, meta } = stored;
    let (status, range) = match wanted(headers, meta.size_bytes) {
        Wanted::Whole => (StatusCode::OK, 0..meta.size_bytes),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let mut response = refusal(&crate::error::range_invalid());
            let value = HeaderValue::from_str(&format!("bytes */{}", meta.size_bytes)).map_err(Error::internal)?;
            response.headers_mut().insert(header::CONTENT_RANGE, value);
            return Ok(response);
        }
    };
    let mut file = tokio::fs::File::from_std(file);
    file.seek(std::io::SeekFrom::Start(range.start))
        .await
        .map_err(unavailable)?;
    let len = range.end - range.start;
    let content_type = grant.content_type.as_ref().unwrap_or(&meta.content_type);
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type.header())
        .header(header::CONTENT_LENGTH, len)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, "private")
        .header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(disposition) = &grant.disposition {
        response = response.header(header::CONTENT_DISPOSITION, disposition);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size_bytes);
        response = response.header(header::CONTENT_RANGE, text);
    }
    response
        .body(Body::from_stream(chunks(file, len)))
        .map_err(Error::internal)
}

/// Reads `len` bytes bit by bit.
fn chunks(file: tokio::fs::File, len: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::try_unfold(file.take(len), |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK_LEN);
        let n_read = file.read_buf(&mut chunk).await?;
        Ok((n_read > 0).then(|| (Bytes::from(chunk), file)))
    })
}

fn refusal(error: &Error) -> Response {
    if error.is_to_be_logged() {
        tracing::warn!(%error, cause = error.cause_chain(), "a file cannot be stored or read");
    }
    let mut response = Response::new(Body::from(format!("{}: {}\n", error.reason(), error.message())));
    *response.status_mut() = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
