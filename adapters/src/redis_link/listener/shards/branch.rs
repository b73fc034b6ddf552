//! The connection of a subscription to one node, and the jobs that are sent over it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use redis::aio::ConnectionLike;
use redis::{Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::{CHANNELS_A_COMMAND, SubscriptionAnswer};
use crate::redis_link::node::{LiveConnection, Node};
use crate::redis_link::slots::Address;

/// The connection of a subscription to one node, with its state.
pub(super) struct NodeConnection {
    pub(super) state: ConnectionState,
    /// The number of consecutive failures of the connection.
    pub(super) failures: u32,
    /// The channels to unsubscribe from, each with the callers that wait for it.
    pub(super) channels_to_leave: HashMap<String, Vec<SubscriptionAnswer>>,
}

pub(super) enum ConnectionState {
    /// A job is under way on the connection.
    Busy,
    Idle(LiveConnection),
    /// There is no connection; the next attempt comes at this time.
    AwaitingRetry(Instant),
}

impl NodeConnection {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: ConnectionState::AwaitingRetry(now), failures: 0, channels_to_leave: HashMap::new() }
    }

    /// Returns true if a job can be started on this connection now.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        match self.state {
            ConnectionState::Busy => false,
            ConnectionState::Idle(_) => true,
            ConnectionState::AwaitingRetry(until) => until <= now,
        }
    }

    /// Returns true if the connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(&self.state, ConnectionState::Idle(live) if live.end_token.is_cancelled())
    }

    /// Returns the end of the pause after a failure, if one is under way.
    pub(super) fn retry_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            ConnectionState::AwaitingRetry(until) if until > now => Some(until),
            _ => None,
        }
    }
}

/// A job that is sent to a node in one go.
pub(super) enum NodeJob {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    Ping,
}

impl NodeJob {
    /// Does the job on `live`, or on a connection that it opens. Returns the node's answer for each channel.
    ///
    /// The client library takes a confirmation that was not requested (because a slot has moved) for the answer to the
    /// last request. Every job therefore ends with a ping that carries a token, and a connection that answers with
    /// another token is given up.
    pub(super) async fn run(
        &self,
        node: &Node,
        live: Option<LiveConnection>,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<(LiveConnection, Vec<Value>), RedisError> {
        let mut live = match live {
            Some(live) => live,
            None => node.open(hear).await?,
        };
        let (verb, names) = match self {
            Self::Subscribe(names) => ("SSUBSCRIBE", names.as_slice()),
            Self::Unsubscribe(names) => ("SUNSUBSCRIBE", names.as_slice()),
            Self::Ping => ("PING", [].as_slice()),
        };
        let mut values = Vec::with_capacity(names.len());
        let mut rest = names;
        loop {
            let (now, later) = rest.split_at(rest.len().min(CHANNELS_A_COMMAND));
            let mut pipeline = Pipeline::new();
            for name in now {
                // One command a channel: channels of different slots in one command are refused.
                pipeline.cmd(verb).arg(name);
            }
            let token = format!("{:016x}", rand::random::<u64>());
            pipeline.cmd("PING").arg(&token);
            let mut answers = live.connection.req_packed_commands(&pipeline, 0, now.len() + 1).await?;
            if answers.pop() != Some(Value::BulkString(token.into_bytes())) {
                return Err(std::io::Error::other("its answers are out of step").into());
            }
            values.extend(answers);
            rest = later;
            if rest.is_empty() {
                return Ok((live, values));
            }
        }
    }
}

/// The events of connections that were not handled yet: connections that ended, and channels that a node no longer
/// delivers.
#[derive(Default)]
pub(super) struct ConnectionSignals {
    /// The channels that a node no longer delivers: at most one entry for each confirmation.
    lost_channels: Mutex<Vec<(Address, String)>>,
    pub(super) wake: Notify,
}

impl ConnectionSignals {
    /// Notes that a connection to `address` ended, or that its node no longer delivers a channel.
    pub(super) fn note_push(&self, address: &Address, push: &PushInfo) {
        if push.kind == PushKind::SUnsubscribe
            && let Some(Value::BulkString(name)) = push.data.first()
            && let Ok(name) = std::str::from_utf8(name)
        {
            let mut left = self.lost_channels.lock().unwrap_or_else(PoisonError::into_inner);
            left.push((address.clone(), name.to_owned()));
        }
        self.wake.notify_one();
    }

    /// Takes the channels that nodes stopped delivering since the last call.
    pub(super) fn take_lost_channels(&self) -> Vec<(Address, String)> {
        std::mem::take(&mut *self.lost_channels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
