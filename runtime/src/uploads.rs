//! The limit on the bytes of request bodies that a process holds at once, shared by all clients.
//!
//! A client may hold at most as many bytes as it leaves free for others ("dynamic thresholds"): a single client gets
//! half of the room, two clients get a third each, and some room is always left for a new client. So no client ever has
//! to give reserved bytes back, which would be impossible.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::network::rate_limit_address;

/// The largest number of bytes of request bodies that a process holds at once, of complete and of incomplete bodies:
/// 256 MiB.
const MAX_BYTES_HELD: usize = 256 * 1024 * 1024;

/// The room for bytes of request bodies. Cheap to clone: all clones share the room.
#[derive(Debug, Clone)]
pub struct UploadRoom(Arc<Mutex<HeldBytes>>);

#[derive(Debug)]
struct HeldBytes {
    free_bytes: usize,
    /// The bytes of each client that holds any; there are no more entries than connections.
    by_caller: HashMap<IpAddr, usize>,
}

impl Default for UploadRoom {
    fn default() -> Self {
        Self::with_bytes(MAX_BYTES_HELD)
    }
}

impl UploadRoom {
    fn with_bytes(room: usize) -> Self {
        Self(Arc::new(Mutex::new(HeldBytes { free_bytes: room, by_caller: HashMap::new() })))
    }

    /// Begins the body of a request of this client, with no bytes reserved yet.
    pub fn begin_upload(&self, client: IpAddr) -> UploadShare {
        UploadShare { uploads: self.clone(), caller: rate_limit_address(client), bytes: 0 }
    }

    fn held(&self) -> MutexGuard<'_, HeldBytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes that are reserved for the body of one request. The bytes are free again when this value is dropped.
#[derive(Debug)]
pub struct UploadShare {
    uploads: UploadRoom,
    caller: IpAddr,
    bytes: usize,
}

impl UploadShare {
    /// Reserves `bytes` more; returns `false` and reserves nothing if the client would then hold more than is left
    /// free.
    pub fn take_bytes(&mut self, bytes: usize) -> bool {
        let mut held = self.uploads.held();
        let own = held.by_caller.get(&self.caller).copied().unwrap_or(0).saturating_add(bytes);
        let Some(free) = held.free_bytes.checked_sub(bytes).filter(|free| own <= *free) else { return false };
        if bytes > 0 {
            held.free_bytes = free;
            held.by_caller.insert(self.caller, own);
            self.bytes += bytes;
        }
        true
    }
}

impl Drop for UploadShare {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.uploads.held();
        held.free_bytes += self.bytes;
        if let Entry::Occupied(mut own) = held.by_caller.entry(self.caller) {
            *own.get_mut() = own.get().saturating_sub(self.bytes);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_client_s_uploads_leave_room_for_others() {
        let room = UploadRoom::with_bytes(1200);
        let fill = |client: IpAddr| {
            let mut places = Vec::new();
            loop {
                let mut upload = room.begin_upload(client);
                if !upload.take_bytes(10) {
                    return places;
                }
                places.push(upload);
            }
        };
        let hog = fill(caller_address(1));
        assert_eq!(hog.len(), 60, "half of the room, in however many requests");
        let (second, third) = (fill(caller_address(2)), fill(caller_address(3)));
        assert_eq!((second.len(), third.len()), (30, 15), "half of what is left, each");
        drop(hog);
        assert_eq!(fill(caller_address(2)).len(), 22, "one that waited gets its part of what came free");
        drop((second, third));
        let held = room.held();
        assert_eq!(
            (held.free_bytes, held.by_caller.len()),
            (1200, 0),
            "nothing is kept of those who are gone"
        );
    }

    #[test]
    fn an_upload_that_does_not_fit_takes_no_room() {
        let room = UploadRoom::with_bytes(100);
        let mut upload = room.begin_upload(caller_address(1));
        assert!(!upload.take_bytes(51) && !upload.take_bytes(usize::MAX));
        assert!(upload.take_bytes(0) && upload.take_bytes(50) && !upload.take_bytes(1));
        let (v6, same) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let mut other = room.begin_upload(v6);
        assert!(
            other.take_bytes(25) && !room.begin_upload(same).take_bytes(1),
            "a host has a whole network of IPv6"
        );
    }
}
