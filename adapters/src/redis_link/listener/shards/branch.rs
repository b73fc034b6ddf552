//! The connection of a subscription to one node, and what is asked of it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use redis::aio::ConnectionLike;
use redis::{Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::{CHANNELS_A_COMMAND, SubscriptionAnswer};
use crate::redis_link::node::{Live, Node};
use crate::redis_link::slots::Address;

/// The connection to one node.
pub(super) struct Branch {
    pub(super) state: State,
    /// Times in a row that it could not be used.
    pub(super) failures: u32,
    /// Channels to give up, and who waits for that.
    pub(super) channels_to_leave: HashMap<String, Vec<SubscriptionAnswer>>,
}

pub(super) enum State {
    /// Something is under way.
    Busy,
    Idle(Live),
    /// There is no connection; it is not tried again before this time.
    Resting(Instant),
}

impl Branch {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::Resting(now), failures: 0, channels_to_leave: HashMap::new() }
    }

    /// Whether something can be asked of it.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        match self.state {
            State::Busy => false,
            State::Idle(_) => true,
            State::Resting(until) => until <= now,
        }
    }

    /// Whether its connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(&self.state, State::Idle(live) if live.has_ended.is_cancelled())
    }

    /// Returns the end of the pause after a failure, if one is under way.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Resting(until) if until > now => Some(until),
            _ => None,
        }
    }
}

/// What is asked of a node in one go.
pub(super) enum Job {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    Ping,
}

impl Job {
    /// Does it on `live`, or on a connection that it opens. Returns what the node said to each channel.
    ///
    /// The client library takes a confirmation that nobody asked for (a slot has moved) as the answer to whatever was
    /// asked last. So everything ends with a ping that names itself, and a connection out of step is given up.
    pub(super) async fn ask(
        &self,
        node: &Node,
        live: Option<Live>,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<(Live, Vec<Value>), RedisError> {
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
                // One by one: channels of different slots in one command are refused.
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

/// Connections that ended and channels that left since the last look.
#[derive(Default)]
pub(super) struct Signals {
    /// Channels that are no longer heard from there: at most one entry for each confirmation.
    take_left_channels: Mutex<Vec<(Address, String)>>,
    pub(super) wake: Notify,
}

impl Signals {
    /// Notes that a connection to `address` ended, or that a channel is no longer heard there.
    pub(super) fn note(&self, address: &Address, push: &PushInfo) {
        if push.kind == PushKind::SUnsubscribe
            && let Some(Value::BulkString(name)) = push.data.first()
            && let Ok(name) = std::str::from_utf8(name)
        {
            let mut left = self.take_left_channels.lock().unwrap_or_else(PoisonError::into_inner);
            left.push((address.clone(), name.to_owned()));
        }
        self.wake.notify_one();
    }

    /// The channels that left since the last look.
    pub(super) fn left(&self) -> Vec<(Address, String)> {
        std::mem::take(&mut *self.take_left_channels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
