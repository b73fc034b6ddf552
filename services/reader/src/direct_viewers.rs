//! Viewers who connect to this reader directly, by their addresses: while the reader has room, everybody gets in; when
//! it is full, each address has a fair share, and so no host can hold all of a reader's places.
//!
//! A viewer who comes by a gateway, as the gateway's pass shows, has no share here: the gateway stands for many
//! viewers, and has judged the addresses of its own clients.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use liverank_runtime::network::rate_limit_address;
use liverank_runtime::shares::FairShares;

use crate::channel::VideoChannel;

/// The places of all viewers that are connected without a gateway, shared out among the viewers' addresses. Cheap to
/// clone: all clones share the same places.
#[derive(Clone)]
pub struct DirectViewers(Arc<Mutex<FairShares<IpAddr, Arc<DirectViewer>>>>);

/// A viewer that is connected without a gateway, as other tasks see it.
#[derive(Default)]
pub struct DirectViewer {
    /// True if the viewer's stream is to end, to make room for a viewer of another address.
    is_sent_away: AtomicBool,
    /// The channel of the viewer, once it has one.
    channel: OnceLock<Arc<VideoChannel>>,
}

impl DirectViewer {
    /// Asks the viewer to leave. Returns the viewer's channel, whose writing threads have to be notified; `None` if the
    /// viewer has no channel yet, and so will leave without a notification.
    pub fn send_away(&self) -> Option<&Arc<VideoChannel>> {
        self.is_sent_away.store(true, Ordering::Release);
        self.channel.get()
    }
}

/// The place of a direct viewer, which is free again when this is dropped.
pub struct DirectPlace {
    places: DirectViewers,
    viewer_address: IpAddr,
    place_number: u64,
    viewer: Arc<DirectViewer>,
}

impl DirectPlace {
    /// Returns true if the viewer's stream is to end.
    pub fn is_sent_away(&self) -> bool {
        self.viewer.is_sent_away.load(Ordering::Acquire)
    }

    /// Notes the channel of the viewer.
    pub fn note_channel(&self, channel: &Arc<VideoChannel>) {
        // A viewer has one channel, so this is set once.
        let _ = self.viewer.channel.set(Arc::clone(channel));
    }
}

impl Drop for DirectPlace {
    fn drop(&mut self) {
        self.places.lock_shares().free_place(&self.viewer_address, self.place_number);
    }
}

impl Default for DirectViewers {
    fn default() -> Self {
        // The reader counts all its viewers; here only direct ones are shared out.
        Self(Arc::new(Mutex::new(FairShares::new(usize::MAX, usize::MAX))))
    }
}

impl DirectViewers {
    /// Gives a place to a viewer of `address`. If the reader `is_full`, another viewer has to leave, which is returned
    /// too: one of the address with the most viewers. `None` if this address has its share already.
    pub fn admit(&self, address: IpAddr, is_full: bool) -> Option<(DirectPlace, Option<Arc<DirectViewer>>)> {
        let (viewer_address, viewer) = (rate_limit_address(address), Arc::new(DirectViewer::default()));
        let given = {
            let mut shares = self.lock_shares();
            if is_full {
                shares.displace_largest_holder(viewer_address, Arc::clone(&viewer))?
            } else {
                shares.give_place(viewer_address, Arc::clone(&viewer))?
            }
        };
        let place =
            DirectPlace { places: self.clone(), viewer_address, place_number: given.place_number, viewer };
        Some((place, given.displaced_value))
    }

    /// Returns the direct viewer that has to leave a full reader to make room for a viewer of a gateway: a viewer of
    /// the address with the most direct viewers, if that address has more than one.
    pub fn displace_for_gateway(&self) -> Option<Arc<DirectViewer>> {
        self.lock_shares().take_place_from_largest_holder(1)
    }

    fn lock_shares(&self) -> MutexGuard<'_, FairShares<IpAddr, Arc<DirectViewer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn when_full_viewers_leave_the_address_that_has_most_until_each_has_as_many() {
        let viewers = DirectViewers::default();
        let hog: Vec<DirectPlace> = (0..6).map(|_| viewers.admit(host(1), false).unwrap().0).collect();
        assert!(viewers.admit(host(1), true).is_none(), "it would only take from itself");
        let guests: Vec<_> = std::iter::from_fn(|| viewers.admit(host(2), true)).collect();
        assert_eq!(guests.len(), 3, "as many as the other has left");
        assert!(guests.iter().all(|(_, displaced)| displaced.is_some()));
        for (_, displaced) in &guests {
            assert!(displaced.as_ref().unwrap().send_away().is_none(), "none of these has a channel");
        }
        assert_eq!(hog.iter().filter(|place| place.is_sent_away()).count(), 3);
        drop((hog, guests));
        assert!(viewers.displace_for_gateway().is_none(), "nothing is kept of those who are gone");
    }

    #[test]
    fn a_gateway_s_viewer_takes_the_place_of_a_direct_one_but_never_of_an_address_s_only_one() {
        let viewers = DirectViewers::default();
        let _places = [host(1), host(1), host(2)].map(|address| viewers.admit(address, false).unwrap().0);
        assert!(viewers.displace_for_gateway().is_some());
        assert!(viewers.displace_for_gateway().is_none());
    }
}
