//! Floods, resets and nonsense at the gRPC port: each has its answer, and the process goes on for others.

use std::net::SocketAddr;
use std::time::Duration;

use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::{Shape, TestApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::grpc::{Answer, Connection, framed};
use crate::stage::{Stage, stranger, traced};

const ACT: &str = "/back.v1.Back/Act";
const WATCH: &str = "/back.v1.Back/Watch";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Target {
    app: TestApp,
}

impl Target {
    async fn new() -> Self {
        Self {
            app: Stage::new().start(Shape::Together).await,
        }
    }

    fn address(&self) -> SocketAddr {
        self.app.processes()[0].addresses().grpc
    }

    /// Others are served, and the process ends as ever.
    async fn lives(self) {
        let front: FrontClient = stranger(&self.app, 0);
        front.tell(&traced().0, ()).await.expect("the process serves others");
        self.app.stop().await;
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that no table knows (RFC 7541 6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let lens = [name.len(), value.len()].map(|len| u8::try_from(len).unwrap());
    assert!(lens.iter().all(|len| *len < 127), "longer ones have another form");
    [&[0, lens[0]], name, &[lens[1]], value].concat()
}

/// The head of a call of `path`, and more.
fn head(path: &str, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` are in the static table.
    let mut block = vec![0x83, 0x86];
    block.extend(literal(b":path", path.as_bytes()));
    block.extend(literal(b":authority", b"test"));
    block.extend(literal(b"content-type", b"application/grpc"));
    more.iter().for_each(|(name, value)| block.extend(literal(name, value)));
    block
}

/// A connection of frames.
struct Frames {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What a server has sent.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Seen {
    /// The code of `RST_STREAM` or `GOAWAY`.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Frames {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends, for as long as the other side takes it; true if it took all.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Returns the next frame; `None` at the end of the connection, or after `patience` without one.
    async fn next(&mut self, patience: Duration) -> Option<Seen> {
        loop {
            if let Some(len) = self.unread.first_chunk::<3>() {
                let len = usize::try_from(u32::from_be_bytes([0, len[0], len[1], len[2]])).unwrap();
                if self.unread.len() >= 9 + len {
                    let rest = self.unread.split_off(9 + len);
                    let whole = std::mem::replace(&mut self.unread, rest);
                    return Some(Seen {
                        kind: whole[3],
                        stream: u32::from_be_bytes(whole[5..9].try_into().unwrap()),
                        payload: whole[9..].to_vec(),
                    });
                }
            }
            let mut bytes = vec![0; 16 * 1024];
            match tokio::time::timeout(patience, self.stream.read(&mut bytes)).await {
                Ok(Ok(n_bytes)) if n_bytes > 0 => self.unread.extend_from_slice(&bytes[..n_bytes]),
                _ => return None,
            }
        }
    }

    /// Returns how the server ends the connection, if it does.
    async fn end(&mut self) -> End {
        while let Some(seen) = self.next(Duration::from_secs(2)).await {
            if seen.kind == GOAWAY {
                return End::GoAway(seen.code());
            }
        }
        // Nothing more within the time: either there is nothing more, or nothing ever again.
        match tokio::time::timeout(Duration::from_millis(100), self.stream.read(&mut [0; 1])).await {
            Ok(Ok(0) | Err(_)) => End::Closed,
            _ => End::Open,
        }
    }
}

/// How a connection stands after an attack.
#[derive(Debug, PartialEq, Eq)]
enum End {
    GoAway(u32),
    /// It ended before anything could be read.
    Closed,
    Open,
}

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Sends `frames` for the streams 1, 3, 5 ... up to `n` times; returns what the server says in the end.
async fn flood(address: SocketAddr, n: u32, frames: impl Fn(u32) -> Vec<u8>) -> End {
    let mut attack = Frames::open(address).await;
    for position in 0..n {
        if !attack.send(&frames(2 * position + 1)).await {
            break;
        }
        // Let the server work: what piles up in the kernel floods nobody.
        if position % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    attack.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset_is_calmed() {
    let target = Target::new().await;
    let block = head(ACT, &[]);
    let said = flood(target.address(), 20_000, |stream| {
        let reset = frame(RST, 0, stream, &8_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS, stream, &block), reset].concat()
    });
    let said = said.await;
    assert!(matches!(said, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed), "{said:?}");
    target.lives().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_you_reset_is_calmed() {
    let target = Target::new().await;
    let block = head(ACT, &[]);
    // A window that overflows: the server must reset the stream, and its work is lost (CVE-2025-8671).
    let said = flood(target.address(), 20_000, |stream| {
        let overflow = frame(WINDOW, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS, stream, &block), overflow].concat()
    });
    let said = said.await;
    assert!(matches!(said, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed), "{said:?}");
    target.lives().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_calmed() {
    let target = Target::new().await;
    let mut attack = Frames::open(target.address()).await;
    attack.send(&frame(HEADERS, 0, 1, &head(ACT, &[]))).await;
    let filler: Vec<u8> = (0..100).flat_map(|_| literal(b"x-filler", &[b'a'; 100])).collect();
    for _ in 0..1000 {
        if !attack.send(&frame(CONTINUATION, 0, 1, &filler)).await {
            break;
        }
    }
    let said = attack.end().await;
    assert!(
        matches!(said, End::GoAway(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | End::Closed),
        "{said:?}"
    );
    target.lives().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_pings_settings_and_empty_data_hold_nobody_up() {
    let target = Target::new().await;
    let address = target.address();
    let block = head(ACT, &[]);
    for (n, bytes) in [
        (50_000, frame(PING, 0, 0, &[0; 8])),
        (50_000, frame(SETTINGS, 0, 0, &[])),
        (50_000, frame(DATA, 0, 1, &[])),
    ] {
        let mut attack = Frames::open(address).await;
        attack.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
        let chunk: Vec<u8> = bytes.repeat(500);
        let mut attacker = Box::pin(async {
            for _ in 0..n / 500 {
                // Nobody reads the answers; so the server stops to read at some time, which is as good as GOAWAY.
                let sent = tokio::time::timeout(Duration::from_millis(500), attack.send(&chunk)).await;
                if !matches!(sent, Ok(true)) {
                    break;
                }
            }
        });
        let front: FrontClient = stranger(&target.app, 0);
        loop {
            let cx = traced().0;
            tokio::select! {
                () = &mut attacker => break,
                reply = front.tell(&cx, ()) => reply.map(drop).expect("others are served meanwhile"),
            }
        }
    }
    target.lives().await;
}

#[tokio::test]
async fn of_a_thousand_streams_nine_hundred_are_refused() {
    let target = Target::new().await;
    let mut attack = Frames::open(target.address()).await;
    let block = head(ACT, &[]);
    let all: Vec<u8> = (0..1000)
        .flat_map(|position| frame(HEADERS, END_HEADERS, 2 * position + 1, &block))
        .collect();
    attack.send(&all).await;
    let mut n_refused = 0;
    while let Some(seen) = attack.next(Duration::from_millis(700)).await {
        match seen.kind {
            RST => {
                assert_eq!(seen.code(), REFUSED_STREAM);
                n_refused += 1;
            }
            GOAWAY => {
                assert_eq!(seen.code(), ENHANCE_YOUR_CALM, "too many to be only refused");
                n_refused = 900;
                break;
            }
            _ => {}
        }
    }
    assert_eq!(n_refused, 900);
    target.lives().await;
}

#[tokio::test]
async fn headers_that_http2_forbids_get_no_answer() {
    let target = Target::new().await;
    for (name, value) in [
        (&b"connection"[..], &b"close"[..]),
        (b"transfer-encoding", b"chunked"),
        (b"x-text", b"a\r\nx-other: b"),
        (b"X-Upper", b"a"),
    ] {
        let mut attack = Frames::open(target.address()).await;
        let block = head("/front.v1.Front/Tell", &[(name, value)]);
        attack.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
        attack.send(&frame(DATA, END_STREAM, 1, &framed(&[]))).await;
        let mut is_refused = false;
        while let Some(seen) = attack.next(Duration::from_millis(700)).await {
            assert!(seen.kind != HEADERS, "an answer to {:?}", String::from_utf8_lossy(name));
            is_refused |= matches!(seen.kind, RST | GOAWAY);
        }
        assert!(is_refused, "{:?}", String::from_utf8_lossy(name));
    }
    target.lives().await;
}

/// A call that is not one: the answer, whose text is constant.
async fn answered(connection: &Connection, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let answer = connection.call(path, headers, body).await.unwrap();
    assert!(
        !answer.message.contains("ActRequest") && !answer.message.contains("0x"),
        "{answer:?}"
    );
    answer
}

#[tokio::test]
async fn what_is_no_message_has_its_status_in_calls_and_streams() {
    let target = Target::new().await;
    let connection = Connection::open(target.address()).await;
    // Depth 119: groups within groups, which the parser skips, and must not do for ever.
    let deep = [vec![0x2b; 119], vec![0x2c; 119]].concat();
    let (invalid, exhausted) = (3, 8);
    let large = [&[0][..], &5_000_000_u32.to_be_bytes(), &[0; 1000]].concat();
    for path in [ACT, WATCH] {
        for (what, body, want) in [
            ("4 GB", vec![0, 255, 255, 255, 255], exhausted),
            ("5 MB", large.clone(), exhausted),
            ("truncated", framed(b"\x0a\x04wait")[..7].to_vec(), invalid),
            ("garbage", framed(&[0xff; 20]), invalid),
            ("no UTF-8", framed(&[0x0a, 2, 0xc3, 0x28]), invalid),
            ("depth", framed(&deep), invalid),
            ("nothing", Vec::new(), invalid),
            ("compressed without encoding", vec![1, 0, 0, 0, 0], 13),
        ] {
            let answer = answered(&connection, path, &[], &body).await;
            assert_eq!(
                (answer.http.as_u16(), answer.status),
                (200, Some(want)),
                "{path} {what}: {answer:?}"
            );
        }
        let answer = answered(&connection, path, &[("grpc-encoding", "snappy")], &framed(&[])).await;
        assert_eq!(answer.status, Some(12), "{path}: {answer:?}");
    }
    target.lives().await;
}

#[tokio::test]
async fn strange_metadata_is_clamped_ignored_or_refused() {
    let target = Target::new().await;
    let connection = Connection::open(target.address()).await;
    let tell = "/front.v1.Front/Tell";
    for (timeout, want) in [("0n", 4), ("99999999H", 0), ("abc", 0), ("-1S", 0), ("1S1S", 0)] {
        let answer = answered(&connection, tell, &[("grpc-timeout", timeout)], &framed(&[])).await;
        assert_eq!(answer.status, Some(want), "{timeout}: {answer:?}");
    }
    // We read no binary metadata; what is no base64 is nobody's business.
    let answer = answered(&connection, tell, &[("x-thing-bin", "%%%")], &framed(&[])).await;
    assert_eq!(answer.status, Some(0), "{answer:?}");
    for wrong in [
        &[("authorization", "Basic eA==")][..],
        &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ] {
        let answer = answered(&connection, "/front.v1.Front/Somebody", wrong, &framed(&[])).await;
        assert_eq!(answer.status, Some(16), "{answer:?}");
    }
    let large = "a".repeat(64 * 1024);
    let many: Vec<_> = (0..16).map(|_| ("x-large", large.as_str())).collect();
    match connection.call(tell, &many, &framed(&[])).await {
        Ok(answer) => assert_eq!(answer.http.as_u16(), 431, "{answer:?}"),
        Err(error) => assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{error}"),
    }
    target.lives().await;
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let target = Target::new().await;
    let connection = Connection::open(target.address()).await;
    for content_type in ["application/json", "text/plain", "application/grpc-web"] {
        let answer = connection.call_as(content_type, ACT, &[], b"{}").await.unwrap();
        assert_eq!((answer.http.as_u16(), answer.body.len()), (415, 0), "{content_type}");
    }
    for path in ["/back.v1.Back/Unknown", "/unknown.v1.Unknown/Act", "/"] {
        let answer = answered(&connection, path, &[], &framed(&[])).await;
        assert_eq!(
            (answer.http.as_u16(), answer.status),
            (200, Some(12)),
            "{path}: {answer:?}"
        );
    }
    let mut http1 = TcpStream::connect(target.address()).await.unwrap();
    http1
        .write_all(b"POST /back.v1.Back/Act HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), http1.read_to_end(&mut rest))
        .await
        .expect("closed");
    assert!(rest.is_empty(), "{rest:?}");
    target.lives().await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_bounded() {
    let stage = Stage::new();
    let app = stage.start(Shape::Together).await;
    let target = Target { app };
    let mut attack = Frames::open(target.address()).await;
    // A window of nothing at all: 100 times a million items, none of which goes out.
    attack.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    let block = head(WATCH, &[]);
    // `mark = "unread"`, `hops = 1000000`.
    let request = framed(b"\x12\x06unread\x18\xc0\x84\x3d");
    for position in 0..100 {
        attack
            .send(&frame(HEADERS, END_HEADERS, 2 * position + 1, &block))
            .await;
        attack.send(&frame(DATA, END_STREAM, 2 * position + 1, &request)).await;
    }
    stage.witness.until("unread", |seen| seen.n_begun == 100).await;
    let mut n_bytes = 0;
    while let Some(seen) = attack.next(Duration::from_millis(500)).await {
        n_bytes += if seen.kind == DATA { seen.payload.len() } else { 0 };
    }
    assert_eq!(n_bytes, 0, "nothing is sent beyond the window");
    drop(attack);
    stage.witness.until("unread", |seen| seen.n_dropped == 100).await;
    target.lives().await;
}
