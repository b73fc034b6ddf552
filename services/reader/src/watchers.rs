//! The tasks that write to a room's viewers, to be woken when there is something to write.
//!
//! A waker is registered once and stays: waking all of them is one walk, and a woken task takes no lock to wait again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// A viewer's place among the watchers.
#[derive(Debug)]
pub struct Key(usize);

#[derive(Debug, Default)]
struct Slot {
    ticket: u16,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Slots>);

impl Watchers {
    /// A place for a viewer. `ticket` is its lot when a part of the viewers is woken.
    pub fn enter(&self, ticket: u16) -> Key {
        let mut slots = self.lock();
        let slot = Slot { ticket, waker: None };
        if let Some(at) = slots.free.pop() {
            slots.slots[at] = slot;
            return Key(at);
        }
        slots.slots.push(slot);
        Key(slots.slots.len() - 1)
    }

    /// From now on, wakes `waker` for the viewer.
    pub fn park(&self, key: &Key, waker: &Waker) {
        self.lock().slots[key.0].waker = Some(waker.clone());
    }

    /// Gives a place back.
    pub fn leave(&self, key: &Key) {
        let mut slots = self.lock();
        slots.slots[key.0] = Slot::default();
        slots.free.push(key.0);
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    /// Wakes those whose tickets are among `wanted`.
    pub fn wake_where(&self, wanted: impl Fn(u16) -> bool) {
        // Waking a task only queues it: nothing of a viewer's runs under this lock.
        for slot in &self.lock().slots {
            if let Some(waker) = slot.waker.as_ref().filter(|_| wanted(slot.ticket)) {
                waker.wake_by_ref();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn woken(count: &Arc<Count>) -> usize {
        count.0.swap(0, Ordering::SeqCst)
    }

    #[test]
    fn a_waker_stays_until_its_viewer_leaves_and_its_place_is_used_again() {
        let (watchers, one, other) = (Watchers::default(), Arc::<Count>::default(), Arc::<Count>::default());
        let key = watchers.enter(0);
        watchers.park(&key, &one.clone().into());
        watchers.wake_all();
        watchers.wake_all();
        assert_eq!(woken(&one), 2);
        watchers.leave(&key);
        let key = watchers.enter(0);
        watchers.wake_all();
        assert_eq!(woken(&one), 0);
        watchers.park(&key, &other.clone().into());
        watchers.wake_all();
        assert_eq!((woken(&one), woken(&other)), (0, 1));
        assert_eq!(watchers.lock().slots.len(), 1);
    }

    #[test]
    fn a_part_is_woken_by_ticket() {
        let (watchers, count) = (Watchers::default(), Arc::<Count>::default());
        for ticket in 0..10 {
            let key = watchers.enter(ticket);
            watchers.park(&key, &count.clone().into());
        }
        watchers.wake_where(|ticket| ticket < 3);
        assert_eq!(woken(&count), 3);
    }
}
