//! A viewer's stream as an HTTP body: pulls what comes next from its room whenever its socket has room.
//!
//! Nothing is queued for a viewer: it holds a cursor and a place among the watchers. Who does not read is not polled,
//! costs no more than what its socket holds, and finds itself moved forward by a gap when it reads again; who takes
//! nothing at all is closed by the kernel ([`liverank_shell::server::PEER_TIMEOUT`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::hub::Seat;
use crate::ring::{Cursor, Taken};
use crate::room::Next;
use crate::sse::{self, Form};

/// See the module.
pub struct ViewerStream {
    seat: Seat,
    cursor: Cursor,
    form: Form,
    greeting: Option<Bytes>,
    heartbeats: u32,
    parked: Option<Waker>,
}

impl ViewerStream {
    /// A stream that sends `greeting`, and then what comes after `cursor`.
    pub fn new(seat: Seat, cursor: Cursor, form: Form, greeting: Bytes) -> Self {
        let heartbeats = seat.room.heartbeats.load(Ordering::Relaxed);
        Self { seat, cursor, form, greeting: Some(greeting), heartbeats, parked: None }
    }

    /// Sees to it that the task that polls is woken when there is something new.
    fn park(&mut self, waker: &Waker) {
        if self.parked.as_ref().is_none_or(|parked| !parked.will_wake(waker)) {
            self.seat.room.watchers.park(&self.seat.key, waker);
            self.parked = Some(waker.clone());
        }
    }

    fn encoded(&self, taken: Taken) -> Bytes {
        let metrics = &self.seat.hub().metrics;
        match taken {
            Taken::Nothing => Bytes::new(),
            Taken::Events { bytes, count } => {
                metrics.messages.inc_by(count);
                bytes
            }
            Taken::Gap { numbering, from, to } => {
                metrics.gaps.inc();
                sse::gap(self.form, &numbering, from, to)
            }
        }
    }

    fn next(&mut self, waker: &Waker) -> Poll<Option<Bytes>> {
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(greeting));
        }
        // Before looking, so that nothing is shown in between without a wake.
        self.park(waker);
        match self.seat.room.next(&mut self.cursor, self.seat.lot) {
            Next::Send(taken) => Poll::Ready(Some(self.encoded(taken))),
            Next::End => Poll::Ready(None),
            Next::Wait => {
                let due = self.seat.room.heartbeats.load(Ordering::Relaxed);
                if std::mem::replace(&mut self.heartbeats, due) == due {
                    Poll::Pending
                } else {
                    Poll::Ready(Some(sse::HEARTBEAT))
                }
            }
        }
    }
}

impl Body for ViewerStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.next(context.waker()).map(|next| {
            next.map(|bytes| {
                let metrics = &this.seat.hub().metrics;
                metrics.bytes.inc_by(bytes.len() as u64);
                metrics.slices.inc();
                Ok(Frame::data(bytes))
            })
        })
    }
}
