//! Server-sent events: items as they come, an end when nobody listens.

use mosaic_testing::Shape;

use crate::raw::Connection;
use crate::stage::{APART, Stage};

#[tokio::test]
async fn items_come_as_they_are_made_and_work_ends_with_its_reader() {
    for shape in [Shape::Together, Shape::Strict, APART] {
        let stage = Stage::new();
        let app = stage.start(shape).await;
        let mut reader = Connection::open(app.http()).await.unwrap();
        reader
            .send("GET", "/back/v1/watch?act=wait&mark=read", "")
            .await
            .unwrap();
        let head = reader.read_until("\r\n\r\n").await.unwrap();
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        // The handler waits for ever after its first item, which has come all the same.
        let item = reader.read_until("\n\n").await.unwrap();
        assert!(item.contains("\"count\":0"), "{item}");
        assert_eq!(stage.witness.seen("read").n_dropped, 0);
        drop(reader);
        stage.witness.until("read", |seen| seen.n_dropped == 1).await;
        app.stop().await;
    }
}

#[tokio::test]
async fn a_stream_that_ends_ends_the_answer_and_the_connection_lives() {
    let stage = Stage::new();
    let app = stage.start(APART).await;
    let mut reader = Connection::open(app.http()).await.unwrap();
    reader
        .send("GET", "/back/v1/watch?hops=3&ms=1&mark=three", "")
        .await
        .unwrap();
    let answer = reader.read_until("\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(answer.matches("data:").count(), 3, "{answer}");
    assert_eq!(stage.witness.seen("three").n_done, 1);
    assert_eq!(reader.ask("POST", "/front/v1/anybody", "{}").await.unwrap().0, 200);
    app.stop().await;
}
