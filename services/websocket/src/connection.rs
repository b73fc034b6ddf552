//! One client: frames out as its list changes, pings, and an end for those who are gone, silent or stuck.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::ClientLimits;
use crate::frame::{self, ClientMessage, FrameReader, ReadError, status};
use crate::lists::Feed;
use crate::metrics::WebsocketMetrics;
use liverank_runtime::streams::StreamPermit;

/// For the closing handshake: it is a courtesy.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client left, with this status.
    Left(u16),
    /// The connection broke.
    Gone,
    /// The client broke the protocol; the status says how.
    Wrong(u16),
    /// The client answered no ping.
    Silent,
    /// The client takes no data, or too slowly.
    Stuck,
    /// This process is on its way out.
    Restart,
}

/// Serves a client until either end leaves.
pub(crate) async fn run<S: AsyncRead + AsyncWrite>(
    socket: S,
    mut feed: Feed,
    mut stay: StreamPermit,
    limits: ClientLimits,
    metrics: &WebsocketMetrics,
) -> End {
    let (mut read, write) = tokio::io::split(socket);
    let heard = Mutex::new(Instant::now());
    // Of pings that wait for their answer the latest is answered, which stands for all before it (RFC 6455, 5.5.3).
    let (pings, mut asked) = watch::channel(Bytes::new());
    let mut writer = FrameWriter { sink: write, limits, within_frame: false };
    let end = tokio::select! {
        end = read_client(&mut read, &heard, &pings) => end,
        end = send_lists(&mut writer, &mut feed, &mut asked, &heard, &mut stay, metrics) => end,
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, close_handshake(end, &mut writer, &mut read)).await;
    end
}

/// Reads what the client says until it leaves.
async fn read_client<R: AsyncRead + Unpin>(
    from: &mut R,
    heard: &Mutex<Instant>,
    pings: &watch::Sender<Bytes>,
) -> End {
    let mut reader = FrameReader::new(from);
    loop {
        match reader.next_message().await {
            Ok(ClientMessage::OtherMessage) => {}
            Ok(ClientMessage::Ping(payload)) => {
                pings.send_replace(payload);
            }
            Ok(ClientMessage::Close(status)) => return End::Left(status),
            Err(ReadError::Wrong(status)) => return End::Wrong(status),
            Err(ReadError::Gone(_)) => return End::Gone,
        }
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Sends what there is to send until it is time to end.
async fn send_lists<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    feed: &mut Feed,
    asked: &mut watch::Receiver<Bytes>,
    heard: &Mutex<Instant>,
    stay: &mut StreamPermit,
    metrics: &WebsocketMetrics,
) -> End {
    let limits = writer.limits;
    // Of those who came together, not all are pinged together.
    let first = tokio::time::Instant::now() + limits.ping_interval.mul_f64(rand::random_range(0.5..=1.0));
    let mut pings = tokio::time::interval_at(first, limits.ping_interval);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            () = stay.leave_signal.as_mut() => return End::Restart,
            Ok(()) = asked.changed() => frame::pong(&asked.borrow_and_update()),
            next = feed.next() => {
                let Some(frame) = next else { return End::Restart };
                metrics.messages_sent.inc();
                frame
            }
            _ = pings.tick() => {
                let silent = heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                if silent > limits.silence_timeout {
                    return End::Silent;
                }
                frame::ping()
            }
        };
        match writer.write_frame(&frame).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return End::Stuck,
            Err(_) => return End::Gone,
        }
    }
}

/// The closing handshake, where the client can still understand it.
async fn close_handshake<W: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    end: End,
    writer: &mut FrameWriter<W>,
    read: &mut R,
) {
    let status = match end {
        End::Gone | End::Stuck | End::Silent => return,
        End::Left(status) | End::Wrong(status) => status,
        End::Restart => status::RESTART,
    };
    if writer.within_frame || writer.write_frame(&frame::close(status)).await.is_err() {
        return;
    }
    let _ = writer.sink.shutdown().await;
    // Closing with unread bytes would reset the connection, and the client might never see the close frame.
    let mut bytes = [0; 256];
    while matches!(read.read(&mut bytes).await, Ok(count) if count > 0) {}
}

/// Writes whole frames, straight from the memory that all connections share.
struct FrameWriter<W> {
    sink: W,
    limits: ClientLimits,
    /// A frame is half out: nothing else can be said.
    within_frame: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// `TimedOut` where the client takes nothing, or too little.
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
