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
use crate::redis_link::node::Live;
use crate::redis_link::slots::Address;
use crate::redis_link::{backoff, is_permanent, store_error};

mod branch;

use branch::{Branch, Job, Signals, State};

/// A channel that a caller wants to subscribe to, or has subscribed to.
struct WantedChannel {
    slot: Slot,
    subscription_site: SubscriptionSite,
    /// True if the caller was told that the subscription is active: then it is renewed whatever happens.
    is_confirmed: bool,
    waiting: Vec<SubscriptionAnswer>,
}

impl WantedChannel {
    fn new(name: &str, kept: bool) -> Self {
        Self {
            slot: Slot::for_key(name),
            subscription_site: SubscriptionSite::Nowhere,
            is_confirmed: kept,
            waiting: Vec::new(),
        }
    }

    /// Returns true if a caller wants the channel; callers that wait no longer were told that the request failed.
    fn is_wanted(&self) -> bool {
        self.is_confirmed || self.waiting.iter().any(|answer| !answer.is_closed())
    }
}

#[derive(Clone, PartialEq, Eq)]
enum SubscriptionSite {
    Nowhere,
    /// The subscription was requested from this node.
    Asked(Address),
    /// This node delivers the channel.
    At(Address),
}

enum ShardEvent {
    Looked(Result<(), RedisError>),
    Asked { address: Address, job: Job, result: Result<(Live, Vec<Value>), RedisError> },
}

/// A subscription to sharded channels, over one connection a node.
pub(super) struct Shards<T> {
    cluster: Arc<Cluster>,
    outlet: Arc<LossyChannel<T>>,
    decode: fn(&[u8]) -> Option<T>,
    requests: mpsc::Receiver<SubscriptionRequest>,
    channels: HashMap<String, WantedChannel>,
    /// The channels that no node delivers and that were requested from none.
    homeless: BTreeSet<String>,
    branches: BTreeMap<Address, Branch>,
    work: FuturesUnordered<BoxFuture<'static, ShardEvent>>,
    signals: Arc<Signals>,
    /// True if the slots' owners have to be read again; `looking` is true while they are being read.
    stale: bool,
    looking: bool,
    look_failures: u32,
    look_at: Instant,
}

impl<T: Clone + Send + 'static> Shards<T> {
    /// Returns a subscription that delivers the messages of `wanted`, and of requested channels, into `outlet`.
    pub(super) fn new(
        cluster: Arc<Cluster>,
        outlet: Arc<LossyChannel<T>>,
        decode: fn(&[u8]) -> Option<T>,
        wanted: BTreeSet<String>,
        requests: mpsc::Receiver<SubscriptionRequest>,
    ) -> Self {
        Self {
            channels: wanted.iter().map(|name| (name.clone(), WantedChannel::new(name, true))).collect(),
            homeless: wanted,
            stale: cluster.slots().version == 0,
            cluster,
            outlet,
            decode,
            requests,
            branches: BTreeMap::new(),
            work: FuturesUnordered::new(),
            signals: Arc::default(),
            looking: false,
            look_failures: 0,
            look_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let outlet = Arc::clone(&self.outlet);
        let signals = Arc::clone(&self.signals);
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_what_is_due();
            let next = self.next_attempt();
            tokio::select! {
                () = stop.cancelled() => return,
                () = outlet.wait_until_closed() => return,
                Some(done) = self.work.next() => {
                    // Signals that came before the answer are handled before it.
                    self.handle_signals();
                    self.handle_event(done);
                    self.handle_signals();
                }
                () = signals.wake.notified() => self.handle_signals(),
                Some(first) = self.requests.recv() => self.take_requests(first),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                _ = ping.tick() => self.check_connections(),
            }
        }
    }

    /// Returns the time of the next attempt after a failure; `None` if there was none.
    fn next_attempt(&self) -> Option<Instant> {
        if self.stale && !self.looking {
            return Some(self.look_at);
        }
        let now = Instant::now();
        self.branches.values().filter_map(|branch| branch.rests_until(now)).min()
    }

    /// Takes the waiting requests, so that those for one node are sent to it together.
    fn take_requests(&mut self, first: SubscriptionRequest) {
        self.take_request(first);
        for _ in 1..CHANNELS_A_COMMAND {
            let Ok(request) = self.requests.try_recv() else { return };
            self.take_request(request);
        }
    }

    fn take_request(
        &mut self,
        SubscriptionRequest { wish, channel: name, answer_sender: answer }: SubscriptionRequest,
    ) {
        match wish {
            SubscriptionOp::Subscribe => {
                let channel =
                    self.channels.entry(name.clone()).or_insert_with(|| WantedChannel::new(&name, false));
                match channel.subscription_site {
                    SubscriptionSite::At(_) => channel.is_confirmed |= answer.send(Ok(())).is_ok(),
                    SubscriptionSite::Asked(_) => channel.waiting.push(answer),
                    SubscriptionSite::Nowhere => {
                        channel.waiting.push(answer);
                        self.homeless.insert(name);
                    }
                }
            }
            SubscriptionOp::Unsubscribe => {
                self.homeless.remove(&name);
                match self.channels.remove(&name).map(|channel| channel.subscription_site) {
                    Some(SubscriptionSite::At(address) | SubscriptionSite::Asked(address)) => {
                        self.give_up_channel(&address, name, Some(answer));
                    }
                    // No node delivers the channel, as was requested.
                    _ => drop(answer.send(Ok(()))),
                }
            }
        }
    }

    fn give_up_channel(&mut self, address: &Address, name: String, answer: Option<SubscriptionAnswer>) {
        match self.branches.get_mut(address) {
            Some(branch) => branch.channels_to_leave.entry(name).or_default().extend(answer),
            None => answer.into_iter().for_each(|answer| drop(answer.send(Ok(())))),
        }
    }

    /// Handles the signals of connections: channels that moved away, connections that ended.
    fn handle_signals(&mut self) {
        for (address, name) in self.signals.left() {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            if matches!(&channel.subscription_site, SubscriptionSite::At(at) | SubscriptionSite::Asked(at) if *at == address)
            {
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.homeless.insert(name);
                self.stale = true;
            }
        }
        let ended = self.branches.iter().filter(|(_, branch)| branch.has_ended());
        let ended: Vec<Address> = ended.map(|(address, _)| address.clone()).collect();
        for address in ended {
            let reset = std::io::ErrorKind::ConnectionReset;
            self.lose_connection(&address, &std::io::Error::new(reset, "the connection was closed").into());
        }
    }

    /// Gives up a connection: no node delivers its channels any more.
    fn lose_connection(&mut self, address: &Address, error: &RedisError) {
        for (name, channel) in &mut self.channels {
            if matches!(&channel.subscription_site, SubscriptionSite::At(at) | SubscriptionSite::Asked(at) if at == address)
            {
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.homeless.insert(name.clone());
            }
        }
        self.stale = true;
        let Some(branch) = self.branches.get_mut(address) else { return };
        branch.failures += 1;
        branch.state = State::Resting(Instant::now() + backoff(branch.failures));
        // The node delivers nothing any more, so the callers that unsubscribe are done.
        for answer in std::mem::take(&mut branch.channels_to_leave).into_values().flatten() {
            let _ = answer.send(Ok(()));
        }
        if branch.failures == 1 {
            tracing::warn!(node = %address, %error, channels = self.homeless.len(), "subscription to redis lost");
        }
    }

    /// Starts the jobs that are due: reading the slots' owners, and the requests for each node that is free.
    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        let mut wanted = self.wanted_by_node();
        if self.stale && !self.looking && self.look_at <= now {
            self.look_up_slots();
        }
        if !self.stale {
            self.branches.retain(|address, branch| {
                !matches!(branch.state, State::Resting(until) if until <= now) || wanted.contains_key(address)
            });
        }
        for address in wanted.keys() {
            self.branches.entry(address.clone()).or_insert_with(|| Branch::new(now));
        }
        let free = self.branches.iter().filter(|(_, branch)| branch.is_free(now));
        let free: Vec<Address> = free.map(|(address, _)| address.clone()).collect();
        for address in free {
            // A channel is unsubscribed from before it is subscribed to again, or the end of the former would be taken
            // for a slot's move.
            let unwanted: Vec<String> = self.branches[&address].channels_to_leave.keys().cloned().collect();
            if !unwanted.is_empty() {
                self.start_job(&address, Job::Unsubscribe(unwanted));
            } else if let Some(names) = wanted.remove(&address) {
                for name in &names {
                    self.homeless.remove(name);
                    if let Some(channel) = self.channels.get_mut(name) {
                        channel.subscription_site = SubscriptionSite::Asked(address.clone());
                    }
                }
                self.start_job(&address, Job::Subscribe(names));
            }
        }
    }

    /// Returns the channels that no node delivers, by the node that holds their slot; empty until the slots have been
    /// read.
    fn wanted_by_node(&mut self) -> BTreeMap<Address, Vec<String>> {
        let Self { channels, homeless, .. } = self;
        homeless.retain(|name| {
            let wanted = channels.get(name).is_some_and(WantedChannel::is_wanted);
            if !wanted {
                channels.remove(name);
            }
            wanted
        });
        let mut wanted: BTreeMap<Address, Vec<String>> = BTreeMap::new();
        if self.stale {
            return wanted;
        }
        let slots = self.cluster.slots();
        for name in &self.homeless {
            match slots.owner(self.channels[name].slot) {
                Some(owner) => wanted.entry(owner.clone()).or_default().push(name.clone()),
                None => self.stale = true,
            }
        }
        wanted
    }

    /// Pings every connection, and reads the slots' owners in case that slots have moved unnoticed.
    fn check_connections(&mut self) {
        let idle = self.branches.iter().filter(|(_, branch)| matches!(branch.state, State::Idle(_)));
        let idle: Vec<Address> = idle.map(|(address, _)| address.clone()).collect();
        for address in &idle {
            self.start_job(address, Job::Ping);
        }
        if !self.looking && !self.channels.is_empty() {
            self.look_up_slots();
        }
    }

    fn look_up_slots(&mut self) {
        self.looking = true;
        let cluster = Arc::clone(&self.cluster);
        let seen = cluster.slots().version;
        self.work.push(Box::pin(async move { ShardEvent::Looked(cluster.reread(seen).await.map(drop)) }));
    }

    /// Starts a job on a node's connection, which must be free.
    fn start_job(&mut self, address: &Address, job: Job) {
        let Some(branch) = self.branches.get_mut(address) else { return };
        let live = match std::mem::replace(&mut branch.state, State::Busy) {
            State::Idle(live) => Some(live),
            State::Busy | State::Resting(_) => None,
        };
        let (node, hear) = (self.cluster.node(address), self.push_handler(address.clone()));
        let address = address.clone();
        self.work.push(Box::pin(async move {
            let result = match node {
                Ok(node) => job.ask(&node, live, hear).await,
                Err(error) => Err(error),
            };
            ShardEvent::Asked { address, job, result }
        }));
    }

    /// Returns the handler of the messages that are pushed on a connection to `address`.
    fn push_handler(&self, address: Address) -> impl Fn(&PushInfo) + Send + Sync + 'static + use<T> {
        let (outlet, decode, signals) = (Arc::clone(&self.outlet), self.decode, Arc::clone(&self.signals));
        move |push| match push.kind {
            PushKind::SMessage => super::offer_published(push, &outlet, decode),
            _ => signals.note(&address, push),
        }
    }

    fn handle_event(&mut self, done: ShardEvent) {
        match done {
            ShardEvent::Looked(result) => self.handle_slots_read(result),
            ShardEvent::Asked { address, job, result: Err(error) } => {
                if let (Job::Subscribe(names), true) = (&job, is_permanent(&error)) {
                    self.refuse_channels(names, &error);
                }
                self.lose_connection(&address, &error);
            }
            ShardEvent::Asked { address, job, result: Ok((live, values)) } => {
                let Some(branch) = self.branches.get_mut(&address) else { return };
                branch.state = State::Idle(live);
                if std::mem::take(&mut branch.failures) > 0 {
                    tracing::info!(node = %address, "subscription to redis stands again");
                }
                match job {
                    Job::Ping => {}
                    Job::Unsubscribe(names) => {
                        let answers = names.iter().filter_map(|name| branch.channels_to_leave.remove(name));
                        answers.flatten().for_each(|answer| drop(answer.send(Ok(()))));
                    }
                    Job::Subscribe(names) => self.handle_subscribed(&address, names, values),
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
            if channel.subscription_site != SubscriptionSite::Asked(address.clone()) {
                continue;
            }
            if let Err(error) = value.extract_error() {
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.homeless.insert(name.clone());
                self.stale = true;
                if error.redirect_node().is_none() {
                    self.refuse_channels(&[name], &error);
                    refused = Some(error);
                }
                continue;
            }
            channel.subscription_site = SubscriptionSite::At(address.clone());
            lost |= channel.is_confirmed;
            for answer in channel.waiting.drain(..) {
                channel.is_confirmed |= answer.send(Ok(())).is_ok();
            }
            if !channel.is_confirmed {
                self.channels.remove(&name);
                self.give_up_channel(address, name, None);
            }
        }
        if lost {
            self.outlet.note_loss();
        }
        if let Some(error) = refused {
            // A node that refuses (because it takes the cluster to be down) is asked again after a pause.
            self.lose_connection(address, &error);
        }
    }

    fn refuse_channels(&mut self, names: &[String], error: &RedisError) {
        for name in names {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            for answer in channel.waiting.drain(..) {
                let _ = answer.send(Err(store_error(error.clone())));
            }
        }
    }

    fn handle_slots_read(&mut self, result: Result<(), RedisError>) {
        self.looking = false;
        if let Err(error) = result {
            if is_permanent(&error) {
                let names: Vec<String> = self.homeless.iter().cloned().collect();
                self.refuse_channels(&names, &error);
            }
            self.look_failures += 1;
            self.look_at = Instant::now() + backoff(self.look_failures);
            if self.look_failures == 1 {
                tracing::warn!(%error, "nobody says who holds what in the redis cluster");
            }
            return;
        }
        self.look_failures = 0;
        self.stale = false;
        let slots = self.cluster.slots();
        let mut moved = Vec::new();
        for (name, channel) in &mut self.channels {
            if let (SubscriptionSite::At(at), Some(owner)) =
                (&channel.subscription_site, slots.owner(channel.slot))
                && at != owner
            {
                moved.push((at.clone(), name.clone()));
                channel.subscription_site = SubscriptionSite::Nowhere;
                self.homeless.insert(name.clone());
            }
        }
        for (address, name) in moved {
            self.give_up_channel(&address, name, None);
        }
    }
}
