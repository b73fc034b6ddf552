//! Carries a fault out: lets it happen, lets it last, and mends it.

use std::time::Duration;

use anyhow::Context;
use bson::doc;
use liverank_e2e::process::Signal;
use tokio::time::sleep;

use crate::clock::JUMP_SECONDS;
use crate::disk::SmallDisk;
use crate::parts::RealParts;
use crate::proxy::{NetworkMode, StoreProxy};
use crate::report::RunStory;
use crate::schedule::{FaultKind, FaultTarget, PlannedFault};
use crate::system::FaultSystem;
use crate::traffic::SystemTraffic;

/// How long a replica set may be without a primary.
const ELECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// How long secondaries cannot reach their primary before it is killed: long enough for writes that only it has, shorter
/// than what the set takes for a failure.
const UNREPLICATED_TIME: Duration = Duration::from_millis(1_500);
/// A network's delays for every 16 KiB, in ms: another room, another continent, a bad line.
const DELAYS_MS: [u64; 3] = [20, 120, 400];

/// What faults are carried out on.
pub struct FaultBench<'a> {
    /// The real parts.
    pub parts: &'a RealParts,
    /// Our processes.
    pub system: &'a FaultSystem,
    /// The load.
    pub traffic: &'a SystemTraffic,
    /// The process on embedded stores, where disk faults are to happen.
    pub disk: Option<&'a SmallDisk>,
    /// Where it is told.
    pub story: &'a RunStory,
}

/// Takes one of `from`, as the fault's draw says.
fn pick_by_draw<T>(from: &[T], draw: u64) -> &T {
    &from[(draw % from.len() as u64) as usize]
}

impl FaultBench<'_> {
    /// Carries it out. Answers what was done, in words.
    pub async fn carry_out_fault(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        // A record that could not be recognised if it went twice does not go while Kafka is disturbed.
        let calm = if fault.kind.fault_target() == FaultTarget::Kafka {
            Some(self.traffic.calm.write().await)
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
                Some(disk) => disk.check_full_disk(fault).await,
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
            self.story.note_remark(&remark);
        }
    }

    fn pick_victim(&self, fault: &PlannedFault) -> String {
        let FaultTarget::Role(role) = fault.kind.fault_target() else { return String::new() };
        pick_by_draw(&self.system.names_of_role(role), fault.draw).clone()
    }

    async fn kill_process(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let victim = self.pick_victim(fault);
        self.system.kill_process(&victim).await?;
        sleep(fault.lasts).await;
        self.system.restart_process(&victim).await?;
        Ok(victim)
    }

    async fn stop_consumer(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let victim = self.pick_victim(fault);
        self.system.signal_process(&victim, Signal::STOP).await?;
        sleep(fault.lasts).await;
        self.system.signal_process(&victim, Signal::CONT).await?;
        Ok(victim)
    }

    async fn cause_rebalance(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let orderly = fault.draw & 2 == 0;
        if fault.draw & 1 == 0 {
            let extra = self.system.another_consumer()?;
            sleep(fault.lasts).await;
            self.note_remark(extra.end_consumer(orderly).await?);
            let how = if orderly { "orderly" } else { "killed" };
            return Ok(format!("another one joins and leaves ({how})"));
        }
        let victim = self.pick_victim(fault);
        self.note_remark(self.system.stop_process(&victim).await?);
        sleep(fault.lasts).await;
        self.system.restart_process(&victim).await?;
        Ok(format!("{victim} leaves and joins"))
    }

    async fn restart_part(&self, part: &str, fault: &PlannedFault) -> anyhow::Result<String> {
        self.parts.run_testbed(&["kill", part]).await?;
        sleep(fault.lasts).await;
        self.parts.run_testbed(&["start", part]).await?;
        Ok(format!("killed for {:?}", fault.lasts))
    }

    async fn empty_redis(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        self.parts.run_testbed(&["kill", "redis"]).await?;
        sleep(fault.lasts).await;
        self.parts.run_testbed(&["wipe", "redis"]).await?;
        self.parts.run_testbed(&["start", "redis"]).await?;
        Ok(format!("killed for {:?}, back without data", fault.lasts))
    }

    async fn restore_old_redis(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        // Half of the time the copy is from moments ago, under load; else from when the round began, at rest.
        if fault.draw & 1 == 0 {
            self.parts.copy_redis().await?;
            sleep(Duration::from_secs(1)).await;
        }
        self.parts.run_testbed(&["kill", "redis"]).await?;
        sleep(fault.lasts).await;
        self.parts.restore_redis().await?;
        self.parts.run_testbed(&["start", "redis"]).await?;
        let age = if fault.draw & 1 == 0 { "1 s ago" } else { "the round's beginning" };
        Ok(format!("killed for {:?}, back as of {age}", fault.lasts))
    }

    async fn kill_primary(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let (primary, _) = self.parts.set.wait_for_primary(ELECTION_TIMEOUT).await?;
        let members = self.parts.set.member_count();
        let name = |nth: usize| format!("mongodb-{}", nth + 1);
        let others: Vec<usize> = (0..members).filter(|nth| *nth != primary).collect();
        let (victim, words) = match fault.draw % 3 {
            0 => (*pick_by_draw(&others, fault.draw / 3), "a secondary"),
            1 => (primary, "the primary"),
            _ => (primary, "the primary, with writes that only it has"),
        };
        let alone = fault.draw % 3 == 2;
        if alone {
            // The others cannot fetch what it writes.
            self.parts.mongodb_net[primary].set_others(NetworkMode::Reset);
            sleep(UNREPLICATED_TIME).await;
        }
        let killed = self.parts.run_testbed(&["kill", &name(victim)]).await;
        if alone {
            self.parts.mongodb_net[primary].set_others(NetworkMode::Open);
        }
        killed?;
        sleep(fault.lasts).await;
        // Without a primary by then, the one that was would be elected again and roll nothing back.
        self.parts.set.wait_for_primary(ELECTION_TIMEOUT).await?;
        self.parts.run_testbed(&["start", &name(victim)]).await?;
        Ok(format!("{words}, {}, for {:?}", name(victim), fault.lasts))
    }

    async fn step_primary_down(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let (primary, mut member) = self.parts.set.wait_for_primary(ELECTION_TIMEOUT).await?;
        // Not for long: it may be elected again soon. By force in half of the cases: then nobody has to have caught up.
        let force = fault.draw & 1 == 0;
        let catch_up = if force { 0 } else { 4 };
        let order = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": catch_up, "force": force };
        member.run_command("admin", order).await?;
        sleep(fault.lasts).await;
        let (now, _) = self.parts.set.wait_for_primary(ELECTION_TIMEOUT).await?;
        let how = if force { "by force" } else { "in order" };
        Ok(format!("{how}: from mongodb-{} to mongodb-{}", primary + 1, now + 1))
    }

    /// The proxies between our processes and what the fault is about.
    async fn proxies_of(&self, fault: &PlannedFault) -> (Vec<&StoreProxy>, &'static str) {
        match fault.kind.fault_target() {
            FaultTarget::Kafka => (vec![&*self.parts.kafka_net], "all"),
            FaultTarget::Redis => (vec![&*self.parts.redis_net], "all"),
            _ => match (fault.draw >> 8 & 1, self.parts.set.find_primary().await) {
                (0, Some(primary)) => (vec![&*self.parts.mongodb_net[primary]], "the primary"),
                _ => (self.parts.mongodb_net.iter().map(|proxy| &**proxy).collect(), "all"),
            },
        }
    }

    async fn set_network(&self, fault: &PlannedFault, network: NetworkMode) -> String {
        let (ways, which) = self.proxies_of(fault).await;
        for way in &ways {
            way.set_ours(network);
        }
        sleep(fault.lasts).await;
        for way in &ways {
            way.set_ours(NetworkMode::Open);
        }
        format!("{network:?}, {which}, for {:?}", fault.lasts)
    }

    async fn cut_network(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let network = if fault.draw & 1 == 0 { NetworkMode::Reset } else { NetworkMode::Silent };
        Ok(self.set_network(fault, network).await)
    }

    async fn slow_network(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let delay = Duration::from_millis(*pick_by_draw(&DELAYS_MS, fault.draw));
        Ok(self.set_network(fault, NetworkMode::Slow(delay)).await)
    }

    async fn jump_clock(&self, fault: &PlannedFault) -> anyhow::Result<String> {
        let seconds = *pick_by_draw(&JUMP_SECONDS, fault.draw);
        let names = self.system.process_names();
        let (victims, which) = match (fault.draw >> 8) % 3 {
            0 => (names, "all".to_owned()),
            1 => {
                let victim = pick_by_draw(&names, fault.draw >> 16).clone();
                (vec![victim.clone()], victim)
            }
            _ => {
                let role = *pick_by_draw(&["consumer", "manager", "reader", "gateway"], fault.draw >> 16);
                (self.system.names_of_role(role), format!("every {role}"))
            }
        };
        for victim in &victims {
            self.system.set_clock(victim, seconds)?;
        }
        sleep(fault.lasts).await;
        for victim in &victims {
            self.system.set_clock(victim, 0)?;
        }
        Ok(format!("{seconds:+} s and back, {which}, for {:?}", fault.lasts))
    }
}
