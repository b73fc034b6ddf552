//! WebSocket frames (RFC 6455): encoded once for all connections, and parsed only as far as the service has to
//! understand a client.

use std::io::Cursor;

use bytes::Bytes;
use liverank_runtime::websocket::is_close_status;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The greatest length of the header of a frame without a mask, as servers send them, in bytes.
const MAX_HEADER_BYTES: usize = 10;
/// The maximum number of payload bytes in a control frame.
const MAX_CONTROL_BYTES: usize = 125;
/// The maximum size of a client's message, in bytes: small, because no message has a meaning to this service.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// The statuses of close frames.
pub(crate) mod status {
    /// The close status 1000: the client asked to close the connection.
    pub(crate) const NORMAL_CLOSURE: u16 = 1000;
    /// The close status 1002: the client violated the protocol.
    pub(crate) const PROTOCOL_ERROR: u16 = 1002;
    /// The close status 1007: the client sent a text message that is no UTF-8.
    pub(crate) const INVALID_UTF8: u16 = 1007;
    /// The close status 1009: the client sent too large a message.
    pub(crate) const MESSAGE_TOO_BIG: u16 = 1009;
    /// The close status of a restart of the service: the client is to connect again after a while.
    pub(crate) const SERVICE_RESTART: u16 = liverank_runtime::websocket::RESTART_STATUS;
}

/// Encodes a whole text message in one frame; `write` appends its payload.
pub(crate) fn encode_text(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    write_frame(OpCode::Data(Data::Text), write)
}

/// Encodes a ping without a payload.
pub(crate) fn encode_ping() -> Bytes {
    write_frame(OpCode::Control(Control::Ping), |_| ())
}

/// Encodes the answer to a ping with this payload.
pub(crate) fn encode_pong(payload: &[u8]) -> Bytes {
    write_frame(OpCode::Control(Control::Pong), |frame| frame.extend_from_slice(payload))
}

/// Encodes a close frame, the last frame of a connection.
pub(crate) fn encode_close(status: u16) -> Bytes {
    write_frame(OpCode::Control(Control::Close), |frame| frame.extend_from_slice(&status.to_be_bytes()))
}

/// Returns the length of the header of a frame that was encoded here, in bytes.
pub(crate) fn header_length(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

fn write_frame(opcode: OpCode, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    // The header's length depends on the payload's: with space for the longest header, the payload need not be moved.
    let mut frame = vec![0; MAX_HEADER_BYTES];
    write(&mut frame);
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let length = (frame.len() - MAX_HEADER_BYTES) as u64;
    let start = MAX_HEADER_BYTES - header.len(length);
    header.format(length, &mut &mut frame[start..MAX_HEADER_BYTES]).expect("the header was measured");
    Bytes::from(frame).slice(start..)
}

/// A message of a client, by the service's reaction to it.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// A pong, or a message that has no meaning here: it only shows that the client is alive.
    OtherMessage,
    /// A ping, whose payload the client wants back.
    Ping(Bytes),
    /// The client closes the connection, with this status or [`status::NORMAL_CLOSURE`].
    Close(u16),
}

/// The reason for which no more messages can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection is gone.
    #[error(transparent)]
    Gone(#[from] std::io::Error),
    /// The client sent bytes that are no valid WebSocket frame of a client; the status says why.
    #[error("the client broke the protocol: {0}")]
    ProtocolError(u16),
}

/// Reads a client's frames. Buffers only a few bytes, whatever a client sends.
pub struct FrameReader<R> {
    source: R,
    /// The number of bytes of an unfinished message so far; `None` between messages.
    unfinished_message_bytes: Option<u64>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Makes a reader of the frames that `from` delivers.
    pub const fn new(from: R) -> Self {
        Self { source: from, unfinished_message_bytes: None }
    }

    /// Reads the next frame. Must not be called again after an error, or after a call that was cancelled.
    pub async fn next_message(&mut self) -> Result<ClientMessage, ReadError> {
        let (header, length) = self.read_header().await?;
        let mask = header.mask.ok_or(ReadError::ProtocolError(status::PROTOCOL_ERROR))?;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(ReadError::ProtocolError(status::PROTOCOL_ERROR));
        }
        match header.opcode {
            OpCode::Control(control) => {
                if !header.is_final || length > MAX_CONTROL_BYTES as u64 {
                    return Err(ReadError::ProtocolError(status::PROTOCOL_ERROR));
                }
                let mut payload = [0; MAX_CONTROL_BYTES];
                let payload = &mut payload[..length as usize];
                self.source.read_exact(payload).await?;
                payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
                control_message(control, payload)
            }
            OpCode::Data(data) => {
                self.check_data_frame(data, header.is_final, length)?;
                self.skip_payload(length).await?;
                Ok(ClientMessage::OtherMessage)
            }
        }
    }

    async fn read_header(&mut self) -> Result<(FrameHeader, u64), ReadError> {
        let mut bytes = [0; MAX_HEADER_BYTES + 4];
        self.source.read_exact(&mut bytes[..2]).await?;
        let extended = match bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = if bytes[1] & 0x80 == 0 { 0 } else { 4 };
        let length = 2 + extended + masked;
        self.source.read_exact(&mut bytes[2..length]).await?;
        match FrameHeader::parse(&mut Cursor::new(&bytes[..length])) {
            Ok(Some(parsed)) => Ok(parsed),
            _ => Err(ReadError::ProtocolError(status::PROTOCOL_ERROR)),
        }
    }

    /// Checks that a data frame continues or begins a message correctly, and that the message does not grow too large.
    fn check_data_frame(&mut self, data: Data, is_final: bool, length: u64) -> Result<(), ReadError> {
        let before = match (data, self.unfinished_message_bytes) {
            (Data::Continue, Some(before)) => before,
            (Data::Text | Data::Binary, None) => 0,
            _ => return Err(ReadError::ProtocolError(status::PROTOCOL_ERROR)),
        };
        let total = before.saturating_add(length);
        if total > MAX_MESSAGE_BYTES {
            return Err(ReadError::ProtocolError(status::MESSAGE_TOO_BIG));
        }
        self.unfinished_message_bytes = (!is_final).then_some(total);
        Ok(())
    }

    async fn skip_payload(&mut self, mut length: u64) -> Result<(), ReadError> {
        let mut bytes = [0; 256];
        while length > 0 {
            let some = length.min(bytes.len() as u64) as usize;
            self.source.read_exact(&mut bytes[..some]).await?;
            length -= some as u64;
        }
        Ok(())
    }
}

fn control_message(control: Control, payload: &[u8]) -> Result<ClientMessage, ReadError> {
    match control {
        Control::Ping => Ok(ClientMessage::Ping(Bytes::copy_from_slice(payload))),
        Control::Close => match payload {
            [] => Ok(ClientMessage::Close(status::NORMAL_CLOSURE)),
            [high, low, reason @ ..] => {
                let status = u16::from_be_bytes([*high, *low]);
                if !is_close_status(status) {
                    return Err(ReadError::ProtocolError(status::PROTOCOL_ERROR));
                }
                match str::from_utf8(reason) {
                    Ok(_) => Ok(ClientMessage::Close(status)),
                    Err(_) => Err(ReadError::ProtocolError(status::INVALID_UTF8)),
                }
            }
            [_] => Err(ReadError::ProtocolError(status::PROTOCOL_ERROR)),
        },
        Control::Pong | Control::Reserved(_) => Ok(ClientMessage::OtherMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a client's frame, with a mask.
    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        if payload.len() < 126 {
            frame.push(0x80 | payload.len() as u8);
        } else {
            frame.push(0xfe);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    async fn read_frames(bytes: &[u8]) -> Vec<Result<ClientMessage, u16>> {
        let mut reader = FrameReader::new(bytes);
        let mut said = Vec::new();
        loop {
            match reader.next_message().await {
                Ok(one) => said.push(Ok(one)),
                Err(ReadError::ProtocolError(status)) => said.push(Err(status)),
                Err(ReadError::Gone(_)) => return said,
            }
            if said.last().is_some_and(Result::is_err) {
                return said;
            }
        }
    }

    #[test]
    fn headers_are_as_long_as_they_need_to_be() {
        let of = |length: usize| encode_text(|frame| frame.extend(std::iter::repeat_n(b'x', length)));
        assert_eq!(of(2)[..], *b"\x81\x02xx");
        assert_eq!(of(125)[..2], [0x81, 125]);
        assert_eq!(of(126)[..5], [0x81, 126, 0, 126, b'x']);
        assert_eq!(of(65_535)[..4], [0x81, 126, 255, 255]);
        assert_eq!(of(65_536)[..11], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0, b'x']);
        assert_eq!(of(65_536).len(), 65_546);
        assert_eq!(encode_close(status::SERVICE_RESTART)[..], [0x88, 2, 3, 244]);
        assert_eq!(encode_ping()[..], [0x89, 0]);
        assert_eq!(encode_pong(b"a")[..], [0x8a, 1, b'a']);
    }

    #[tokio::test]
    async fn clients_may_talk_in_pieces_ping_in_between_and_leave() {
        let bytes = [
            client_frame(0x01, b"he"),
            client_frame(0x89, b"there?"),
            client_frame(0x80, b"llo"),
            client_frame(0x82, &[7; 300]),
            client_frame(0x8a, b""),
            client_frame(0x88, &[3, 232, b'b', b'y', b'e']),
        ]
        .concat();
        let expected = [
            ClientMessage::OtherMessage,
            ClientMessage::Ping(Bytes::from_static(b"there?")),
            ClientMessage::OtherMessage,
            ClientMessage::OtherMessage,
            ClientMessage::OtherMessage,
            ClientMessage::Close(1000),
        ];
        assert_eq!(read_frames(&bytes).await, expected.map(Ok));
    }

    #[tokio::test]
    async fn protocol_violations_have_their_close_statuses() {
        let unmasked = b"\x81\x01x".to_vec();
        let huge = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes()[..], &[0; 4][..]].concat();
        let cases = [
            (unmasked, status::PROTOCOL_ERROR),
            (huge, status::MESSAGE_TOO_BIG),
            (client_frame(0x81, &[b'x'; 4097]), status::MESSAGE_TOO_BIG),
            (
                [client_frame(0x01, &[b'x'; 4000]), client_frame(0x80, &[b'x'; 97])].concat(),
                status::MESSAGE_TOO_BIG,
            ),
            (client_frame(0x80, b"nothing to continue"), status::PROTOCOL_ERROR),
            ([client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat(), status::PROTOCOL_ERROR),
            (client_frame(0xc1, b"rsv1"), status::PROTOCOL_ERROR),
            (client_frame(0x83, b"reserved"), status::PROTOCOL_ERROR),
            (client_frame(0x8b, b"reserved"), status::PROTOCOL_ERROR),
            (client_frame(0x09, b"a ping in pieces"), status::PROTOCOL_ERROR),
            (client_frame(0x89, &[0; 126]), status::PROTOCOL_ERROR),
            (client_frame(0x88, &[3]), status::PROTOCOL_ERROR),
            (client_frame(0x88, &1005_u16.to_be_bytes()), status::PROTOCOL_ERROR),
            (client_frame(0x88, &1006_u16.to_be_bytes()), status::PROTOCOL_ERROR),
            (client_frame(0x88, &999_u16.to_be_bytes()), status::PROTOCOL_ERROR),
            (client_frame(0x88, &[3, 232, 0xff]), status::INVALID_UTF8),
        ];
        for (bytes, status) in cases {
            assert_eq!(read_frames(&bytes).await.last(), Some(&Err(status)), "{:x?}", &bytes[..2]);
        }
    }
}
