//! What every engine does.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mosaic_blob::{Disposition, GetGrant, PutGrant, TTL_MAX};
use mosaic_core::{Error, Runtime};

use crate::support::{Engine, request, text};

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod on_files {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&crate::support::files().await).await;
            })*
        }
        mod on_s3 {
            $(#[tokio::test]
            async fn $case() {
                if let Some(engine) = crate::support::s3() {
                    super::$case(&engine).await;
                }
            })*
        }
    };
}

contract! {
    what_is_put_is_there_until_it_is_deleted,
    a_second_put_replaces_the_first,
    nothing_is_none,
    parts_are_clipped_and_never_made_up,
    reads_have_a_limit,
    a_copy_stays_what_it_was,
    a_stream_of_any_length_is_stored,
    an_upload_that_breaks_off_leaves_nothing,
    an_upload_that_is_dropped_leaves_nothing,
    a_listing_has_every_key_once,
    a_put_link_allows_what_it_says_and_nothing_else,
    a_get_link_allows_what_it_says_and_nothing_else,
    links_live_a_week_at_most,
    the_engine_answers,
}

async fn what_is_put_is_there_until_it_is_deleted(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("a/b.txt"));
    blobs.put(&key, Bytes::from_static(b"hello"), &text()).await.unwrap();
    let blob = blobs.get(&key, 5).await.unwrap().unwrap();
    assert_eq!(&blob.bytes[..], b"hello");
    assert_eq!((blob.meta.size_bytes, blob.meta.content_type.clone()), (5, text()));
    let head = blobs.head(&key).await.unwrap().unwrap();
    assert_eq!((head.size_bytes, &head.content_type), (5, &text()));
    let age_s = Runtime::system().now().as_secs() - head.modified.as_secs();
    assert!((-60..60).contains(&age_s), "{age_s}");
    blobs.delete(&key).await.unwrap();
    assert_eq!(blobs.get(&key, 5).await.unwrap(), None);
    blobs.delete(&key).await.unwrap();
}

async fn a_second_put_replaces_the_first(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("twice"));
    blobs
        .put(&key, Bytes::from_static(b"a long first one"), &text())
        .await
        .unwrap();
    let html = "text/html".parse().unwrap();
    blobs.put(&key, Bytes::new(), &html).await.unwrap();
    let blob = blobs.get(&key, 100).await.unwrap().unwrap();
    assert_eq!(
        (blob.bytes.len(), blob.meta.size_bytes, blob.meta.content_type),
        (0, 0, html)
    );
}

async fn nothing_is_none(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("nothing/here"));
    assert_eq!(blobs.get(&key, 100).await.unwrap(), None);
    assert_eq!(blobs.get_range(&key, 0..1).await.unwrap(), None);
    assert_eq!(blobs.head(&key).await.unwrap(), None);
    blobs.delete(&key).await.unwrap();
    // Neither is what other keys begin with, nor what is beneath another key.
    blobs
        .put(&engine.key("deep/er"), Bytes::from_static(b"x"), &text())
        .await
        .unwrap();
    assert_eq!(blobs.get(&engine.key("deep"), 100).await.unwrap(), None);
    assert_eq!(blobs.get(&engine.key("deep/er/est"), 100).await.unwrap(), None);
}

async fn parts_are_clipped_and_never_made_up(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("parts"));
    blobs
        .put(&key, Bytes::from_static(b"0123456789"), &text())
        .await
        .unwrap();
    for (range, want) in [
        (0..1, "0"),
        (2..5, "234"),
        (7..100, "789"),
        (9..10, "9"),
        (0..10, "0123456789"),
    ] {
        let blob = blobs.get_range(&key, range.clone()).await.unwrap().unwrap();
        assert_eq!(
            (&blob.bytes[..], blob.meta.size_bytes),
            (want.as_bytes(), 10),
            "{range:?}"
        );
    }
    for range in [10..11, 100..200, 3..3] {
        let error = blobs.get_range(&key, range.clone()).await.expect_err("no such part");
        assert_eq!(error.reason(), "BLOB_RANGE_INVALID", "{range:?}: {error:?}");
    }
}

async fn reads_have_a_limit(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("big"));
    blobs.put(&key, Bytes::from(vec![1; 1000]), &text()).await.unwrap();
    assert_eq!(blobs.get(&key, 999).await.unwrap_err().reason(), "BLOB_TOO_LARGE");
    assert_eq!(blobs.get(&key, 1000).await.unwrap().unwrap().bytes.len(), 1000);
}

async fn a_copy_stays_what_it_was(engine: &Engine) {
    let (blobs, from, to) = (&engine.blobs, engine.key("from"), engine.key("to/there"));
    assert!(!blobs.copy(&from, &to).await.unwrap());
    blobs.put(&from, Bytes::from_static(b"good"), &text()).await.unwrap();
    assert!(blobs.copy(&from, &to).await.unwrap());
    let html = "text/html".parse().unwrap();
    blobs.put(&from, Bytes::from_static(b"evil"), &html).await.unwrap();
    let copy = blobs.get(&to, 10).await.unwrap().unwrap();
    assert_eq!((&copy.bytes[..], copy.meta.content_type), (&b"good"[..], text()));
    assert!(blobs.copy(&from, &to).await.unwrap());
    blobs.delete(&from).await.unwrap();
    let copy = blobs.get(&to, 10).await.unwrap().unwrap();
    assert_eq!((&copy.bytes[..], copy.meta.content_type), (&b"evil"[..], html));
    nothing_is_staged(engine);
}

async fn a_stream_of_any_length_is_stored(engine: &Engine) {
    const MIB: usize = 1 << 20;
    // Nothing, less than a part, exactly parts, and more.
    for (n_chunks, chunk_len) in [(0, 0), (3, 7), (8, MIB), (16, MIB), (17, MIB + 1)] {
        let key = engine.key("streamed");
        let chunks = (0..n_chunks).map(move |n| Ok(Bytes::from(vec![n as u8; chunk_len])));
        let len = (n_chunks * chunk_len) as u64;
        let kind = text();
        let put = engine.blobs.put_stream(&key, stream::iter(chunks).boxed(), len, &kind);
        assert_eq!(put.await.unwrap(), len);
        let blob = engine.blobs.get(&key, len).await.unwrap().unwrap();
        assert_eq!(blob.bytes.len() as u64, len);
        let is_in_order = blob
            .bytes
            .chunks(chunk_len.max(1))
            .enumerate()
            .all(|(n, chunk)| chunk.iter().all(|byte| *byte == n as u8));
        assert!(is_in_order, "{n_chunks} chunks of {chunk_len}");
        assert_eq!(blob.meta.content_type, text());
    }
}

async fn an_upload_that_breaks_off_leaves_nothing(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("broken"));
    let kept = engine.key("kept");
    blobs.put(&kept, Bytes::from_static(b"old"), &text()).await.unwrap();
    for n_chunks in [0, 1, 10] {
        for key in [&key, &kept] {
            let chunks = (0..n_chunks).map(|_| Ok(Bytes::from(vec![1; 1 << 20])));
            let broken = [Err(Error::invalid_argument("BROKEN_OFF", "gone"))];
            let body = stream::iter(chunks.chain(broken)).boxed();
            let error = blobs
                .put_stream(key, body, 100 << 20, &text())
                .await
                .expect_err("broken off");
            assert_eq!(error.reason(), "BROKEN_OFF");
        }
        let body = stream::repeat_with(|| Ok(Bytes::from(vec![1; 1 << 20]))).boxed();
        let error = blobs
            .put_stream(&key, body, n_chunks << 20, &text())
            .await
            .expect_err("too much");
        assert_eq!(error.reason(), "BLOB_TOO_LARGE");
    }
    assert_eq!(blobs.head(&key).await.unwrap(), None);
    assert_eq!(&blobs.get(&kept, 3).await.unwrap().unwrap().bytes[..], b"old");
    nothing_is_staged(engine);
}

async fn an_upload_that_is_dropped_leaves_nothing(engine: &Engine) {
    let key = engine.key("dropped");
    let chunks = stream::iter((0..9).map(|_| Ok(Bytes::from(vec![1; 1 << 20])))).chain(stream::pending());
    let kind = text();
    let put = engine.blobs.put_stream(&key, chunks.boxed(), 100 << 20, &kind);
    let outcome = tokio::time::timeout(Duration::from_millis(300), put).await;
    assert!(outcome.is_err(), "a body without an end cannot be stored");
    assert_eq!(engine.blobs.head(&key).await.unwrap(), None);
    nothing_is_staged(engine);
}

/// Files: nothing is left beside the blobs.
fn nothing_is_staged(engine: &Engine) {
    if engine.name == "file" {
        let incoming = engine.directory.path().join("blobs/incoming");
        assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
    }
}

async fn a_listing_has_every_key_once(engine: &Engine) {
    let mut want = Vec::new();
    for name in ["l/a", "l/a-b", "l/b/1", "l/b/2", "l/b.c", "l/c/d/e", "l/z", "m/a"] {
        let key = engine.key(name);
        engine.blobs.put(&key, Bytes::from_static(b"x"), &text()).await.unwrap();
        if name.starts_with("l/") {
            want.push(key);
        }
    }
    want.sort();
    for limit in [1, 2, 3, 7, 1000] {
        let prefix = format!("{}/l/", engine.space()).parse().unwrap();
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = engine.blobs.list(&prefix, after.as_ref(), limit).await.unwrap();
            assert!(page.keys.len() <= limit);
            keys.extend(page.keys);
            after = page.next;
            if after.is_none() {
                break;
            }
            assert!(keys.len() <= want.len(), "{keys:?}");
        }
        keys.sort();
        assert_eq!(keys, want, "by {limit}");
    }
    let prefix = format!("{}/l/b", engine.space()).parse().unwrap();
    assert_eq!(engine.blobs.list(&prefix, None, 10).await.unwrap().keys.len(), 3);
    assert_eq!(
        engine
            .blobs
            .list(&"no-such/".parse().unwrap(), None, 10)
            .await
            .unwrap()
            .keys,
        []
    );
    assert_eq!(engine.blobs.list(&prefix, None, 0).await.unwrap().keys, []);
}

async fn a_put_link_allows_what_it_says_and_nothing_else(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("linked.txt"));
    let grant = PutGrant {
        ttl: Duration::from_secs(60),
        content_type: text(),
        size_bytes: 5,
    };
    let link = blobs.presign_put(&key, &grant).await.unwrap();
    let mut tampered = link.clone();
    let last = if tampered.url.pop() == Some('A') { 'B' } else { 'A' };
    tampered.url.push(last);
    let mut elsewhere = link.clone();
    elsewhere.url = elsewhere.url.replace("linked.txt", "linked.exe");
    let mut other_method = link.clone();
    other_method.method = "GET";
    let refused = [
        ("tampered", request(&tampered).body("hello")),
        ("another key", request(&elsewhere).body("hello")),
        ("longer", request(&link).body("hello!")),
        ("shorter", request(&link).body("hell")),
        ("another method", request(&other_method)),
    ];
    for (what, request) in refused {
        assert_eq!(request.send().await.unwrap().status(), 403, "{what}");
    }
    let html = link.headers.iter().map(|(name, _)| {
        if *name == "content-type" {
            (*name, "text/html".to_owned())
        } else {
            (*name, "5".to_owned())
        }
    });
    let other_type = mosaic_blob::Presigned {
        headers: html.collect(),
        ..link.clone()
    };
    assert_eq!(
        request(&other_type).body("hello").send().await.unwrap().status(),
        403,
        "another type"
    );
    assert_eq!(blobs.head(&key).await.unwrap(), None);

    assert_eq!(request(&link).body("hello").send().await.unwrap().status(), 200);
    let blob = blobs.get(&key, 5).await.unwrap().unwrap();
    assert_eq!((&blob.bytes[..], blob.meta.content_type), (&b"hello"[..], text()));
}

async fn a_get_link_allows_what_it_says_and_nothing_else(engine: &Engine) {
    let (blobs, key) = (&engine.blobs, engine.key("shown.html"));
    let html = "text/html".parse().unwrap();
    blobs.put(&key, Bytes::from_static(b"<script>"), &html).await.unwrap();
    let grant = GetGrant {
        ttl: Duration::from_secs(60),
        disposition: Disposition::Named("猫\" \r\nx: y.html".to_owned()),
        content_type: Some("application/octet-stream".parse().unwrap()),
    };
    let link = blobs.presign_get(&key, &grant).await.unwrap();
    let answer = request(&link).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    assert_eq!(
        answer.headers()["content-disposition"],
        grant.disposition.to_string().as_str()
    );
    assert_eq!(answer.bytes().await.unwrap(), "<script>");
    let part = request(&link).header("range", "bytes=1-6").send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.text().await.unwrap()),
        (206, "script".to_owned())
    );

    for (what, from, to) in [
        ("signature", &link.url[link.url.len() - 3..], "abc"),
        ("disposition", "attachment", "inline"),
        ("key", "shown.html", "other.html"),
        ("type", "octet-stream", "html"),
    ] {
        let mut other = link.clone();
        assert!(other.url.contains(from), "{what}");
        other.url = other.url.replacen(from, to, 1);
        assert_eq!(request(&other).send().await.unwrap().status(), 403, "{what}");
    }
    let mut other = link.clone();
    other.method = "PUT";
    assert_eq!(request(&other).body("x").send().await.unwrap().status(), 403);
    other.method = "DELETE";
    let status = request(&other).send().await.unwrap().status().as_u16();
    assert!(matches!(status, 403 | 405), "{status}");
    assert_eq!(blobs.head(&key).await.unwrap().unwrap().size_bytes, 8);

    let brief = GetGrant {
        ttl: Duration::from_secs(1),
        ..grant
    };
    let link = blobs.presign_get(&key, &brief).await.unwrap();
    let is_refused = async || request(&link).send().await.unwrap().status() == 403;
    mosaic_testing::until("the link expires", Duration::from_secs(10), is_refused).await;
    let debug = format!("{link:?}");
    assert!(
        debug.contains("?***") && !debug.to_lowercase().contains("disposition"),
        "{debug}"
    );
}

async fn links_live_a_week_at_most(engine: &Engine) {
    for ttl in [Duration::ZERO, TTL_MAX + Duration::from_secs(1)] {
        let grant = PutGrant {
            ttl,
            content_type: text(),
            size_bytes: 1,
        };
        let error = engine
            .blobs
            .presign_put(&engine.key("x"), &grant)
            .await
            .expect_err("no such life");
        assert_eq!(error.reason(), "TTL_INVALID");
    }
}

async fn the_engine_answers(engine: &Engine) {
    engine.blobs.ping().await.unwrap();
}
