//! One viewer: what it is written, as far as its socket takes it.
//!
//! Nothing waits for a viewer but the rest of one event: where a socket takes a part of a slice only, the cursor goes
//! back to the event in which it stopped. So who does not read costs no more than its socket does, and finds itself
//! moved forward by a gap when it reads again.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use liverank_core::canary;

use crate::channel::{NextAction, VideoChannel};
use crate::entry::StreamFilter;
use crate::hub::ViewerGuard;
use crate::ring::{RingCursor, TakenEvents};
use crate::sse::{self, StreamForm};

/// Slices written to one viewer before others have their turn: one who comes back has all it missed in two or three.
const SLICES_A_TURN: usize = 4;
/// Reads of a viewer at once. Viewers have nothing to say; what they do send is thrown away.
const READS_A_TURN: usize = 4;

/// A viewer with a socket `S`, or yet without one.
pub struct ConnectedViewer<S> {
    socket: S,
    viewer_guard: ViewerGuard,
    cursor: RingCursor,
    form: StreamForm,
    /// Who it is, and what it is sent beside comments.
    stream_filter: StreamFilter,
    /// The heartbeats of its room that it has had or had no need of.
    heartbeats: u32,
    /// Whether its socket takes nothing for now.
    is_socket_full: bool,
    /// Whether it has shut down its sending side.
    said_all: bool,
    /// What its socket has not taken of an event that was begun, or of the head.
    unwritten_bytes: Bytes,
}

/// What is to become of a viewer after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterTurn {
    /// It has all there is, or its socket is full: the room or the kernel will say when it goes on.
    Waits,
    /// There is more for it.
    More,
    /// The viewer has left, or its stream has ended.
    Gone,
}

impl ConnectedViewer<()> {
    /// A viewer that is sent `first`, and then what comes after `cursor`.
    pub fn new(seat: ViewerGuard, cursor: RingCursor, form: StreamForm, first: Bytes) -> Self {
        let heartbeats = seat.channel.heartbeat_number.load(Ordering::Relaxed);
        let asked = StreamFilter::default();
        Self {
            socket: (),
            viewer_guard: seat,
            cursor,
            form,
            stream_filter: asked,
            heartbeats,
            is_socket_full: false,
            said_all: false,
            unwritten_bytes: first,
        }
    }

    /// The same viewer, who asked for these events beside comments.
    #[must_use]
    pub fn with_filter(self, asked: impl Into<StreamFilter>) -> Self {
        Self { stream_filter: asked.into(), ..self }
    }

    /// Gives the viewer its socket.
    pub fn with_socket<S>(self, socket: S) -> ConnectedViewer<S> {
        let Self {
            socket: (),
            viewer_guard: seat,
            cursor,
            form,
            stream_filter: asked,
            heartbeats,
            is_socket_full: full,
            said_all,
            unwritten_bytes: rest,
        } = self;
        ConnectedViewer {
            socket,
            viewer_guard: seat,
            cursor,
            form,
            stream_filter: asked,
            heartbeats,
            is_socket_full: full,
            said_all,
            unwritten_bytes: rest,
        }
    }
}

impl<S> ConnectedViewer<S> {
    /// Its room.
    pub const fn channel(&self) -> &Arc<VideoChannel> {
        &self.viewer_guard.channel
    }

    /// Its socket.
    pub const fn socket(&mut self) -> &mut S {
        &mut self.socket
    }
}

impl<S: Read + Write> ConnectedViewer<S> {
    /// Its socket takes something again: first what waits in the socket itself.
    pub fn on_writable(&mut self) -> AfterTurn {
        match self.socket.flush() {
            Ok(()) => {
                self.is_socket_full = false;
                self.write_turn()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_socket_full = true;
                AfterTurn::Waits
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => AfterTurn::More,
            Err(_) => AfterTurn::Gone,
        }
    }

    /// Writes what there is for it, as far as the socket takes it and others need not wait too long.
    pub fn write_turn(&mut self) -> AfterTurn {
        self.try_turn().unwrap_or(AfterTurn::Gone)
    }

    fn try_turn(&mut self) -> io::Result<AfterTurn> {
        if self.is_socket_full {
            return Ok(AfterTurn::Waits);
        }
        if !self.unwritten_bytes.is_empty() {
            let rest = std::mem::take(&mut self.unwritten_bytes);
            self.send_all(rest)?;
        }
        for _ in 0..SLICES_A_TURN {
            if self.is_socket_full {
                return Ok(AfterTurn::Waits);
            }
            match self.viewer_guard.channel.next_action(&mut self.cursor, self.stream_filter) {
                NextAction::Send(TakenEvents::Events { bytes, count }) => self.send_events(&bytes, count)?,
                NextAction::Send(TakenEvents::Gap { numbering, from, to }) => {
                    self.viewer_guard.hub().metrics.gaps_told.inc();
                    self.send_all(sse::gap_event(self.form, &numbering, from, to))?;
                }
                NextAction::End => return Ok(AfterTurn::Gone),
                NextAction::Send(TakenEvents::Nothing) | NextAction::Wait => return self.send_heartbeat(),
            }
        }
        Ok(AfterTurn::More)
    }

    /// What is due to one who has all comments: a heartbeat, and the number of viewers.
    fn send_heartbeat(&mut self) -> io::Result<AfterTurn> {
        let due = self.viewer_guard.channel.heartbeat_number.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.heartbeats, due) != due {
            self.send_all(sse::HEARTBEAT_LINE)?;
        }
        // Where the socket is full, the number waits, and a later one takes its place.
        if let (true, Some(had)) = (
            self.unwritten_bytes.is_empty() && !self.is_socket_full,
            &mut self.viewer_guard.seen_count_version,
        ) && let Some(event) = self.viewer_guard.channel.viewer_count.count_event_after(had)
        {
            self.send_all(event)?;
        }
        Ok(AfterTurn::Waits)
    }

    /// Writes `count` whole events; what the socket does not take of them, but for the one it stopped in, stays in the
    /// ring.
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

    /// Writes all of this, sooner or later.
    fn send_all(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let written = self.write_some(&bytes)?;
        self.unwritten_bytes = bytes.split_off(written);
        Ok(())
    }

    /// Writes what the socket takes; returns how much that is.
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

    /// Looks whether it has left; `broken`: the kernel says that the connection is.
    ///
    /// Who has shut down its sending side is gone, or has nothing more to say and reads on. It is sent a heartbeat: where
    /// nobody is left to take it, the kernel learns that, and says so.
    pub fn on_readable(&mut self, scratch: &mut [u8], broken: bool) -> AfterTurn {
        for _ in 0..READS_A_TURN {
            match self.socket.read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return AfterTurn::Waits,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) if broken => return AfterTurn::Gone,
                Ok(0) if std::mem::replace(&mut self.said_all, true) => return AfterTurn::Waits,
                Ok(0) if self.is_socket_full || !self.unwritten_bytes.is_empty() => return AfterTurn::Waits,
                Ok(0) => {
                    return self.send_all(sse::HEARTBEAT_LINE).map_or(AfterTurn::Gone, |()| AfterTurn::Waits);
                }
                Err(_) => return AfterTurn::Gone,
                Ok(_) => {}
            }
        }
        // More than any request we take: not a viewer.
        AfterTurn::Gone
    }
}

/// Where the event ends of which `written` bytes into these whole events are a part; `written` itself between two.
fn event_end(events: &[u8], written: usize) -> usize {
    if written == 0 || events[..written].ends_with(b"\n\n") {
        return written;
    }
    // The first of the two newlines may have been written.
    let from = written - 1;
    events[from..].windows(2).position(|pair| pair == b"\n\n").map_or(events.len(), |at| from + at + 2)
}

#[cfg(test)]
mod tests;
