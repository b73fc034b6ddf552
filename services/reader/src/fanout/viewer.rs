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

use crate::channel::{Channel, Next};
use crate::entry::StreamFilter;
use crate::hub::ViewerGuard;
use crate::ring::{Cursor, Taken};
use crate::sse::{self, Form};

/// Slices written to one viewer before others have their turn: one who comes back has all it missed in two or three.
const SLICES_A_TURN: usize = 4;
/// Reads of a viewer at once. Viewers have nothing to say; what they do send is thrown away.
const READS_A_TURN: usize = 4;

/// A viewer with a socket `S`, or yet without one.
pub struct Viewer<S> {
    socket: S,
    seat: ViewerGuard,
    cursor: Cursor,
    form: Form,
    /// Who it is, and what it is sent beside comments.
    asked: StreamFilter,
    /// The heartbeats of its room that it has had or had no need of.
    heartbeats: u32,
    /// Whether its socket takes nothing for now.
    full: bool,
    /// Whether it has shut down its sending side.
    said_all: bool,
    /// What its socket has not taken of an event that was begun, or of the head.
    rest: Bytes,
}

/// What is to become of a viewer after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It has all there is, or its socket is full: the room or the kernel will say when it goes on.
    Waits,
    /// There is more for it.
    More,
    /// The viewer has left, or its stream has ended.
    Gone,
}

impl Viewer<()> {
    /// A viewer that is sent `first`, and then what comes after `cursor`.
    pub fn new(seat: ViewerGuard, cursor: Cursor, form: Form, first: Bytes) -> Self {
        let heartbeats = seat.room.heartbeats.load(Ordering::Relaxed);
        let asked = StreamFilter::default();
        Self { socket: (), seat, cursor, form, asked, heartbeats, full: false, said_all: false, rest: first }
    }

    /// The same viewer, who asked for these events beside comments.
    #[must_use]
    pub fn asking(self, asked: impl Into<StreamFilter>) -> Self {
        Self { asked: asked.into(), ..self }
    }

    /// Gives the viewer its socket.
    pub fn on<S>(self, socket: S) -> Viewer<S> {
        let Self { socket: (), seat, cursor, form, asked, heartbeats, full, said_all, rest } = self;
        Viewer { socket, seat, cursor, form, asked, heartbeats, full, said_all, rest }
    }
}

impl<S> Viewer<S> {
    /// Its room.
    pub const fn room(&self) -> &Arc<Channel> {
        &self.seat.room
    }

    /// Its socket.
    pub const fn socket(&mut self) -> &mut S {
        &mut self.socket
    }
}

impl<S: Read + Write> Viewer<S> {
    /// Its socket takes something again: first what waits in the socket itself.
    pub fn writable(&mut self) -> After {
        match self.socket.flush() {
            Ok(()) => {
                self.full = false;
                self.turn()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.full = true;
                After::Waits
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => After::More,
            Err(_) => After::Gone,
        }
    }

    /// Writes what there is for it, as far as the socket takes it and others need not wait too long.
    pub fn turn(&mut self) -> After {
        self.try_turn().unwrap_or(After::Gone)
    }

    fn try_turn(&mut self) -> io::Result<After> {
        if self.full {
            return Ok(After::Waits);
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.send_all(rest)?;
        }
        for _ in 0..SLICES_A_TURN {
            if self.full {
                return Ok(After::Waits);
            }
            match self.seat.room.next(&mut self.cursor, self.asked) {
                Next::Send(Taken::Events { bytes, count }) => self.send_events(&bytes, count)?,
                Next::Send(Taken::Gap { numbering, from, to }) => {
                    self.seat.hub().metrics.gaps.inc();
                    self.send_all(sse::gap_event(self.form, &numbering, from, to))?;
                }
                Next::End => return Ok(After::Gone),
                Next::Send(Taken::Nothing) | Next::Wait => return self.send_heartbeat(),
            }
        }
        Ok(After::More)
    }

    /// What is due to one who has all comments: a heartbeat, and the number of viewers.
    fn send_heartbeat(&mut self) -> io::Result<After> {
        let due = self.seat.room.heartbeats.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.heartbeats, due) != due {
            self.send_all(sse::HEARTBEAT)?;
        }
        // Where the socket is full, the number waits, and a later one takes its place.
        if let (true, Some(had)) = (self.rest.is_empty() && !self.full, &mut self.seat.count_had)
            && let Some(event) = self.seat.room.count.news(had)
        {
            self.send_all(event)?;
        }
        Ok(After::Waits)
    }

    /// Writes `count` whole events; what the socket does not take of them, but for the one it stopped in, stays in the
    /// ring.
    fn send_events(&mut self, events: &[u8], count: u64) -> io::Result<()> {
        let written = self.write_some(events)?;
        let begun = event_end(events, written);
        let left = events[begun..].windows(2).filter(|pair| pair == b"\n\n").count() as u64;
        self.cursor.back(left);
        self.rest = Bytes::copy_from_slice(&events[written..begun]);
        if !canary::is(&self.seat.room.video) {
            self.seat.hub().metrics.messages.inc_by(count - left);
        }
        Ok(())
    }

    /// Writes all of this, sooner or later.
    fn send_all(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let written = self.write_some(&bytes)?;
        self.rest = bytes.split_off(written);
        Ok(())
    }

    /// Writes what the socket takes; returns how much that is.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() && !self.full {
            match self.socket.write(&bytes[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let metrics = &self.seat.hub().metrics;
        metrics.bytes.inc_by(written as u64);
        metrics.socket_writes.inc();
        Ok(written)
    }

    /// Looks whether it has left; `broken`: the kernel says that the connection is.
    ///
    /// Who has shut down its sending side is gone, or has nothing more to say and reads on. It is sent a heartbeat: where
    /// nobody is left to take it, the kernel learns that, and says so.
    pub fn readable(&mut self, scratch: &mut [u8], broken: bool) -> After {
        for _ in 0..READS_A_TURN {
            match self.socket.read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return After::Waits,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) if broken => return After::Gone,
                Ok(0) if std::mem::replace(&mut self.said_all, true) => return After::Waits,
                Ok(0) if self.full || !self.rest.is_empty() => return After::Waits,
                Ok(0) => return self.send_all(sse::HEARTBEAT).map_or(After::Gone, |()| After::Waits),
                Err(_) => return After::Gone,
                Ok(_) => {}
            }
        }
        // More than any request we take: not a viewer.
        After::Gone
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
