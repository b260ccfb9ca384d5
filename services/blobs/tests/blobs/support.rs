//! The module under test, and a client with nothing but the links that it is given.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mosaic::tasks::{Queue, Task, TaskContext};
use mosaic::{App, Context, Error, Module, Result};
use mosaic_api::blobs::v1::{
    BeginUploadRequest, BeginUploadResponse, Blob, BlobsClient, DeleteRequest, FinishUploadRequest, GetRequest,
    GetUrlRequest, Kind,
};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys};
use serde::{Deserialize, Serialize};

/// What begins as a PNG does.
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

pub(crate) const ALICE: i64 = 7;
pub(crate) const MALLORY: i64 = 8;

pub(crate) fn app(shape: Shape) -> TestAppBuilder {
    let app = App::new("blobs_test")
        .module("blobs", blobs::install)
        .everywhere("keys", keys);
    TestApp::builder(app).shape(shape)
}

/// The module's own clean-up, as others can ask for it: the schedule goes by the clock of the database.
#[derive(Serialize, Deserialize)]
pub(crate) struct CleanUp {}

impl Task for CleanUp {
    const NAME: &'static str = "blobs.clean_up";
    type Needs = ();
    type Output = ();

    async fn run(self, (): &(), _: &TaskContext) -> Result<()> {
        unreachable!("the module runs it")
    }
}

/// The same, with the door to the module's tasks once it is installed.
pub(crate) fn app_and_tasks() -> (TestAppBuilder, Arc<OnceLock<Queue>>) {
    let door = Arc::new(OnceLock::new());
    let lent = door.clone();
    let install = async move |m: &mut Module| {
        blobs::install(m).await?;
        let _ = lent.set(m.tasks()?);
        Ok(())
    };
    let app = App::new("blobs_test").module("blobs", install).everywhere("keys", keys);
    (TestApp::builder(app), door)
}

/// Calls blobs, and does what links allow.
pub(crate) struct Calls<'a> {
    app: &'a TestApp,
    pub(crate) client: BlobsClient,
    http: reqwest::Client,
}

impl<'a> Calls<'a> {
    pub(crate) fn of(app: &'a TestApp) -> Self {
        Self {
            app,
            client: app.client("content"),
            http: mosaic::partner_client(Duration::from_secs(30)).unwrap(),
        }
    }

    pub(crate) fn cx(&self) -> Context {
        Context::new(self.app.runtime())
    }

    pub(crate) async fn begin(&self, kind: Kind, content_type: &str, size_bytes: usize) -> Result<BeginUploadResponse> {
        let request = BeginUploadRequest {
            account_id: ALICE,
            kind: kind.into(),
            size_bytes: size_bytes as i64,
            content_type: content_type.to_owned(),
        };
        self.client.begin_upload(&self.cx(), request).await
    }

    /// Puts `bytes` where the link says, and returns the status.
    pub(crate) async fn put(&self, begun: &BeginUploadResponse, bytes: &[u8]) -> u16 {
        let mut request = self.http.put(self.absolute(&begun.url)).body(bytes.to_vec());
        for (name, value) in begun.headers.iter().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn finish(&self, blob_id: &str, account_id: i64) -> Result<Blob> {
        let request = FinishUploadRequest {
            blob_id: blob_id.to_owned(),
            account_id,
        };
        self.client.finish_upload(&self.cx(), request).await
    }

    /// Uploads an avatar and returns its id.
    pub(crate) async fn upload(&self) -> String {
        let begun = self.begin(Kind::Avatar, "image/png", PNG.len()).await.unwrap();
        assert_eq!(self.put(&begun, PNG).await, 200);
        self.finish(&begun.blob_id, ALICE).await.unwrap().blob_id
    }

    pub(crate) async fn known(&self, blob_id: &str) -> Result<Blob> {
        let blob_id = blob_id.to_owned();
        self.client.get(&self.cx(), GetRequest { blob_id }).await
    }

    pub(crate) async fn read(&self, blob_id: &str, file_name: &str) -> Result<reqwest::Response> {
        let request = GetUrlRequest {
            blob_id: blob_id.to_owned(),
            file_name: file_name.to_owned(),
        };
        let link = self.client.get_url(&self.cx(), request).await?;
        self.http
            .get(self.absolute(&link.url))
            .send()
            .await
            .map_err(Error::internal)
    }

    pub(crate) async fn delete(&self, blob_id: &str, account_id: i64) -> Result<()> {
        let request = DeleteRequest {
            blob_id: blob_id.to_owned(),
            account_id,
        };
        self.client.delete(&self.cx(), request).await
    }

    fn absolute(&self, url: &str) -> String {
        if url.starts_with('/') {
            format!("http://{}{url}", self.app.http())
        } else {
            url.to_owned()
        }
    }

    /// Returns the files that the embedded engine has.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        fn walk(directory: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.app.data(0).join("blobs"), &mut found);
        found
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T>, reason: &str) {
    assert_eq!(outcome.expect_err("refused").reason(), reason);
}
