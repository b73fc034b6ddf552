//! A bounded channel to one receiver that the sender never waits for: an item that finds the channel full is dropped,
//! and the receiver is told of the loss as soon as there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc};

/// The sending side of a lossy channel: one for each receiver.
pub(crate) struct LossyChannel<T> {
    sender: mpsc::Sender<T>,
    loss: Arc<LossFlag>,
}

struct LossFlag {
    /// True if an item was dropped and the receiver has not been told so yet.
    is_unreported: AtomicBool,
    wake: Notify,
}

impl<T: Clone + Send + 'static> LossyChannel<T> {
    /// Opens a channel that holds up to `bound` items; the item `reset` tells its receiver of a loss. The call needs a
    /// running tokio runtime.
    pub(crate) fn bounded(bound: usize, reset: T) -> (Arc<Self>, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(bound);
        let loss = Arc::new(LossFlag { is_unreported: AtomicBool::new(false), wake: Notify::new() });
        tokio::spawn(report_losses(sender.downgrade(), Arc::clone(&loss), reset));
        (Arc::new(Self { sender, loss }), receiver)
    }

    /// Sends an item to the receiver, or marks the item as lost if the channel is full. Never blocks.
    pub(crate) fn send_or_mark_lost(&self, item: T) {
        // While a loss is to be reported, the report covers this item, too.
        if self.loss.is_unreported.load(Ordering::SeqCst) {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(item) {
            self.note_loss();
        }
    }

    /// Marks that an item was or may have been lost: the receiver gets the reset item.
    pub(crate) fn note_loss(&self) {
        self.loss.is_unreported.store(true, Ordering::SeqCst);
        self.loss.wake.notify_one();
    }

    /// Returns true if the receiver was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the receiver is dropped.
    pub(crate) async fn wait_until_closed(&self) {
        self.sender.closed().await;
    }
}

impl<T> Drop for LossyChannel<T> {
    fn drop(&mut self) {
        self.loss.wake.notify_one();
    }
}

/// Sends the reset item to the receiver after each loss, until the sending side or the receiver is dropped.
async fn report_losses<T: Clone>(sender: mpsc::WeakSender<T>, loss: Arc<LossFlag>, reset: T) {
    loop {
        loss.wake.notified().await;
        // Held only while there is a loss to report, so that the channel ends with its sending side.
        let Some(sender) = sender.upgrade() else { return };
        if !loss.is_unreported.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(room) = sender.reserve().await else { return };
        // In this order: items dropped before the flag is cleared come before the reset item; later items are sent.
        loss.is_unreported.store(false, Ordering::SeqCst);
        room.send(reset.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET_ITEM: u32 = 0;

    #[tokio::test]
    async fn every_item_arrives_while_the_channel_has_room() {
        let (outlet, mut receiver) = LossyChannel::bounded(3, RESET_ITEM);
        (1..=3).for_each(|item| outlet.send_or_mark_lost(item));
        drop(outlet);
        let mut heard = Vec::new();
        while let Some(item) = receiver.recv().await {
            heard.push(item);
        }
        assert_eq!(heard, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_loss_is_reported_when_there_is_room_and_delivery_continues() {
        let (outlet, mut receiver) = LossyChannel::bounded(2, RESET_ITEM);
        (1..=5).for_each(|item| outlet.send_or_mark_lost(item));
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.recv().await, Some(RESET_ITEM));
        outlet.send_or_mark_lost(6);
        assert_eq!(receiver.recv().await, Some(6));
    }

    #[tokio::test]
    async fn the_receiver_ends_with_its_channel_also_after_a_loss() {
        let (outlet, mut receiver) = LossyChannel::bounded(1, RESET_ITEM);
        outlet.note_loss();
        assert_eq!(receiver.recv().await, Some(RESET_ITEM));
        drop(outlet);
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn a_dropped_receiver_closes_the_channel() {
        let (outlet, receiver) = LossyChannel::bounded(1, RESET_ITEM);
        assert!(!outlet.is_closed());
        drop(receiver);
        outlet.wait_until_closed().await;
        assert!(outlet.is_closed());
        outlet.send_or_mark_lost(1);
    }
}
