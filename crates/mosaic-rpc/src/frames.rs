//! Length-prefixed messages, as gRPC puts them into HTTP/2 (`doc/PROTOCOL-HTTP2.md` of the gRPC project).
//!
//! Ours because the client's road is short: one message out, one in, no compression. What a stranger may send all the
//! same (a compressed message, a length of gigabytes, half a message) has its answer here.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;
use tonic::Status;

use crate::server::MESSAGE_BYTES_MAX;

/// Flag and length before each message.
const PREFIX_BYTES: usize = 5;

/// Returns `message` with its prefix.
///
/// # Errors
/// `OutOfRange` if it is larger than messages may be.
pub(crate) fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let len = message.encoded_len();
    if len > MESSAGE_BYTES_MAX {
        return Err(too_large(len));
    }
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + len);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).map_err(|_| too_large(len))?);
    message
        .encode(&mut frame)
        .expect("a growing buffer has room for every message");
    Ok(frame.freeze())
}

/// Messages of one answer, from pieces as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &Bytes) {
        self.buffer.extend_from_slice(piece);
    }

    /// Returns the next whole message, `None` while it is not whole.
    ///
    /// # Errors
    /// `Internal` for what is no message, `Unimplemented` for a compressed one, `OutOfRange` for one that is too large.
    pub(crate) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        match next_len(&self.buffer)? {
            Some(len) if self.buffer.len() >= PREFIX_BYTES + len => {
                self.buffer.advance(PREFIX_BYTES);
                decode(self.buffer.split_to(len)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Checks that nothing is left when the answer ends.
    ///
    /// # Errors
    /// `Internal` if half a message is.
    pub(crate) fn end(&self) -> Result<(), Status> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(Status::internal("the answer ended within a message"))
        }
    }
}

/// Returns the length of the message that `buffer` begins with, `None` while its prefix is not whole.
fn next_len(buffer: &[u8]) -> Result<Option<usize>, Status> {
    let Some((flag, [a, b, c, d])) = buffer.split_first().and_then(|(flag, rest)| {
        let length: &[u8; 4] = rest.first_chunk()?;
        Some((*flag, *length))
    }) else {
        return Ok(None);
    };
    if flag != 0 {
        return Err(Status::unimplemented("a compressed message that nobody asked for"));
    }
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if len > MESSAGE_BYTES_MAX {
        Err(too_large(len))
    } else {
        Ok(Some(len))
    }
}

fn decode<M: Message + Default>(bytes: BytesMut) -> Result<M, Status> {
    // The text of a parser says more of the contract than strangers should read; it is the cause, not the message.
    M::decode(bytes).map_err(|error| Status::internal(format!("the answer is no message of the contract: {error}")))
}

fn too_large(len: usize) -> Status {
    Status::out_of_range(format!("a message of {len} bytes; at most {MESSAGE_BYTES_MAX} go"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Frames {
        let mut frames = Frames::default();
        pieces
            .iter()
            .for_each(|piece| frames.push(&Bytes::copy_from_slice(piece)));
        frames
    }

    #[test]
    fn messages_come_out_however_they_were_cut() {
        let text = "a message".to_owned();
        let whole = [encode(&text).unwrap(), encode(&text).unwrap()].concat();
        for cut in 0..whole.len() {
            let mut frames = frames(&[&whole[..cut]]);
            let mut got = Vec::new();
            while let Some(message) = frames.next::<String>().unwrap() {
                got.push(message);
            }
            frames.push(&Bytes::copy_from_slice(&whole[cut..]));
            while let Some(message) = frames.next::<String>().unwrap() {
                got.push(message);
            }
            assert_eq!(got, [text.clone(), text.clone()], "cut at {cut}");
            assert!(frames.end().is_ok());
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        #[track_caller]
        fn check(bytes: &[u8], code: tonic::Code) {
            assert_eq!(frames(&[bytes]).next::<String>().unwrap_err().code(), code, "{bytes:?}");
        }
        check(&[1, 0, 0, 0, 0], tonic::Code::Unimplemented);
        check(&[0, 255, 255, 255, 255], tonic::Code::OutOfRange);
        check(&[0, 0, 0, 0, 1, 0xff], tonic::Code::Internal);
        assert!(frames(&[&[0, 0, 0]]).end().is_err());
        assert!(encode(&"x".repeat(MESSAGE_BYTES_MAX + 1)).is_err());
    }
}
