//! One writing thread: its table of viewers and the loop that writes to them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liverank_runtime::server::ConnectionSlot;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::SockRef;

use super::socket::ViewerSocket;
use super::viewer::{ConnectedViewer, StateAfterTurn};
use super::{JoiningViewer, NOTHING_WAITING_MS, WAKE_TOKEN, WorkerHandle};
use crate::channel::VideoChannel;

/// The number of viewers written to before the thread looks at socket events, its inbox and other channels again: about
/// a millisecond of work.
const MAX_VIEWERS_A_TURN: usize = 256;
/// The size of the kernel's send buffer for a viewer. The kernel's default would let megabytes, all of them late, wait
/// for a slow viewer; this size holds some seconds of the hottest video, and the kernel doubles it for its own
/// bookkeeping.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// The key of a channel in a thread's table: its address in memory, valid while the thread has a viewer of it.
type ChannelKey = usize;

/// The viewers of one channel on this thread.
struct ChannelMembers {
    /// Held so that the channel's address, which is its key, is not used again.
    _channel: Arc<VideoChannel>,
    viewers: Vec<usize>,
    /// The number of the members that the running pass has written to.
    written_member_count: usize,
    /// True if something new came after the running pass began.
    has_news: bool,
    /// True if the channel is in the queue `channels_behind`.
    is_queued: bool,
}

struct ViewerEntry {
    viewer: ConnectedViewer<ViewerSocket>,
    /// The index of the viewer in its channel's list of members.
    member_index: usize,
    /// True if the viewer is in the queue `viewers_with_more`.
    is_queued: bool,
    _connection_slot: ConnectionSlot,
}

/// One writing thread with its table of viewers.
pub struct WritingThread {
    poll: Poll,
    handle: Arc<WorkerHandle>,
    viewers: Slab<ViewerEntry>,
    channel_members: HashMap<ChannelKey, ChannelMembers>,
    /// The queue of channels with something new, each served in turn.
    channels_behind: VecDeque<ChannelKey>,
    /// The queue of viewers for whom there is more to write than one turn permits.
    viewers_with_more: VecDeque<usize>,
    /// A buffer for the members that are written to in one turn, kept so that it is allocated once.
    turn_members: Vec<usize>,
    read_buffer: Vec<u8>,
}

fn channel_key(room: &Arc<VideoChannel>) -> ChannelKey {
    Arc::as_ptr(room).addr()
}

impl WritingThread {
    pub fn new(poll: Poll, handle: Arc<WorkerHandle>) -> Self {
        Self {
            poll,
            handle,
            viewers: Slab::new(),
            channel_members: HashMap::new(),
            channels_behind: VecDeque::new(),
            viewers_with_more: VecDeque::new(),
            turn_members: Vec::with_capacity(MAX_VIEWERS_A_TURN),
            read_buffer: vec![0; 4096],
        }
    }

    /// Serves the thread's viewers until the thread is stopped.
    pub fn run(mut self) {
        let _ended = self.handle.thread_has_ended.clone().drop_guard();
        let mut events = Events::with_capacity(1024);
        while !self.process_inbox() {
            let idle = self.channels_behind.is_empty() && self.viewers_with_more.is_empty();
            self.note_busy(!idle);
            match self.poll.poll(&mut events, (!idle).then_some(Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An error in the call's arguments, which do not change, so a bug. The reader ends with this thread.
                Err(error) => return tracing::error!(%error, "waiting for sockets failed"),
            }
            for event in &events {
                self.handle_socket_event(event);
            }
            self.give_turns_to_lagging();
            self.give_turns_to_next_members();
        }
    }

    fn note_busy(&self, busy: bool) {
        let since = &self.handle.busy_since;
        let was = since.load(Ordering::Relaxed);
        match (busy, was == NOTHING_WAITING_MS) {
            (true, true) => since.store(self.handle.millis_since_start(), Ordering::Relaxed),
            (false, false) => since.store(NOTHING_WAITING_MS, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Reads the inbox. Returns `true` if the thread is to end.
    fn process_inbox(&mut self) -> bool {
        let (joining, news) = {
            let mut inbox = self.handle.inbox();
            if inbox.is_stopped {
                return true;
            }
            (std::mem::take(&mut inbox.joining_viewers), std::mem::take(&mut inbox.channels_with_news))
        };
        for room in news {
            // The bit is cleared before the channel is looked at, so that nothing that comes afterwards is missed.
            room.notified_writer_threads.fetch_and(!self.handle.thread_bit, Ordering::AcqRel);
            if let Some(members) = self.channel_members.get_mut(&channel_key(&room)) {
                members.has_news = true;
                if !std::mem::replace(&mut members.is_queued, true) {
                    self.channels_behind.push_back(channel_key(&room));
                }
            }
        }
        for joining in joining {
            self.admit_viewer(joining);
        }
        false
    }

    fn admit_viewer(&mut self, JoiningViewer { viewer, raw_connection: bare }: JoiningViewer) {
        let _ = SockRef::from(&bare.socket).set_send_buffer_size(SEND_BUFFER_BYTES);
        let mut socket = ViewerSocket::new(bare.socket, bare.tls_state);
        let slot = self.viewers.vacant_entry();
        let number = slot.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(socket.tcp_stream(), Token(number), interest) {
            return tracing::error!(%error, "a viewer's socket cannot be waited for");
        }
        let room = Arc::clone(viewer.channel());
        let members = self.channel_members.entry(channel_key(&room)).or_insert_with(|| ChannelMembers {
            _channel: room,
            viewers: Vec::new(),
            written_member_count: 0,
            has_news: false,
            is_queued: false,
        });
        let at = members.viewers.len();
        members.viewers.push(number);
        slot.insert(ViewerEntry {
            viewer: viewer.with_socket(socket),
            member_index: at,
            is_queued: false,
            _connection_slot: bare.slot,
        });
        // No turn yet: the kernel reports at once that the socket can be written to.
    }

    fn handle_socket_event(&mut self, event: &Event) {
        if event.token() == WAKE_TOKEN {
            return;
        }
        let Token(number) = event.token();
        // The viewer may have left before the event was read; a later viewer with the same number is looked at once too
        // often, which does no harm.
        let Some(entry) = self.viewers.get_mut(number) else { return };
        let mut after = StateAfterTurn::Waits;
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let broken = event.is_error() || event.is_write_closed();
            after = entry.viewer.on_readable(&mut self.read_buffer, broken);
        }
        if event.is_writable() && after != StateAfterTurn::Gone {
            after = entry.viewer.on_writable();
        }
        self.apply_state_after_turn(number, after);
    }

    fn apply_state_after_turn(&mut self, number: usize, after: StateAfterTurn) {
        match after {
            StateAfterTurn::Waits => {}
            StateAfterTurn::HasMore => self.schedule_again(number),
            StateAfterTurn::Gone => self.remove_viewer(number),
        }
    }

    fn schedule_again(&mut self, number: usize) {
        let entry = self.viewers.get_mut(number);
        if entry.is_some_and(|entry| !std::mem::replace(&mut entry.is_queued, true)) {
            self.viewers_with_more.push_back(number);
        }
    }

    fn remove_viewer(&mut self, number: usize) {
        let Some(entry) = self.viewers.try_remove(number) else { return };
        let key = channel_key(entry.viewer.channel());
        let Some(members) = self.channel_members.get_mut(&key) else { return };
        members.viewers.swap_remove(entry.member_index);
        let left = members.viewers.len();
        if left == 0 {
            // Its key may still be in the queue, where it is then skipped.
            self.channel_members.remove(&key);
            return;
        }
        // The last member has moved to the place of the removed one, which the running pass may have left behind.
        let moved = members.viewers.get(entry.member_index).copied();
        let overtaken =
            entry.member_index < members.written_member_count && members.written_member_count <= left;
        members.written_member_count = members.written_member_count.min(left);
        if let Some(moved) = moved {
            self.viewers[moved].member_index = entry.member_index;
            if overtaken {
                self.schedule_again(moved);
            }
        }
    }

    fn give_turn(&mut self, number: usize) {
        if let Some(entry) = self.viewers.get_mut(number) {
            let after = entry.viewer.write_turn();
            self.apply_state_after_turn(number, after);
        }
    }

    /// Gives one turn to each viewer in the queue `viewers_with_more`, to at most `MAX_VIEWERS_A_TURN`.
    fn give_turns_to_lagging(&mut self) {
        for _ in 0..self.viewers_with_more.len().min(MAX_VIEWERS_A_TURN) {
            let Some(number) = self.viewers_with_more.pop_front() else { return };
            if let Some(entry) = self.viewers.get_mut(number) {
                entry.is_queued = false;
                self.give_turn(number);
            }
        }
    }

    /// Gives a turn to the next members of the next channel that has something new.
    fn give_turns_to_next_members(&mut self) {
        let Some(key) = self.channels_behind.pop_front() else { return };
        let Some(members) = self.channel_members.get_mut(&key) else { return };
        if members.written_member_count == 0 {
            members.has_news = false;
        }
        let upto = (members.written_member_count + MAX_VIEWERS_A_TURN).min(members.viewers.len());
        let mut portion = std::mem::take(&mut self.turn_members);
        portion.extend_from_slice(&members.viewers[members.written_member_count..upto]);
        members.written_member_count = upto;
        for number in portion.drain(..) {
            self.give_turn(number);
        }
        self.turn_members = portion;
        let Some(members) = self.channel_members.get_mut(&key) else { return };
        let done = members.written_member_count >= members.viewers.len();
        if done {
            members.written_member_count = 0;
        }
        members.is_queued = !done || members.has_news;
        if members.is_queued {
            self.channels_behind.push_back(key);
        }
    }
}
