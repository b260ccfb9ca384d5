//! Files when the disk is full, damaged or not what it seems.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use mosaic_blob::{Blobs as _, FileBlobs};
use mosaic_core::{Code, Runtime, Secret};

use crate::support::{Engine, files, text};

fn file_of(engine: &Engine, name: &str) -> PathBuf {
    engine
        .directory
        .path()
        .join("blobs/objects")
        .join(engine.space())
        .join(format!("{name}~"))
}

#[tokio::test]
async fn a_key_and_what_is_beneath_it_can_both_be_there() {
    let engine = files().await;
    for name in ["a", "a/b", "a/b/c"] {
        engine
            .blobs
            .put(&engine.key(name), Bytes::from(name), &text())
            .await
            .unwrap();
    }
    for name in ["a", "a/b", "a/b/c"] {
        let blob = engine.blobs.get(&engine.key(name), 100).await.unwrap().unwrap();
        assert_eq!(blob.bytes, name);
    }
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_damaged_and_no_blob() {
    let engine = files().await;
    let key = engine.key("x");
    engine
        .blobs
        .put(&key, Bytes::from_static(b"hello"), &text())
        .await
        .unwrap();
    let file = file_of(&engine, "x");
    let whole = fs::read(&file).unwrap();
    assert!(whole.starts_with(b"hello"), "people can look at it");
    for len in 0..whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        let error = engine.blobs.get(&key, 100).await.expect_err("cut short");
        assert_eq!(
            (error.code(), error.reason()),
            (Code::DataLoss, "BLOB_DAMAGED"),
            "{len}"
        );
    }
}

#[tokio::test]
async fn a_link_out_of_the_directory_is_not_followed() {
    let engine = files().await;
    engine
        .blobs
        .put(&engine.key("x"), Bytes::from_static(b"x"), &text())
        .await
        .unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::copy(file_of(&engine, "x"), outside.path().join("secret~")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret~"), file_of(&engine, "file")).unwrap();
    std::os::unix::fs::symlink(outside.path(), engine.directory.path().join("blobs/objects/run/dir")).unwrap();
    for name in ["file", "dir/secret"] {
        assert_eq!(engine.blobs.get(&engine.key(name), 100).await.unwrap(), None, "{name}");
    }
    let error = engine
        .blobs
        .put(&engine.key("dir/new"), Bytes::from_static(b"x"), &text())
        .await;
    assert_eq!(error.expect_err("leads elsewhere").reason(), "BLOBS_UNAVAILABLE");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let listed = engine.blobs.list(&"run/".parse().unwrap(), None, 10).await.unwrap();
    assert_eq!(listed.keys, [engine.key("x")]);
}

#[tokio::test]
async fn what_a_crash_left_is_swept_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let incoming = directory.path().join("incoming");
    fs::create_dir_all(&incoming).unwrap();
    fs::write(incoming.join("fresh"), b"somebody uploads this now").unwrap();
    let old = fs::File::create(incoming.join("old")).unwrap();
    let two_days = std::time::Duration::from_secs(2 * 24 * 3600);
    let modified = old.metadata().unwrap().modified().unwrap();
    old.set_modified(modified - two_days).unwrap();
    let blobs = FileBlobs::new(directory.path(), Secret::new(vec![1; 32]), "", &Runtime::system());
    blobs.ping().await.unwrap();
    let left: Vec<_> = fs::read_dir(&incoming)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["fresh"]);
}

/// A file system of 256 KiB; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(directory.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            eprintln!("skipped: no file system can be mounted here");
        }
        is_mounted.then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let blobs = FileBlobs::new(
        &disk.0.path().join("blobs"),
        Secret::new(vec![1; 32]),
        "",
        &Runtime::system(),
    );
    let key = "a".parse().unwrap();
    blobs.put(&key, Bytes::from_static(b"old"), &text()).await.unwrap();
    let error = blobs
        .put(&key, Bytes::from(vec![0; 1 << 20]), &text())
        .await
        .expect_err("no room");
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "BLOBS_UNAVAILABLE"));
    assert_eq!(blobs.get(&key, 3).await.unwrap().unwrap().bytes, "old");
    // The room is free again.
    blobs.put(&key, Bytes::from(vec![0; 100 << 10]), &text()).await.unwrap();
}
