//! Carries out faults: causes a fault, waits for its duration, and repairs it.

use std::time::Duration;

use anyhow::Context;
use bson::doc;
use liverank_e2e::process::Signal;
use tokio::time::sleep;

use crate::clock::JUMPS;
use crate::disk::Disk;
use crate::parts::Parts;
use crate::proxy::{Network, Proxy};
use crate::report::Story;
use crate::schedule::{Fault, Kind, On};
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
pub struct Bench<'a> {
    /// Kafka, Redis and MongoDB, with the proxies before them.
    pub parts: &'a Parts,
    /// The processes under test.
    pub system: &'a System,
    /// The load on the system, with its viewers.
    pub traffic: &'a Traffic,
    /// The process on embedded stores; `None` if the run has no disk faults.
    pub disk: Option<&'a Disk>,
    /// The output of the run, which gets remarks.
    pub story: &'a Story,
}

/// Returns the item of `from` that the fault's random number selects.
fn pick_by_draw<T>(from: &[T], draw: u64) -> &T {
    &from[(draw % from.len() as u64) as usize]
}

impl Bench<'_> {
    /// Carries out the fault and repairs it; returns in words what was done.
    pub async fn carry_out(&self, fault: &Fault) -> anyhow::Result<String> {
        // Records without an id are not sent while Kafka is disturbed: the test could not recognise such a record if
        // it were appended twice.
        let calm = if fault.kind.on() == On::Kafka { Some(self.traffic.calm.write().await) } else { None };
        let done = match fault.kind {
            Kind::StopConsumer => self.stop_consumer(fault).await,
            Kind::Rebalance => self.cause_rebalance(fault).await,
            Kind::KafkaRestart => self.restart_part("kafka", fault).await,
            Kind::RedisRestart => self.restart_part("redis", fault).await,
            Kind::RedisEmpty => self.empty_redis(fault).await,
            Kind::RedisOld => self.restore_old_redis(fault).await,
            Kind::MongodbKill => self.kill_primary(fault).await,
            Kind::MongodbStepDown => self.step_primary_down(fault).await,
            Kind::CutKafka | Kind::CutRedis | Kind::CutMongodb => self.cut_network(fault).await,
            Kind::SlowKafka | Kind::SlowRedis | Kind::SlowMongodb => self.slow_network(fault).await,
            Kind::DiskFull => match self.disk {
                Some(disk) => disk.fill(fault).await,
                None => anyhow::bail!("there is no disk to fill"),
            },
            Kind::ClockJump => self.jump_clock(fault).await,
            Kind::KillGateway
            | Kind::KillConsumer
            | Kind::KillWebsocket
            | Kind::KillComment
            | Kind::KillReader
            | Kind::KillManager
            | Kind::KillStatistics => self.kill_process(fault).await,
        };
        drop(calm);
        done.with_context(|| fault.kind.name())
    }

    fn note_remark(&self, remark: Option<String>) {
        if let Some(remark) = remark {
            self.story.remark(&remark);
        }
    }

    fn pick_victim(&self, fault: &Fault) -> String {
        let On::Role(role) = fault.kind.on() else { return String::new() };
        pick_by_draw(&self.system.of_role(role), fault.draw).clone()
    }

    async fn kill_process(&self, fault: &Fault) -> anyhow::Result<String> {
        let victim = self.pick_victim(fault);
        self.system.kill(&victim).await?;
        sleep(fault.lasts).await;
        self.system.restart(&victim).await?;
        Ok(victim)
    }

    async fn stop_consumer(&self, fault: &Fault) -> anyhow::Result<String> {
        let victim = self.pick_victim(fault);
        self.system.signal(&victim, Signal::STOP).await?;
        sleep(fault.lasts).await;
        self.system.signal(&victim, Signal::CONT).await?;
        Ok(victim)
    }

    async fn cause_rebalance(&self, fault: &Fault) -> anyhow::Result<String> {
        let orderly = fault.draw & 2 == 0;
        if fault.draw & 1 == 0 {
            let extra = self.system.another_consumer()?;
            sleep(fault.lasts).await;
            self.note_remark(extra.leave(orderly).await?);
            let how = if orderly { "orderly" } else { "killed" };
            return Ok(format!("another one joins and leaves ({how})"));
        }
        let victim = self.pick_victim(fault);
        self.note_remark(self.system.stop(&victim).await?);
        sleep(fault.lasts).await;
        self.system.restart(&victim).await?;
        Ok(format!("{victim} leaves and joins"))
    }

    async fn restart_part(&self, part: &str, fault: &Fault) -> anyhow::Result<String> {
        self.parts.testbed(&["kill", part]).await?;
        sleep(fault.lasts).await;
        self.parts.testbed(&["start", part]).await?;
        Ok(format!("killed for {:?}", fault.lasts))
    }

    async fn empty_redis(&self, fault: &Fault) -> anyhow::Result<String> {
        self.parts.testbed(&["kill", "redis"]).await?;
        sleep(fault.lasts).await;
        self.parts.testbed(&["wipe", "redis"]).await?;
        self.parts.testbed(&["start", "redis"]).await?;
        Ok(format!("killed for {:?}, back without data", fault.lasts))
    }

    async fn restore_old_redis(&self, fault: &Fault) -> anyhow::Result<String> {
        // In half of the cases the copy is one second old and taken under load; else it is from the beginning of the
        // round, taken at rest.
        if fault.draw & 1 == 0 {
            self.parts.copy_redis().await?;
            sleep(Duration::from_secs(1)).await;
        }
        self.parts.testbed(&["kill", "redis"]).await?;
        sleep(fault.lasts).await;
        self.parts.restore_redis().await?;
        self.parts.testbed(&["start", "redis"]).await?;
        let age = if fault.draw & 1 == 0 { "1 s ago" } else { "the round's beginning" };
        Ok(format!("killed for {:?}, back as of {age}", fault.lasts))
    }

    async fn kill_primary(&self, fault: &Fault) -> anyhow::Result<String> {
        let (primary, _) = self.parts.set.writable(ELECTION_TIMEOUT).await?;
        let members = self.parts.set.len();
        let name = |nth: usize| format!("mongodb-{}", nth + 1);
        let others: Vec<usize> = (0..members).filter(|nth| *nth != primary).collect();
        let (victim, words) = match fault.draw % 3 {
            0 => (*pick_by_draw(&others, fault.draw / 3), "a secondary"),
            1 => (primary, "the primary"),
            _ => (primary, "the primary, with writes that only it has"),
        };
        let alone = fault.draw % 3 == 2;
        if alone {
            // The secondaries cannot fetch what the primary writes.
            self.parts.mongodb_net[primary].set_others(Network::Reset);
            sleep(UNREPLICATED_TIME).await;
        }
        let killed = self.parts.testbed(&["kill", &name(victim)]).await;
        if alone {
            self.parts.mongodb_net[primary].set_others(Network::Open);
        }
        killed?;
        sleep(fault.lasts).await;
        // Waits for another primary: without one, the killed primary would be elected again and roll nothing back.
        self.parts.set.writable(ELECTION_TIMEOUT).await?;
        self.parts.testbed(&["start", &name(victim)]).await?;
        Ok(format!("{words}, {}, for {:?}", name(victim), fault.lasts))
    }

    async fn step_primary_down(&self, fault: &Fault) -> anyhow::Result<String> {
        let (primary, mut member) = self.parts.set.writable(ELECTION_TIMEOUT).await?;
        // The primary may be elected again after 5 s. In half of the cases it steps down by force, that is without a
        // secondary that has caught up.
        let force = fault.draw & 1 == 0;
        let catch_up = if force { 0 } else { 4 };
        let order = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": catch_up, "force": force };
        member.command("admin", order).await?;
        sleep(fault.lasts).await;
        let (now, _) = self.parts.set.writable(ELECTION_TIMEOUT).await?;
        let how = if force { "by force" } else { "in order" };
        Ok(format!("{how}: from mongodb-{} to mongodb-{}", primary + 1, now + 1))
    }

    /// Returns the proxies between our processes and the store that the fault concerns, with a word for which of them.
    async fn proxies_of(&self, fault: &Fault) -> (Vec<&Proxy>, &'static str) {
        match fault.kind.on() {
            On::Kafka => (vec![&*self.parts.kafka_net], "all"),
            On::Redis => (vec![&*self.parts.redis_net], "all"),
            _ => match (fault.draw >> 8 & 1, self.parts.set.primary().await) {
                (0, Some(primary)) => (vec![&*self.parts.mongodb_net[primary]], "the primary"),
                _ => (self.parts.mongodb_net.iter().map(|proxy| &**proxy).collect(), "all"),
            },
        }
    }

    async fn set_network(&self, fault: &Fault, network: Network) -> String {
        let (ways, which) = self.proxies_of(fault).await;
        for way in &ways {
            way.set(network);
        }
        sleep(fault.lasts).await;
        for way in &ways {
            way.set(Network::Open);
        }
        format!("{network:?}, {which}, for {:?}", fault.lasts)
    }

    async fn cut_network(&self, fault: &Fault) -> anyhow::Result<String> {
        let network = if fault.draw & 1 == 0 { Network::Reset } else { Network::Silent };
        Ok(self.set_network(fault, network).await)
    }

    async fn slow_network(&self, fault: &Fault) -> anyhow::Result<String> {
        let delay = Duration::from_millis(*pick_by_draw(&DELAYS_MS, fault.draw));
        Ok(self.set_network(fault, Network::Slow(delay)).await)
    }

    async fn jump_clock(&self, fault: &Fault) -> anyhow::Result<String> {
        let seconds = *pick_by_draw(&JUMPS, fault.draw);
        let names = self.system.names();
        let (victims, which) = match (fault.draw >> 8) % 3 {
            0 => (names, "all".to_owned()),
            1 => {
                let victim = pick_by_draw(&names, fault.draw >> 16).clone();
                (vec![victim.clone()], victim)
            }
            _ => {
                let role = *pick_by_draw(&["consumer", "manager", "reader", "gateway"], fault.draw >> 16);
                (self.system.of_role(role), format!("every {role}"))
            }
        };
        for victim in &victims {
            self.system.clock(victim, seconds)?;
        }
        sleep(fault.lasts).await;
        for victim in &victims {
            self.system.clock(victim, 0)?;
        }
        Ok(format!("{seconds:+} s and back, {which}, for {:?}", fault.lasts))
    }
}
