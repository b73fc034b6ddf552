//! A subscription to sharded channels of a Redis Cluster: a connection to each node that holds some of them.
//!
//! A channel is subscribed to on the node that holds its slot. If the slot moves, the node ends the subscription and
//! says so; if a node goes away, its channels wait until another node holds their slots. In either case the channel is
//! subscribed to on its new node, and the loss is reported. Nodes do not wait for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use redis::cluster_routing::Slot;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{CHANNELS_A_COMMAND, PING_EVERY, SubscriptionAnswer, SubscriptionOp, SubscriptionRequest};
use crate::lossy_channel::LossyChannel;
use crate::redis_link::cluster::Cluster;
use crate::redis_link::node::LiveConnection;
use crate::redis_link::slots::Address;
use crate::redis_link::{backoff, is_permanent, store_error};

mod branch;

use branch::{ConnectionSignals, ConnectionState, NodeConnection, NodeJob};

/// A channel that a caller wants to subscribe to, or has subscribed to.
struct WantedChannel {
    slot: Slot,
    subscription_site: SubscriptionSite,
    /// True if the caller was told that the subscription is active: then it is renewed whatever happens.
    is_confirmed: bool,
    pending_answers: Vec<SubscriptionAnswer>,
}

impl WantedChannel {
    fn new(name: &str, kept: bool) -> Self {
        Self {
            slot: Slot::for_key(name),
            subscription_site: SubscriptionSite::Nowhere,
            is_confirmed: kept,
            pending_answers: Vec::new(),
        }
    }

    /// Returns true if a caller has this channel's subscription or still waits for it; a caller that stopped waiting
    /// was told that its request failed.
    fn is_wanted(&self) -> bool {
        self.is_confirmed || self.pending_answers.iter().any(|answer| !answer.is_closed())
    }
}

#[derive(Clone, PartialEq, Eq)]
enum SubscriptionSite {
    Nowhere,
    /// The subscription was requested from this node.
    RequestedFrom(Address),
    /// This node delivers the channel.
    DeliveredBy(Address),
}

enum ShardEvent {
    SlotsRead(Result<(), RedisError>),
    RequestAnswered {
        address: Address,
        job: NodeJob,
        result: Result<(LiveConnection, Vec<Value>), RedisError>,
    },
}

/// A subscription to sharded channels, over one connection a node.
pub(super) struct ShardedSubscription<T> {
    cluster: Arc<Cluster>,
    delivery_channel: Arc<LossyChannel<T>>,
    decode: fn(&[u8]) -> Option<T>,
    requests: mpsc::Receiver<SubscriptionRequest>,
    channels: HashMap<String, WantedChannel>,
    /// The channels that no node delivers and that were requested from none.
    channels_to_subscribe: BTreeSet<String>,
    connections: BTreeMap<Address, NodeConnection>,
    running_jobs: FuturesUnordered<BoxFuture<'static, ShardEvent>>,
    signals: Arc<ConnectionSignals>,
    /// True if the slots' owners have to be read again.
    slots_are_stale: bool,
    /// True while the slots' owners are being read.
    is_reading_slots: bool,
    slot_read_failures: u32,
    next_slot_read_at: Instant,
}

impl<T: Clone + Send + 'static> ShardedSubscription<T> {
    /// Returns a subscription that delivers the messages of `wanted`, and of requested channels, into
    /// `delivery_channel`.
    pub(super) fn new(
        cluster: Arc<Cluster>,
        delivery_channel: Arc<LossyChannel<T>>,
        decode: fn(&[u8]) -> Option<T>,
        wanted: BTreeSet<String>,
        requests: mpsc::Receiver<SubscriptionRequest>,
    ) -> Self {
        Self {
            channels: wanted.iter().map(|name| (name.clone(), WantedChannel::new(name, true))).collect(),
            channels_to_subscribe: wanted,
            slots_are_stale: cluster.slots().version == 0,
            cluster,
            delivery_channel,
            decode,
            requests,
            connections: BTreeMap::new(),
            running_jobs: FuturesUnordered::new(),
            signals: Arc::default(),
            is_reading_slots: false,
            slot_read_failures: 0,
            next_slot_read_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let outlet = Arc::clone(&self.delivery_channel);
        let signals = Arc::clone(&self.signals);
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_due_jobs();
            let next = self.next_attempt();
            tokio::select! {
                () = stop.cancelled() => return,
                () = outlet.wait_until_closed() => return,
                Some(done) = self.running_jobs.next() => {
                    // Signals that came before the answer are handled before it.
                    self.handle_signals();
                    self.handle_event(done);
                    self.handle_signals();
                }
                () = signals.wake.notified() => self.handle_signals(),
                Some(first) = self.requests.recv() => self.accept_requests(first),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                _ = ping.tick() => self.check_connections(),
            }
        }
    }

    /// Returns the time of the next attempt after a failure; `None` if there was none.
    fn next_attempt(&self) -> Option<Instant> {
        if self.slots_are_stale && !self.is_reading_slots {
            return Some(self.next_slot_read_at);
        }
        let now = Instant::now();
        self.connections.values().filter_map(|branch| branch.retry_at(now)).min()
    }

    /// Takes the waiting requests, so that those for one node are sent to it together.
    fn accept_requests(&mut self, first: SubscriptionRequest) {
        self.accept_request(first);
        for _ in 1..CHANNELS_A_COMMAND {
            let Ok(request) = self.requests.try_recv() else { return };
            self.accept_request(request);
        }
    }

    fn accept_request(
        &mut self,
        SubscriptionRequest { operation, channel: name, answer_sender: answer }: SubscriptionRequest,
    ) {
        match operation {
            SubscriptionOp::Subscribe => {
                let channel =
                    self.channels.entry(name.clone()).or_insert_with(|| WantedChannel::new(&name, false));
                match channel.subscription_site {
                    SubscriptionSite::DeliveredBy(_) => channel.is_confirmed |= answer.send(Ok(())).is_ok(),
                    SubscriptionSite::RequestedFrom(_) => channel.pending_answers.push(answer),
                    SubscriptionSite::Nowhere => {
                        channel.pending_answers.push(answer);
                        self.channels_to_subscribe.insert(name);
                    }
                }
            }
            SubscriptionOp::Unsubscribe => {
                self.channels_to_subscribe.remove(&name);
                match self.channels.remove(&name).map(|channel| channel.subscription_site) {
                    Some(
                        SubscriptionSite::DeliveredBy(address) | SubscriptionSite::RequestedFrom(address),
                    ) => {
                        self.request_unsubscribe(&address, name, Some(answer));
                    }
                    // No node delivers the channel, as was requested.
                    _ => drop(answer.send(Ok(()))),
                }
            }
        }
    }

    fn request_unsubscribe(&mut self, address: &Address, name: String, answer: Option<SubscriptionAnswer>) {
        match self.connections.get_mut(address) {
            Some(branch) => branch.channels_to_leave.entry(name).or_default().extend(answer),
            None => answer.into_iter().for_each(|answer| drop(answer.send(Ok(())))),
        }
    }

    /// Handles the signals of connections: channels that moved away, connections that ended.
    fn handle_signals(&mut self) {
        for (address, name) in self.signals.take_lost_channels() {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            if matches!(&channel.subscription_site, SubscriptionSite::DeliveredBy(at) | SubscriptionSite::RequestedFrom(at) if *at == address)
            {
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.channels_to_subscribe.insert(name);
                self.slots_are_stale = true;
            }
        }
        let ended = self.connections.iter().filter(|(_, branch)| branch.has_ended());
        let ended: Vec<Address> = ended.map(|(address, _)| address.clone()).collect();
        for address in ended {
            let reset = std::io::ErrorKind::ConnectionReset;
            self.lose_connection(&address, &std::io::Error::new(reset, "the connection was closed").into());
        }
    }

    /// Gives up a connection: no node delivers its channels any more.
    fn lose_connection(&mut self, address: &Address, error: &RedisError) {
        for (name, channel) in &mut self.channels {
            if matches!(&channel.subscription_site, SubscriptionSite::DeliveredBy(at) | SubscriptionSite::RequestedFrom(at) if at == address)
            {
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.channels_to_subscribe.insert(name.clone());
            }
        }
        self.slots_are_stale = true;
        let Some(branch) = self.connections.get_mut(address) else { return };
        branch.failures += 1;
        branch.state = ConnectionState::AwaitingRetry(Instant::now() + backoff(branch.failures));
        // The node delivers nothing any more, so the callers that unsubscribe are done.
        for answer in std::mem::take(&mut branch.channels_to_leave).into_values().flatten() {
            let _ = answer.send(Ok(()));
        }
        if branch.failures == 1 {
            tracing::warn!(node = %address, %error, channels = self.channels_to_subscribe.len(), "subscription to redis lost");
        }
    }

    /// Starts the jobs that are due: reading the slots' owners, and the requests for each node that is free.
    fn start_due_jobs(&mut self) {
        let now = Instant::now();
        let mut wanted = self.wanted_by_node();
        if self.slots_are_stale && !self.is_reading_slots && self.next_slot_read_at <= now {
            self.start_reading_slots();
        }
        if !self.slots_are_stale {
            self.connections.retain(|address, branch| {
                !matches!(branch.state, ConnectionState::AwaitingRetry(until) if until <= now)
                    || wanted.contains_key(address)
            });
        }
        for address in wanted.keys() {
            self.connections.entry(address.clone()).or_insert_with(|| NodeConnection::new(now));
        }
        let free = self.connections.iter().filter(|(_, branch)| branch.is_free(now));
        let free: Vec<Address> = free.map(|(address, _)| address.clone()).collect();
        for address in free {
            // A channel is unsubscribed from before it is subscribed to again, or the end of the former would be taken
            // for a slot's move.
            let unwanted: Vec<String> =
                self.connections[&address].channels_to_leave.keys().cloned().collect();
            if !unwanted.is_empty() {
                self.start_job(&address, NodeJob::Unsubscribe(unwanted));
            } else if let Some(names) = wanted.remove(&address) {
                for name in &names {
                    self.channels_to_subscribe.remove(name);
                    if let Some(channel) = self.channels.get_mut(name) {
                        channel.subscription_site = SubscriptionSite::RequestedFrom(address.clone());
                    }
                }
                self.start_job(&address, NodeJob::Subscribe(names));
            }
        }
    }

    /// Returns the channels that no node delivers, by the node that holds their slot; empty until the slots have been
    /// read.
    fn wanted_by_node(&mut self) -> BTreeMap<Address, Vec<String>> {
        let Self { channels, channels_to_subscribe, .. } = self;
        channels_to_subscribe.retain(|name| {
            let wanted = channels.get(name).is_some_and(WantedChannel::is_wanted);
            if !wanted {
                channels.remove(name);
            }
            wanted
        });
        let mut wanted: BTreeMap<Address, Vec<String>> = BTreeMap::new();
        if self.slots_are_stale {
            return wanted;
        }
        let slots = self.cluster.slots();
        for name in &self.channels_to_subscribe {
            match slots.owner(self.channels[name].slot) {
                Some(owner) => wanted.entry(owner.clone()).or_default().push(name.clone()),
                None => self.slots_are_stale = true,
            }
        }
        wanted
    }

    /// Pings every connection, and reads the slots' owners in case that slots have moved unnoticed.
    fn check_connections(&mut self) {
        let idle =
            self.connections.iter().filter(|(_, branch)| matches!(branch.state, ConnectionState::Idle(_)));
        let idle: Vec<Address> = idle.map(|(address, _)| address.clone()).collect();
        for address in &idle {
            self.start_job(address, NodeJob::Ping);
        }
        if !self.is_reading_slots && !self.channels.is_empty() {
            self.start_reading_slots();
        }
    }

    fn start_reading_slots(&mut self) {
        self.is_reading_slots = true;
        let cluster = Arc::clone(&self.cluster);
        let seen = cluster.slots().version;
        self.running_jobs
            .push(Box::pin(async move { ShardEvent::SlotsRead(cluster.reread_slots(seen).await.map(drop)) }));
    }

    /// Starts a job on a node's connection, which must be free.
    fn start_job(&mut self, address: &Address, job: NodeJob) {
        let Some(branch) = self.connections.get_mut(address) else { return };
        let live = match std::mem::replace(&mut branch.state, ConnectionState::Busy) {
            ConnectionState::Idle(live) => Some(live),
            ConnectionState::Busy | ConnectionState::AwaitingRetry(_) => None,
        };
        let (node, hear) = (self.cluster.node(address), self.push_handler(address.clone()));
        let address = address.clone();
        self.running_jobs.push(Box::pin(async move {
            let result = match node {
                Ok(node) => job.run(&node, live, hear).await,
                Err(error) => Err(error),
            };
            ShardEvent::RequestAnswered { address, job, result }
        }));
    }

    /// Returns the handler of the messages that are pushed on a connection to `address`.
    fn push_handler(&self, address: Address) -> impl Fn(&PushInfo) + Send + Sync + 'static + use<T> {
        let (outlet, decode, signals) =
            (Arc::clone(&self.delivery_channel), self.decode, Arc::clone(&self.signals));
        move |push| match push.kind {
            PushKind::SMessage => super::offer_published(push, &outlet, decode),
            _ => signals.note_push(&address, push),
        }
    }

    fn handle_event(&mut self, done: ShardEvent) {
        match done {
            ShardEvent::SlotsRead(result) => self.handle_slots_read(result),
            ShardEvent::RequestAnswered { address, job, result: Err(error) } => {
                if let (NodeJob::Subscribe(names), true) = (&job, is_permanent(&error)) {
                    self.refuse_channels(names, &error);
                }
                self.lose_connection(&address, &error);
            }
            ShardEvent::RequestAnswered { address, job, result: Ok((live, values)) } => {
                let Some(branch) = self.connections.get_mut(&address) else { return };
                branch.state = ConnectionState::Idle(live);
                if std::mem::take(&mut branch.failures) > 0 {
                    tracing::info!(node = %address, "subscription to redis stands again");
                }
                match job {
                    NodeJob::Ping => {}
                    NodeJob::Unsubscribe(names) => {
                        let answers = names.iter().filter_map(|name| branch.channels_to_leave.remove(name));
                        answers.flatten().for_each(|answer| drop(answer.send(Ok(()))));
                    }
                    NodeJob::Subscribe(names) => self.handle_subscribed(&address, names, values),
                }
            }
        }
    }

    /// Stores a node's answers for each of `names`, and only then reports the loss: a receiver that then reads the
    /// current state gets every later message.
    fn handle_subscribed(&mut self, address: &Address, names: Vec<String>, values: Vec<Value>) {
        let (mut lost, mut refused) = (false, None);
        for (name, value) in names.into_iter().zip(values) {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            if channel.subscription_site != SubscriptionSite::RequestedFrom(address.clone()) {
                continue;
            }
            if let Err(error) = value.extract_error() {
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.channels_to_subscribe.insert(name.clone());
                self.slots_are_stale = true;
                if error.redirect_node().is_none() {
                    self.refuse_channels(&[name], &error);
                    refused = Some(error);
                }
                continue;
            }
            channel.subscription_site = SubscriptionSite::DeliveredBy(address.clone());
            lost |= channel.is_confirmed;
            for answer in channel.pending_answers.drain(..) {
                channel.is_confirmed |= answer.send(Ok(())).is_ok();
            }
            if !channel.is_confirmed {
                self.channels.remove(&name);
                self.request_unsubscribe(address, name, None);
            }
        }
        if lost {
            self.delivery_channel.note_loss();
        }
        if let Some(error) = refused {
            // A node that refuses (because it takes the cluster to be down) is asked again after a pause.
            self.lose_connection(address, &error);
        }
    }

    fn refuse_channels(&mut self, names: &[String], error: &RedisError) {
        for name in names {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            for answer in channel.pending_answers.drain(..) {
                let _ = answer.send(Err(store_error(error.clone())));
            }
        }
    }

    fn handle_slots_read(&mut self, result: Result<(), RedisError>) {
        self.is_reading_slots = false;
        if let Err(error) = result {
            if is_permanent(&error) {
                let names: Vec<String> = self.channels_to_subscribe.iter().cloned().collect();
                self.refuse_channels(&names, &error);
            }
            self.slot_read_failures += 1;
            self.next_slot_read_at = Instant::now() + backoff(self.slot_read_failures);
            if self.slot_read_failures == 1 {
                tracing::warn!(%error, "nobody says who holds what in the redis cluster");
            }
            return;
        }
        self.slot_read_failures = 0;
        self.slots_are_stale = false;
        let slots = self.cluster.slots();
        let mut moved = Vec::new();
        for (name, channel) in &mut self.channels {
            if let (SubscriptionSite::DeliveredBy(at), Some(owner)) =
                (&channel.subscription_site, slots.owner(channel.slot))
                && at != owner
            {
                moved.push((at.clone(), name.clone()));
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.channels_to_subscribe.insert(name.clone());
            }
        }
        for (address, name) in moved {
            self.request_unsubscribe(&address, name, None);
        }
    }
}
