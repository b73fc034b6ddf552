//! Sends commands to the nodes of a cluster that hold their keys.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use redis::aio::ConnectionLike;
use redis::cluster_routing::Slot;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};

use super::cluster::Cluster;
use super::node::NodeFailure;
use super::slots::{Address, slot_of};

/// The largest number of times that a command is sent: to the former owner of its slot, to the present one, to the
/// next one, and some for a slot that is just being moved.
const MAX_ATTEMPTS: usize = 6;
/// The pause before a command is sent again because its keys are partly on one node and partly on another.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Sends each command to the node of its first key, and on to where that node redirects it. Commands without keys are
/// sent along with the others, to every node that gets any. Commands for different nodes have no common order.
pub(super) struct Router<'a> {
    cluster: &'a Cluster,
    /// The node to which the last command went: a command without keys that is sent alone goes there, too.
    last_address: Option<Address>,
}

/// A node to send a command to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RouteTarget {
    address: Address,
    /// True if the slot is only just moving to the node, so that the command must follow an `ASKING`.
    needs_asking: bool,
}

/// A command that is under way: its index in the pipeline, its slot, and the node it was redirected to.
struct RoutedCommand {
    index: usize,
    slot: Slot,
    redirected_to: Option<RouteTarget>,
}

/// The next step for a command after its answer: keep the answer, or send the command again.
enum AnswerVerdict {
    /// The value is the command's answer.
    Keep,
    /// The command has to be sent to this other server, which has the command's keys.
    Redirected(RouteTarget),
    /// The command has to be sent again after a pause, because its slot is just being moved.
    RetryLater,
}

type SentGroup = (RouteTarget, Vec<RoutedCommand>, Result<Vec<Value>, NodeFailure>);

impl<'a> Router<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, last_address: None }
    }

    /// Returns the node that answered the last command.
    pub(super) const fn last_address(&self) -> Option<&Address> {
        self.last_address.as_ref()
    }

    async fn send_commands(&mut self, commands: &[&Cmd]) -> RedisResult<Vec<Value>> {
        let errand = |(index, command): (usize, &&Cmd)| {
            slot_of(command).map(|slot| RoutedCommand { index, slot, redirected_to: None })
        };
        let mut left: Vec<RoutedCommand> = commands.iter().enumerate().filter_map(errand).collect();
        if left.is_empty() {
            return self.send_keyless_commands(commands).await;
        }
        let mut answers = vec![Value::Nil; commands.len()];
        let mut slots = self.cluster.current_slots().await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut groups: BTreeMap<RouteTarget, Vec<RoutedCommand>> = BTreeMap::new();
            for mut errand in left.drain(..) {
                let target = match errand.redirected_to.take() {
                    Some(target) => target,
                    None => match slots.owner(errand.slot) {
                        Some(owner) => RouteTarget { address: owner.clone(), needs_asking: false },
                        None => return Err(self.unheld_slot_error(errand.slot)),
                    },
                };
                groups.entry(target).or_default().push(errand);
            }
            self.last_address = groups.keys().next().map(|target| target.address.clone());
            let sent = join_all(
                groups.into_iter().map(|(target, errands)| self.send_group(target, errands, commands)),
            );
            let (mut away, mut later) = (None, false);
            for (target, errands, result) in sent.await {
                match result {
                    Ok(values) => {
                        later |= self.collect_answers(&target, errands, values, &mut answers, &mut left);
                    }
                    Err(NodeFailure::Sent(error)) => {
                        self.cluster.mark_slots_stale();
                        return Err(error);
                    }
                    Err(NodeFailure::NotSent(error)) => {
                        away = Some((target.address, error));
                        left.extend(errands);
                    }
                }
            }
            if left.is_empty() {
                return Ok(answers);
            }
            if let Some((address, error)) = away {
                // Another node may have taken its place.
                let Ok(fresh) = self.cluster.reread_slots(slots.version).await else { return Err(error) };
                slots = fresh;
                if left.iter().any(|errand| {
                    errand.redirected_to.is_none() && slots.owner(errand.slot) == Some(&address)
                }) {
                    return Err(error);
                }
            }
            if later {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        Err((ErrorKind::Server(ServerErrorKind::TryAgain), "a slot is being moved").into())
    }

    fn unheld_slot_error(&self, slot: Slot) -> RedisError {
        self.cluster.mark_slots_stale();
        (ErrorKind::ClusterConnectionNotFound, "no node holds a slot", format!("{slot:?}")).into()
    }

    async fn send_keyless_commands(&mut self, commands: &[&Cmd]) -> RedisResult<Vec<Value>> {
        let slots = self.cluster.current_slots().await?;
        let address = self.last_address.clone().or_else(|| slots.nodes().into_iter().next().cloned());
        let nobody = || RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node holds any slot"));
        let node = self.cluster.node(&address.ok_or_else(nobody)?)?;
        let mut pipeline = Pipeline::new();
        for &command in commands {
            pipeline.add_command(command.clone());
        }
        Ok(node.send_commands(&pipeline, 0, commands.len()).await?)
    }

    /// Sends the commands of `errands`, preceded by those without keys; the latter's answers come first in the result.
    async fn send_group(
        &self,
        target: RouteTarget,
        errands: Vec<RoutedCommand>,
        commands: &[&Cmd],
    ) -> SentGroup {
        let mut pipeline = Pipeline::new();
        for command in commands.iter().filter(|command| slot_of(command).is_none()) {
            pipeline.add_command((*command).clone());
        }
        let without_keys = pipeline.len();
        for errand in &errands {
            if target.needs_asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(commands[errand.index].clone());
        }
        let result = match self.cluster.node(&target.address) {
            Ok(node) => node.send_commands(&pipeline, 0, pipeline.len()).await,
            Err(error) => Err(NodeFailure::NotSent(error)),
        };
        let result = result.map(|mut values| {
            if target.needs_asking {
                let mut at = 0;
                values.retain(|_| {
                    at += 1;
                    // After the commands without keys, every other answer is the one to ASKING.
                    at <= without_keys || (at - without_keys).is_multiple_of(2)
                });
            }
            values
        });
        (target, errands, result)
    }

    /// Stores the answers, and adds the commands that have to be sent again to `left`. Returns true if the caller is
    /// to pause before sending them.
    fn collect_answers(
        &self,
        target: &RouteTarget,
        errands: Vec<RoutedCommand>,
        values: Vec<Value>,
        answers: &mut [Value],
        left: &mut Vec<RoutedCommand>,
    ) -> bool {
        // The answers to commands without keys are the same from every node, and no caller reads them.
        let without_keys = values.len().saturating_sub(errands.len());
        let mut later = false;
        for (mut errand, value) in errands.into_iter().zip(values.into_iter().skip(without_keys)) {
            match self.judge_answer(&value, target) {
                AnswerVerdict::Keep => answers[errand.index] = value,
                AnswerVerdict::Redirected(target) => {
                    errand.redirected_to = Some(target);
                    left.push(errand);
                }
                AnswerVerdict::RetryLater => {
                    later = true;
                    left.push(errand);
                }
            }
        }
        later
    }

    fn judge_answer(&self, value: &Value, target: &RouteTarget) -> AnswerVerdict {
        let Value::ServerError(error) = value else { return AnswerVerdict::Keep };
        let error = RedisError::from(error.clone());
        let sent_on = |needs_asking| {
            let address = error.redirect_node().and_then(|(to, _)| Address::parse(to, &target.address));
            address.map_or(AnswerVerdict::Keep, |address| {
                AnswerVerdict::Redirected(RouteTarget { address, needs_asking })
            })
        };
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => {
                self.cluster.mark_slots_stale();
                sent_on(false)
            }
            ErrorKind::Server(ServerErrorKind::Ask) => sent_on(true),
            ErrorKind::Server(ServerErrorKind::TryAgain) => AnswerVerdict::RetryLater,
            ErrorKind::Server(ServerErrorKind::ClusterDown) => {
                self.cluster.mark_slots_stale();
                AnswerVerdict::Keep
            }
            _ => AnswerVerdict::Keep,
        }
    }
}

impl ConnectionLike for Router<'_> {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut answers = self.send_commands(&[command]).await?;
            Ok(answers.pop().unwrap_or(Value::Nil))
        })
    }

    /// Sends the commands of a pipeline. Transactions are refused, because they cannot span nodes; our stores use
    /// scripts.
    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
            if offset != 0 || count != commands.len() {
                return Err((ErrorKind::InvalidClientConfig, "no transactions on a cluster").into());
            }
            self.send_commands(&commands).await
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}
