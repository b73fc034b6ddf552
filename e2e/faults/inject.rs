//! Carries out faults: causes a fault, waits for its duration, and repairs it.

use std::time::Duration;

use anyhow::Context;
use bson::doc;
use liverank_e2e::process::Signal;
use tokio::time::sleep;

use crate::clock::JUMPS;
use crate::disk::FullDiskSystem;
use crate::parts::RealStores;
use crate::proxy::{NetworkState, Proxy};
use crate::report::RunReport;
use crate::schedule::{Fault, FaultKind, FaultTarget};
use crate::system::System;
use crate::traffic::Traffic;

/// The time limit until the replica set has a primary.
const ELECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// The time for which the secondaries cannot reach their primary before it is killed: long enough for writes that only
/// the primary has, too short for the set to elect another one.
const UNREPLICATED_TIME: Duration = Duration::from_millis(1_500);
/// The delays of every 16 KiB in a slow network, in milliseconds: another room, another continent, a bad line.
const DELAYS_MS: [u64; 3] = [20, 120, 400];

/// All parts on which faults are carried out.
pub struct FaultInjector<'a> {
    /// Kafka, Redis and MongoDB, with the proxies before them.
    pub parts: &'a RealStores,
    /// The processes under test.
    pub system: &'a System,
    /// The load on the system, with its viewers.
    pub traffic: &'a Traffic,
    /// The process on embedded stores; `None` if the run has no disk faults.
    pub disk: Option<&'a FullDiskSystem>,
    /// The output of the run, which gets remarks.
    pub report: &'a RunReport,
}

/// Returns the item of `from` that the fault's random number selects.
fn pick_by_draw<T>(from: &[T], draw: u64) -> &T {
    &from[(draw % from.len() as u64) as usize]
}

impl FaultInjector<'_> {
    /// Carries out the fault and repairs it; returns in words what was done.
    pub async fn carry_out(&self, fault: &Fault) -> anyhow::Result<String> {
        // Records without an id are not sent while Kafka is disturbed: the test could not recognise such a record if
        // it were appended twice.
        let calm = if fault.kind.target() == FaultTarget::Kafka {
            Some(self.traffic.kafka_undisturbed.write().await)
        } else {
            None
        };
        let done = match fault.kind {
            FaultKind::StopConsumer => self.stop_consumer(fault).await,
            FaultKind::Rebalance => self.cause_rebalance(fault).await,
            FaultKind::KafkaRestart => self.restart_part("kafka", fault).await,
            FaultKind::RedisRestart => self.restart_part("redis", fault).await,
            FaultKind::RedisEmpty => self.empty_redis(fault).await,
            FaultKind::RedisOld => self.restore_old_redis(fault).await,
            FaultKind::MongodbKill => self.kill_primary(fault).await,
            FaultKind::MongodbStepDown => self.step_primary_down(fault).await,
            FaultKind::CutKafka | FaultKind::CutRedis | FaultKind::CutMongodb => {
                self.cut_network(fault).await
            }
            FaultKind::SlowKafka | FaultKind::SlowRedis | FaultKind::SlowMongodb => {
                self.slow_network(fault).await
            }
            FaultKind::DiskFull => match self.disk {
                Some(disk) => disk.fill_and_compare(fault).await,
                None => anyhow::bail!("there is no disk to fill"),
            },
            FaultKind::ClockJump => self.jump_clock(fault).await,
            FaultKind::KillGateway
            | FaultKind::KillConsumer
            | FaultKind::KillWebsocket
            | FaultKind::KillComment
            | FaultKind::KillReader
            | FaultKind::KillManager
            | FaultKind::KillStatistics => self.kill_process(fault).await,
        };
        drop(calm);
        done.with_context(|| fault.kind.name())
    }

    fn note_remark(&self, remark: Option<String>) {
        if let Some(remark) = remark {
            self.report.report_failure(&remark);
        }
    }

    fn pick_victim(&self, fault: &Fault) -> String {
        let FaultTarget::Role(role) = fault.kind.target() else { return String::new() };
        pick_by_draw(&self.system.of_role(role), fault.random_number).clone()
    }

    async fn kill_process(&self, fault: &Fault) -> anyhow::Result<String> {
        let victim = self.pick_victim(fault);
        self.system.kill(&victim).await?;
        sleep(fault.duration).await;
        self.system.restart(&victim).await?;
        Ok(victim)
    }

    async fn stop_consumer(&self, fault: &Fault) -> anyhow::Result<String> {
        let victim = self.pick_victim(fault);
        self.system.signal(&victim, Signal::STOP).await?;
        sleep(fault.duration).await;
        self.system.signal(&victim, Signal::CONT).await?;
        Ok(victim)
    }

    async fn cause_rebalance(&self, fault: &Fault) -> anyhow::Result<String> {
        let orderly = fault.random_number & 2 == 0;
        if fault.random_number & 1 == 0 {
            let extra = self.system.another_consumer()?;
            sleep(fault.duration).await;
            self.note_remark(extra.end(orderly).await?);
            let how = if orderly { "orderly" } else { "killed" };
            return Ok(format!("another one joins and leaves ({how})"));
        }
        let victim = self.pick_victim(fault);
        self.note_remark(self.system.stop(&victim).await?);
        sleep(fault.duration).await;
        self.system.restart(&victim).await?;
        Ok(format!("{victim} leaves and joins"))
    }

    async fn restart_part(&self, part: &str, fault: &Fault) -> anyhow::Result<String> {
        self.parts.testbed(&["kill", part]).await?;
        sleep(fault.duration).await;
        self.parts.testbed(&["start", part]).await?;
        Ok(format!("killed for {:?}", fault.duration))
    }

    async fn empty_redis(&self, fault: &Fault) -> anyhow::Result<String> {
        self.parts.testbed(&["kill", "redis"]).await?;
        sleep(fault.duration).await;
        self.parts.testbed(&["wipe", "redis"]).await?;
        self.parts.testbed(&["start", "redis"]).await?;
        Ok(format!("killed for {:?}, back without data", fault.duration))
    }

    async fn restore_old_redis(&self, fault: &Fault) -> anyhow::Result<String> {
        // In half of the cases the copy is one second old and taken under load; else it is from the beginning of the
        // round, taken at rest.
        if fault.random_number & 1 == 0 {
            self.parts.copy_redis().await?;
            sleep(Duration::from_secs(1)).await;
        }
        self.parts.testbed(&["kill", "redis"]).await?;
        sleep(fault.duration).await;
        self.parts.restore_redis().await?;
        self.parts.testbed(&["start", "redis"]).await?;
        let age = if fault.random_number & 1 == 0 { "1 s ago" } else { "the round's beginning" };
        Ok(format!("killed for {:?}, back as of {age}", fault.duration))
    }

    async fn kill_primary(&self, fault: &Fault) -> anyhow::Result<String> {
        let (primary, _) = self.parts.replica_set.wait_for_primary(ELECTION_TIMEOUT).await?;
        let members = self.parts.replica_set.len();
        let name = |nth: usize| format!("mongodb-{}", nth + 1);
        let others: Vec<usize> = (0..members).filter(|nth| *nth != primary).collect();
        let (victim, words) = match fault.random_number % 3 {
            0 => (*pick_by_draw(&others, fault.random_number / 3), "a secondary"),
            1 => (primary, "the primary"),
            _ => (primary, "the primary, with writes that only it has"),
        };
        let alone = fault.random_number % 3 == 2;
        if alone {
            // The secondaries cannot fetch what the primary writes.
            self.parts.mongodb_proxies[primary].set_others(NetworkState::Reset);
            sleep(UNREPLICATED_TIME).await;
        }
        let killed = self.parts.testbed(&["kill", &name(victim)]).await;
        if alone {
            self.parts.mongodb_proxies[primary].set_others(NetworkState::Open);
        }
        killed?;
        sleep(fault.duration).await;
        // Waits for another primary: without one, the killed primary would be elected again and roll nothing back.
        self.parts.replica_set.wait_for_primary(ELECTION_TIMEOUT).await?;
        self.parts.testbed(&["start", &name(victim)]).await?;
        Ok(format!("{words}, {}, for {:?}", name(victim), fault.duration))
    }

    async fn step_primary_down(&self, fault: &Fault) -> anyhow::Result<String> {
        // The primary may be elected again after 5 s. In half of the cases it steps down by force, that is without a
        // secondary that has caught up.
        let force = fault.random_number & 1 == 0;
        let catch_up = if force { 0 } else { 4 };
        let order = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": catch_up, "force": force };
        // On a busy machine no secondary may have caught up in time, and the primary refuses; or it is another one now.
        let deadline = tokio::time::Instant::now() + ELECTION_TIMEOUT;
        let primary = loop {
            let (primary, mut member) = self.parts.replica_set.wait_for_primary(ELECTION_TIMEOUT).await?;
            match member.command("admin", order.clone()).await {
                Ok(_) => break primary,
                Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        };
        sleep(fault.duration).await;
        let (now, _) = self.parts.replica_set.wait_for_primary(ELECTION_TIMEOUT).await?;
        let how = if force { "by force" } else { "in order" };
        Ok(format!("{how}: from mongodb-{} to mongodb-{}", primary + 1, now + 1))
    }

    /// Returns the proxies between our processes and the store that the fault concerns, with a word for which of them.
    async fn proxies_of(&self, fault: &Fault) -> (Vec<&Proxy>, &'static str) {
        match fault.kind.target() {
            FaultTarget::Kafka => (vec![&*self.parts.kafka_proxy], "all"),
            FaultTarget::Redis => (vec![&*self.parts.redis_proxy], "all"),
            _ => match (fault.random_number >> 8 & 1, self.parts.replica_set.primary().await) {
                (0, Some(primary)) => (vec![&*self.parts.mongodb_proxies[primary]], "the primary"),
                _ => (self.parts.mongodb_proxies.iter().map(|proxy| &**proxy).collect(), "all"),
            },
        }
    }

    async fn set_network(&self, fault: &Fault, network: NetworkState) -> String {
        let (ways, which) = self.proxies_of(fault).await;
        for way in &ways {
            way.set(network);
        }
        sleep(fault.duration).await;
        for way in &ways {
            way.set(NetworkState::Open);
        }
        format!("{network:?}, {which}, for {:?}", fault.duration)
    }

    async fn cut_network(&self, fault: &Fault) -> anyhow::Result<String> {
        let network = if fault.random_number & 1 == 0 { NetworkState::Reset } else { NetworkState::Stalled };
        Ok(self.set_network(fault, network).await)
    }

    async fn slow_network(&self, fault: &Fault) -> anyhow::Result<String> {
        let delay = Duration::from_millis(*pick_by_draw(&DELAYS_MS, fault.random_number));
        Ok(self.set_network(fault, NetworkState::Slow(delay)).await)
    }

    async fn jump_clock(&self, fault: &Fault) -> anyhow::Result<String> {
        let seconds = *pick_by_draw(&JUMPS, fault.random_number);
        let names = self.system.names();
        let (victims, which) = match (fault.random_number >> 8) % 3 {
            0 => (names, "all".to_owned()),
            1 => {
                let victim = pick_by_draw(&names, fault.random_number >> 16).clone();
                (vec![victim.clone()], victim)
            }
            _ => {
                let role =
                    *pick_by_draw(&["consumer", "manager", "reader", "gateway"], fault.random_number >> 16);
                (self.system.of_role(role), format!("every {role}"))
            }
        };
        for victim in &victims {
            self.system.set_clock_offset(victim, seconds)?;
        }
        sleep(fault.duration).await;
        for victim in &victims {
            self.system.set_clock_offset(victim, 0)?;
        }
        Ok(format!("{seconds:+} s and back, {which}, for {:?}", fault.duration))
    }
}
