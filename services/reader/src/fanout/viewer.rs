//! One viewer and the writes to its socket, as far as the socket accepts them.
//!
//! Nothing is buffered for a viewer but the rest of one event: if a socket accepts only a part of a slice, the cursor
//! goes back to the event in which the socket stopped. So a viewer who does not read costs no more memory than its
//! socket, and is moved forward by a gap when the viewer reads again.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use liverank_core::canary;

use crate::channel::{NextAction, VideoChannel};
use crate::entry::StreamFilter;
use crate::hub::ViewerGuard;
use crate::ring::{NextEvents, RingCursor};
use crate::sse::{self, StreamForm};

/// The number of slices written to one viewer before others have their turn: a returning viewer has all it missed in
/// two or three turns.
const SLICES_A_TURN: usize = 4;
/// The number of reads from one viewer at once. Viewers send nothing after their request; what they do send is thrown
/// away.
const READS_A_TURN: usize = 4;

/// A viewer with a socket `S`; `()` while it has no socket yet.
pub struct ConnectedViewer<S> {
    socket: S,
    viewer_guard: ViewerGuard,
    cursor: RingCursor,
    form: StreamForm,
    /// The event types and shadowed comments that the viewer is sent beside comments.
    stream_filter: StreamFilter,
    /// The heartbeat number of the viewer's channel up to which heartbeats were sent, or were not needed.
    seen_heartbeat_number: u32,
    /// True if the socket cannot be written to now.
    is_socket_full: bool,
    /// True if the viewer has shut down its sending side.
    has_shut_down_sending: bool,
    /// The bytes of a begun event, or of the response head, that the socket has not accepted yet.
    unwritten_bytes: Bytes,
}

/// The state of a viewer after its turn: waiting, more to write, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateAfterTurn {
    /// The viewer has everything, or its socket is full: the next turn is due when the channel or the kernel notifies
    /// the thread.
    Waits,
    /// There is more to write to the viewer.
    HasMore,
    /// The viewer has left, or its stream has ended.
    Gone,
}

impl ConnectedViewer<()> {
    /// Makes a viewer that is sent `first`, and then the events after `cursor`.
    pub fn new(seat: ViewerGuard, cursor: RingCursor, form: StreamForm, first: Bytes) -> Self {
        let seen_heartbeat_number = seat.channel.heartbeat_number.load(Ordering::Relaxed);
        let asked = StreamFilter::default();
        Self {
            socket: (),
            viewer_guard: seat,
            cursor,
            form,
            stream_filter: asked,
            seen_heartbeat_number,
            is_socket_full: false,
            has_shut_down_sending: false,
            unwritten_bytes: first,
        }
    }

    /// Returns the viewer with the filter `asked`: the events that it is sent beside comments.
    #[must_use]
    pub fn with_filter(self, asked: impl Into<StreamFilter>) -> Self {
        Self { stream_filter: asked.into(), ..self }
    }

    /// Returns the viewer with its socket.
    pub fn with_socket<S>(self, socket: S) -> ConnectedViewer<S> {
        let Self {
            socket: (),
            viewer_guard: seat,
            cursor,
            form,
            stream_filter: asked,
            seen_heartbeat_number,
            is_socket_full: full,
            has_shut_down_sending,
            unwritten_bytes: rest,
        } = self;
        ConnectedViewer {
            socket,
            viewer_guard: seat,
            cursor,
            form,
            stream_filter: asked,
            seen_heartbeat_number,
            is_socket_full: full,
            has_shut_down_sending,
            unwritten_bytes: rest,
        }
    }
}

impl<S> ConnectedViewer<S> {
    /// The viewer's channel.
    pub const fn channel(&self) -> &Arc<VideoChannel> {
        &self.viewer_guard.channel
    }

    /// The viewer's socket.
    pub const fn socket(&mut self) -> &mut S {
        &mut self.socket
    }
}

impl<S: Read + Write> ConnectedViewer<S> {
    /// Handles that the socket can be written to again: flushes the socket's own buffer, then gives the viewer a turn.
    pub fn on_writable(&mut self) -> StateAfterTurn {
        match self.socket.flush() {
            Ok(()) => {
                self.is_socket_full = false;
                self.write_turn()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_socket_full = true;
                StateAfterTurn::Waits
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => StateAfterTurn::HasMore,
            Err(_) => StateAfterTurn::Gone,
        }
    }

    /// Writes what the channel has for the viewer, as far as its socket accepts it, for at most `SLICES_A_TURN`
    /// slices.
    pub fn write_turn(&mut self) -> StateAfterTurn {
        self.try_turn().unwrap_or(StateAfterTurn::Gone)
    }

    fn try_turn(&mut self) -> io::Result<StateAfterTurn> {
        if self.viewer_guard.is_sent_away() {
            return Ok(StateAfterTurn::Gone);
        }
        if self.is_socket_full {
            return Ok(StateAfterTurn::Waits);
        }
        if !self.unwritten_bytes.is_empty() {
            let rest = std::mem::take(&mut self.unwritten_bytes);
            self.send_all(rest)?;
        }
        for _ in 0..SLICES_A_TURN {
            if self.is_socket_full {
                return Ok(StateAfterTurn::Waits);
            }
            match self.viewer_guard.channel.next_action(&mut self.cursor, self.stream_filter) {
                NextAction::Send(NextEvents::Events { bytes, count }) => self.send_events(&bytes, count)?,
                NextAction::Send(NextEvents::Gap { numbering, from, to }) => {
                    self.viewer_guard.hub().metrics.gaps_reported.inc();
                    self.send_all(sse::gap_event(self.form, &numbering, from, to))?;
                }
                NextAction::End => return Ok(StateAfterTurn::Gone),
                NextAction::Send(NextEvents::Nothing) | NextAction::Wait => {
                    return self.send_heartbeat_and_count();
                }
            }
        }
        Ok(StateAfterTurn::HasMore)
    }

    /// Sends a heartbeat if one is due, and the new number of viewers if the viewer asked for that; called for a viewer
    /// who has all comments.
    fn send_heartbeat_and_count(&mut self) -> io::Result<StateAfterTurn> {
        let due = self.viewer_guard.channel.heartbeat_number.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.seen_heartbeat_number, due) != due {
            self.send_all(sse::HEARTBEAT_LINE)?;
        }
        // If the socket is full, the number is not sent now; a later number may replace it.
        if let (true, Some(had)) = (
            self.unwritten_bytes.is_empty() && !self.is_socket_full,
            &mut self.viewer_guard.seen_count_version,
        ) && let Some(event) = self.viewer_guard.channel.announced_viewer_count.event_if_newer(had)
        {
            self.send_all(event)?;
        }
        Ok(StateAfterTurn::Waits)
    }

    /// Writes `count` whole events. If the socket stops within an event, the rest of that event is kept in
    /// `unwritten_bytes`, and the cursor is moved back so that later events are taken from the ring again.
    fn send_events(&mut self, events: &[u8], count: u64) -> io::Result<()> {
        let written = self.write_some(events)?;
        let begun = event_end(events, written);
        let left = events[begun..].windows(2).filter(|pair| pair == b"\n\n").count() as u64;
        self.cursor.rewind(left);
        self.unwritten_bytes = Bytes::copy_from_slice(&events[written..begun]);
        if !canary::is_canary(&self.viewer_guard.channel.video) {
            self.viewer_guard.hub().metrics.messages_written.inc_by(count - left);
        }
        Ok(())
    }

    /// Writes all of `bytes`; the part that the socket does not accept now is kept in `unwritten_bytes`.
    fn send_all(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let written = self.write_some(&bytes)?;
        self.unwritten_bytes = bytes.split_off(written);
        Ok(())
    }

    /// Writes as many of `bytes` as the socket accepts; returns how many these are.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() && !self.is_socket_full {
            match self.socket.write(&bytes[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_socket_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let metrics = &self.viewer_guard.hub().metrics;
        metrics.bytes_written.inc_by(written as u64);
        metrics.socket_writes.inc();
        Ok(written)
    }

    /// Handles that the socket can be read from: finds out whether the viewer has left. `broken`: the kernel reports
    /// that the connection is broken.
    ///
    /// A viewer who has shut down its sending side is gone, or has nothing more to send and reads on. A viewer who has
    /// shut down its sending side is sent a heartbeat: if nobody is left to receive the heartbeat, the kernel learns
    /// that and reports it.
    pub fn on_readable(&mut self, scratch: &mut [u8], broken: bool) -> StateAfterTurn {
        for _ in 0..READS_A_TURN {
            match self.socket.read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return StateAfterTurn::Waits,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) if broken => return StateAfterTurn::Gone,
                Ok(0) if std::mem::replace(&mut self.has_shut_down_sending, true) => {
                    return StateAfterTurn::Waits;
                }
                Ok(0) if self.is_socket_full || !self.unwritten_bytes.is_empty() => {
                    return StateAfterTurn::Waits;
                }
                Ok(0) => {
                    return self
                        .send_all(sse::HEARTBEAT_LINE)
                        .map_or(StateAfterTurn::Gone, |()| StateAfterTurn::Waits);
                }
                Err(_) => return StateAfterTurn::Gone,
                Ok(_) => {}
            }
        }
        // More bytes than any request that we accept: the peer is no viewer.
        StateAfterTurn::Gone
    }
}

/// Returns the end of the event within which the first `written` bytes of these whole events end; `written` itself if
/// they end between two events.
fn event_end(events: &[u8], written: usize) -> usize {
    if written == 0 || events[..written].ends_with(b"\n\n") {
        return written;
    }
    // The search begins one byte earlier, because the first of an event's two final newlines may have been written.
    let from = written - 1;
    events[from..].windows(2).position(|pair| pair == b"\n\n").map_or(events.len(), |at| from + at + 2)
}

#[cfg(test)]
mod tests;
