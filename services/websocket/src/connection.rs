//! One client's connection: sends a frame when the client's list changes, sends pings, and ends the connection if the
//! client is gone, silent or stuck.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::ClientLimits;
use crate::frame::{self, ClientMessage, FrameReader, ReadError, status};
use crate::lists::ListSubscription;
use crate::metrics::{DisconnectReason, WebsocketMetrics};
use liverank_runtime::now_ms;
use liverank_runtime::streams::StreamPermit;

/// The time that the closing handshake may take: short, because it is only a courtesy.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a client until the client or this process ends the connection. Returns the reason for the end.
pub(crate) async fn run<S: AsyncRead + AsyncWrite>(
    socket: S,
    mut feed: ListSubscription,
    mut stay: StreamPermit,
    limits: ClientLimits,
    metrics: &WebsocketMetrics,
) -> DisconnectReason {
    let (mut read, write) = tokio::io::split(socket);
    let heard = Mutex::new(Instant::now());
    // Of pings that wait for an answer, the latest is answered, which answers all before it (RFC 6455, 5.5.3).
    let (pings, mut asked) = watch::channel(Bytes::new());
    let mut writer = FrameWriter { sink: write, limits, within_frame: false };
    let end = tokio::select! {
        end = read_client(&mut read, &heard, &pings) => end,
        end = send_lists(&mut writer, &mut feed, &mut asked, &heard, &mut stay, metrics) => end,
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, close_handshake(end, &mut writer, &mut read)).await;
    end
}

/// Reads the client's messages until it leaves; hands on its pings, and notes the time of each message in `heard`.
async fn read_client<R: AsyncRead + Unpin>(
    from: &mut R,
    heard: &Mutex<Instant>,
    pings: &watch::Sender<Bytes>,
) -> DisconnectReason {
    let mut reader = FrameReader::new(from);
    loop {
        match reader.next_message().await {
            Ok(ClientMessage::OtherMessage) => {}
            Ok(ClientMessage::Ping(payload)) => {
                pings.send_replace(payload);
            }
            Ok(ClientMessage::Close(status)) => return DisconnectReason::ClosedByClient(status),
            Err(ReadError::ProtocolError(status)) => return DisconnectReason::ProtocolError(status),
            Err(ReadError::Gone(_)) => return DisconnectReason::ConnectionBroken,
        }
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Sends lists, pongs and pings until the connection has to end. Returns the reason for the end.
async fn send_lists<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    feed: &mut ListSubscription,
    asked: &mut watch::Receiver<Bytes>,
    heard: &Mutex<Instant>,
    stay: &mut StreamPermit,
    metrics: &WebsocketMetrics,
) -> DisconnectReason {
    let limits = writer.limits;
    // The first ping is at a random time, so that clients who connected together are not pinged together.
    let first = tokio::time::Instant::now() + limits.ping_interval.mul_f64(rand::random_range(0.5..=1.0));
    let mut pings = tokio::time::interval_at(first, limits.ping_interval);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut logged_at = None;
        let frame = tokio::select! {
            biased;
            () = stay.leave_signal.as_mut() => return DisconnectReason::Restart,
            Ok(()) = asked.changed() => frame::encode_pong(&asked.borrow_and_update()),
            next = feed.next() => {
                let Some(next) = next else { return DisconnectReason::Restart };
                metrics.messages_sent.inc();
                logged_at = next.logged_at;
                next.frame
            }
            _ = pings.tick() => {
                let silent = heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                if silent > limits.silence_timeout {
                    return DisconnectReason::Silent;
                }
                frame::encode_ping()
            }
        };
        match writer.write_frame(&frame).await {
            Ok(()) => {
                if let Some(logged_at) = logged_at {
                    metrics.freshness.note_sent(logged_at, now_ms());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return DisconnectReason::ClientStalled,
            Err(_) => return DisconnectReason::ConnectionBroken,
        }
    }
}

/// Makes the closing handshake, unless the client is gone or stuck and could not follow it.
async fn close_handshake<W: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    end: DisconnectReason,
    writer: &mut FrameWriter<W>,
    read: &mut R,
) {
    let status = match end {
        DisconnectReason::ConnectionBroken | DisconnectReason::ClientStalled | DisconnectReason::Silent => {
            return;
        }
        DisconnectReason::ClosedByClient(status) | DisconnectReason::ProtocolError(status) => status,
        DisconnectReason::Restart => status::SERVICE_RESTART,
    };
    if writer.within_frame || writer.write_frame(&frame::encode_close(status)).await.is_err() {
        return;
    }
    let _ = writer.sink.shutdown().await;
    // Closing with unread bytes would reset the connection, and the client might never see the close frame.
    let mut bytes = [0; 256];
    while matches!(read.read(&mut bytes).await, Ok(count) if count > 0) {}
}

/// Writes whole frames, directly from the memory that all connections share.
struct FrameWriter<W> {
    sink: W,
    limits: ClientLimits,
    /// Whether a frame is partly written, so that no other frame can be sent.
    within_frame: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes a whole frame; fails with `TimedOut` if the client accepts no data, or accepts it too slowly.
    async fn write_frame(&mut self, frame: &Bytes) -> io::Result<()> {
        self.within_frame = true;
        let mut rest = &frame[..];
        let all = async {
            while !rest.is_empty() {
                let count = tokio::time::timeout(self.limits.stall_timeout, self.sink.write(rest)).await??;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[count..];
            }
            tokio::time::timeout(self.limits.stall_timeout, self.sink.flush()).await?
        };
        tokio::time::timeout(self.limits.message_timeout, all).await??;
        self.within_frame = false;
        Ok(())
    }
}
