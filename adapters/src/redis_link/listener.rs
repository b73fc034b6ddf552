//! A subscription to channels of Redis on a connection of its own: it reconnects, subscribes again, and reports the
//! loss.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::node::{LiveConnection, Node};
use super::{PART_NAME, RedisLink, RedisServers, backoff};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;

mod shards;

use shards::ShardedSubscription;

/// The number of channels in one command: the command waits for a confirmation of each channel, and all of them come
/// well within the response timeout.
const CHANNELS_A_COMMAND: usize = 500;
/// The number of requests that wait for the connection in a queue; further callers wait for room.
const MAX_REQUESTS_QUEUED: usize = 1024;
/// The interval of pings: an idle subscription gets no messages, and a ping notices that a Redis has stopped.
const PING_EVERY: Duration = Duration::from_secs(5);
/// The time for which a caller waits for a confirmation: the time limit of an answer, and a second for a reconnect.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

enum SubscriptionOp {
    Subscribe,
    Unsubscribe,
}

/// The sender of the result of a caller's request.
type SubscriptionAnswer = oneshot::Sender<Result<(), StoreError>>;

struct SubscriptionRequest {
    operation: SubscriptionOp,
    channel: String,
    answer_sender: SubscriptionAnswer,
}

/// Subscribes to channels and unsubscribes from them. Dropping it ends the whole subscription.
pub(crate) struct Listener {
    requests: mpsc::Sender<SubscriptionRequest>,
    _stop: DropGuard,
}

impl Listener {
    /// Subscribes to `channel`: messages published after this call has returned are delivered.
    pub(crate) async fn subscribe(&self, channel: String) -> Result<(), StoreError> {
        self.request_and_wait(SubscriptionOp::Subscribe, channel).await
    }

    /// Unsubscribes from `channel`.
    pub(crate) async fn unsubscribe(&self, channel: String) -> Result<(), StoreError> {
        self.request_and_wait(SubscriptionOp::Unsubscribe, channel).await
    }

    async fn request_and_wait(&self, operation: SubscriptionOp, channel: String) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let gone = || StoreError::unavailable(PART_NAME, "the subscription has ended");
            self.requests
                .send(SubscriptionRequest { operation, channel, answer_sender: answer })
                .await
                .map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| {
            let reason = format!("subscription not confirmed within {} ms", ANSWER_TIMEOUT.as_millis());
            Err(StoreError::unavailable(PART_NAME, reason))
        })
    }
}

impl RedisLink {
    /// Starts a subscription that delivers messages into `outlet`, for the channels that the returned listener
    /// subscribes to, until the listener or the outlet's receiver is dropped. A message that `decode` does not
    /// understand is reported as a loss.
    pub(crate) fn start_subscription<T: Clone + Send + 'static>(
        self: &Arc<Self>,
        outlet: Arc<LossyChannel<T>>,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Listener {
        let (requests, received) = mpsc::channel(MAX_REQUESTS_QUEUED);
        let stop = CancellationToken::new();
        self.run_subscription(outlet, decode, BTreeSet::new(), received, stop.clone());
        Listener { requests, _stop: stop.drop_guard() }
    }

    /// Subscribes to one channel and delivers its messages into `outlet` until the outlet's receiver is dropped. A
    /// loss is reported whenever the subscription begins, the first time included.
    pub(crate) fn listen_to_channel<T: Clone + Send + 'static>(
        self: &Arc<Self>,
        channel: String,
        outlet: Arc<LossyChannel<T>>,
        decode: fn(&[u8]) -> Option<T>,
    ) {
        let (_, requests) = mpsc::channel(1);
        self.run_subscription(outlet, decode, BTreeSet::from([channel]), requests, CancellationToken::new());
    }

    fn run_subscription<T: Clone + Send + 'static>(
        &self,
        delivery_channel: Arc<LossyChannel<T>>,
        decode: fn(&[u8]) -> Option<T>,
        wanted: BTreeSet<String>,
        requests: mpsc::Receiver<SubscriptionRequest>,
        stop: CancellationToken,
    ) {
        match &self.servers {
            RedisServers::Single(node) => {
                let pump = SubscriptionTask {
                    node: Arc::clone(node),
                    delivery_channel,
                    decode,
                    wanted_channels: wanted,
                    requests,
                };
                tokio::spawn(pump.run(stop));
            }
            RedisServers::Cluster(cluster) => {
                tokio::spawn(
                    ShardedSubscription::new(Arc::clone(cluster), delivery_channel, decode, wanted, requests)
                        .run(stop),
                );
            }
        }
    }
}

/// The task of a subscription on a single Redis.
struct SubscriptionTask<T> {
    node: Arc<Node>,
    delivery_channel: Arc<LossyChannel<T>>,
    decode: fn(&[u8]) -> Option<T>,
    wanted_channels: BTreeSet<String>,
    requests: mpsc::Receiver<SubscriptionRequest>,
}

impl<T: Clone + Send + 'static> SubscriptionTask<T> {
    async fn run(mut self, stop: CancellationToken) {
        let outlet = Arc::clone(&self.delivery_channel);
        let mut failures = 0;
        loop {
            let error = tokio::select! {
                () = stop.cancelled() => return,
                () = outlet.wait_until_closed() => return,
                error = self.serve_connection(&mut failures) => error,
            };
            failures += 1;
            if failures == 1 {
                tracing::warn!(%error, channels = self.wanted_channels.len(), "subscription to redis lost");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = outlet.wait_until_closed() => return,
                () = tokio::time::sleep(backoff(failures)) => {}
            }
        }
    }

    /// Serves one connection until it fails, and returns the error.
    async fn serve_connection(&mut self, failures: &mut u32) -> RedisError {
        let (outlet, decode) = (Arc::clone(&self.delivery_channel), self.decode);
        let hear = move |push: &PushInfo| {
            if push.kind == PushKind::Message {
                offer_published(push, &outlet, decode);
            }
        };
        let mut live = match self.node.open(hear).await {
            Ok(live) => live,
            Err(error) => return error,
        };
        if let Err(error) = self.resubscribe(&mut live).await {
            return error;
        }
        if std::mem::take(failures) > 0 {
            tracing::info!(channels = self.wanted_channels.len(), "subscription to redis stands again");
        }
        self.serve_requests(&mut live).await
    }

    /// Subscribes to all wanted channels, and only then reports the loss: a receiver that then reads the current state
    /// gets every later message.
    async fn resubscribe(&mut self, live: &mut LiveConnection) -> Result<(), RedisError> {
        let wanted: Vec<&String> = self.wanted_channels.iter().collect();
        for chunk in wanted.chunks(CHANNELS_A_COMMAND) {
            live.connection.subscribe(chunk).await?;
        }
        if !wanted.is_empty() {
            self.delivery_channel.note_loss();
        }
        Ok(())
    }

    async fn serve_requests(&mut self, live: &mut LiveConnection) -> RedisError {
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = live.end_token.clone();
        loop {
            let result = tokio::select! {
                () = ended.cancelled() => {
                    let reset = std::io::ErrorKind::ConnectionReset;
                    return std::io::Error::new(reset, "the connection was closed").into();
                }
                Some(first) = self.requests.recv() => self.execute_requests(first, live).await,
                _ = ping.tick() => redis::cmd("PING").exec_async(&mut live.connection).await,
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Carries out a request in one round trip, together with the requests behind it that have the same operation.
    async fn execute_requests(
        &mut self,
        first: SubscriptionRequest,
        live: &mut LiveConnection,
    ) -> Result<(), RedisError> {
        let mut next = Some(first);
        while let Some(request) = next.take() {
            let wish = request.operation;
            let mut same = vec![(request.channel, request.answer_sender)];
            while same.len() < CHANNELS_A_COMMAND
                && let Ok(request) = self.requests.try_recv()
            {
                if std::mem::discriminant(&request.operation) != std::mem::discriminant(&wish) {
                    next = Some(request);
                    break;
                }
                same.push((request.channel, request.answer_sender));
            }
            self.send_requests(&wish, same, live).await?;
        }
        Ok(())
    }

    async fn send_requests(
        &mut self,
        wish: &SubscriptionOp,
        mut same: Vec<(String, SubscriptionAnswer)>,
        live: &mut LiveConnection,
    ) -> Result<(), RedisError> {
        let result = match wish {
            SubscriptionOp::Subscribe => {
                // Callers that wait no longer were told that the request failed.
                same.retain(|(_, answer)| !answer.is_closed());
                let channels: BTreeSet<&String> = same.iter().map(|(channel, _)| channel).collect();
                let channels: Vec<&String> = channels.into_iter().collect();
                if channels.is_empty() { Ok(()) } else { live.connection.subscribe(&channels).await }
            }
            SubscriptionOp::Unsubscribe => {
                let channels: BTreeSet<&String> = same.iter().map(|(channel, _)| channel).collect();
                for channel in &channels {
                    self.wanted_channels.remove(*channel);
                }
                live.connection.unsubscribe(&channels.into_iter().collect::<Vec<_>>()).await
            }
        };
        for (channel, answer) in same {
            let told = answer.send(result.clone().map_err(super::store_error));
            if matches!(wish, SubscriptionOp::Subscribe) && told.is_ok() && result.is_ok() {
                self.wanted_channels.insert(channel);
            }
        }
        result
    }
}

/// Sends a published message to the receiver of the subscription; reports a loss instead if the message cannot be
/// decoded.
fn offer_published<T: Clone + Send + 'static>(
    push: &PushInfo,
    outlet: &LossyChannel<T>,
    decode: fn(&[u8]) -> Option<T>,
) {
    let payload = match push.data.as_slice() {
        [Value::BulkString(_), Value::BulkString(payload)] => Some(payload),
        _ => None,
    };
    match payload.and_then(|payload| decode(payload)) {
        Some(item) => outlet.send_or_mark_lost(item),
        None => outlet.note_loss(),
    }
}
