//! HTTP/1.1 on one connection, so that a test knows which.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: String,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: String::new(),
        })
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, verb: &str, path: &str, body: &str) -> std::io::Result<()> {
        let request = format!(
            "{verb} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await
    }

    /// Reads until `mark` has come; returns everything up to its end. `None` if the connection ends before.
    pub(crate) async fn read_until(&mut self, mark: &str) -> Option<String> {
        loop {
            if let Some(at) = self.unread.find(mark) {
                let rest = self.unread.split_off(at + mark.len());
                return Some(std::mem::replace(&mut self.unread, rest));
            }
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut bytes));
            match read.await.expect("bytes or an end within 20 s") {
                Ok(n_bytes) if n_bytes > 0 => self.unread.push_str(&String::from_utf8_lossy(&bytes[..n_bytes])),
                _ => return None,
            }
        }
    }

    /// Reads an answer: status, head, body. `None` if the connection ends before it is whole.
    pub(crate) async fn answer(&mut self) -> Option<(u16, String, String)> {
        let head = self.read_until("\r\n\r\n").await?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
        while self.unread.len() < length {
            let mut bytes = [0; 4096];
            let n_bytes = self.stream.read(&mut bytes).await.ok().filter(|n_bytes| *n_bytes > 0)?;
            self.unread.push_str(&String::from_utf8_lossy(&bytes[..n_bytes]));
        }
        let rest = self.unread.split_off(length);
        Some((status, head, std::mem::replace(&mut self.unread, rest)))
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, verb: &str, path: &str, body: &str) -> Option<(u16, String, String)> {
        self.send(verb, path, body).await.ok()?;
        self.answer().await
    }

    /// Waits until the other side has ended the connection; returns what still came.
    pub(crate) async fn rest(mut self) -> String {
        while self.read_until("\u{0}").await.is_some() {}
        self.unread
    }
}
