//! Interactions that count once per user, on videos of their own: each is sent twice, and every third one is taken back.
//! At the end each video must have exactly what is left.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::ValueEnum;
use futures::StreamExt;
use reqwest::{Client, Method};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::oracle::{FoundFault, OracleFaultKind};
use crate::pace;
use crate::patient::{PatientClient, RETRY_PAUSE};
use crate::record::{RunRecord, lock_ignoring_poison};
use crate::targets::TargetAddresses;

/// The number of videos whose interactions count once per user.
const VIDEOS: u32 = 4;
/// The number of users' interactions under way at once: when they are all waiting, the plan runs late.
const MAX_AT_ONCE: usize = 64;

/// A type of interaction that can count once per user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum UniqueKind {
    /// A view, which nobody takes back.
    View,
    /// A like, which an unlike takes back.
    Like,
    /// A share, which an unshare takes back.
    Share,
}

impl UniqueKind {
    const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Like => "like",
            Self::Share => "share",
        }
    }

    /// Returns the type that takes one back; `None` if none does.
    const fn taken_back_by(self) -> Option<&'static str> {
        match self {
            Self::View => None,
            Self::Like => Some("unlike"),
            Self::Share => Some("unshare"),
        }
    }

    /// Returns the member of `GET /videos/{video_id}` that counts the type.
    const fn counter(self) -> &'static str {
        match self {
            Self::View => "views",
            Self::Like => "likes",
            Self::Share => "shares",
        }
    }
}

/// The figures of what counts once per user.
#[derive(Debug, Clone, Serialize)]
pub struct UniqueFigures {
    /// The number of users' interactions that were acknowledged, each of them twice.
    pub sent_twice: u64,
    /// The number of those that were taken back.
    pub taken_back: u64,
}

/// The count that a video must have of one type: `sure` at least, and `open` more at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ExpectedCount {
    sure: u64,
    open: u64,
}

/// Sends interactions that count once per user.
pub struct UniqueInteractions {
    requests: PatientClient,
    prefix: String,
    kinds: Vec<UniqueKind>,
    expected: Mutex<BTreeMap<(u32, UniqueKind), ExpectedCount>>,
    sent_twice: AtomicU64,
    taken_back: AtomicU64,
}

impl UniqueInteractions {
    /// Creates interactions of these types, on videos whose names begin with `prefix`.
    pub fn new(client: Client, targets: TargetAddresses, prefix: &str, kinds: &[UniqueKind]) -> Self {
        Self {
            requests: PatientClient::new(client, targets),
            prefix: prefix.to_owned(),
            kinds: kinds.to_vec(),
            expected: Mutex::default(),
            sent_twice: AtomicU64::new(0),
            taken_back: AtomicU64::new(0),
        }
    }

    /// Begins the interactions of `rate` users a second until `stop`, and waits for those under way. What is refused is
    /// noted as a fault.
    pub async fn send(&self, rate: f64, record: &RunRecord, stop: &CancellationToken) {
        if rate <= 0.0 || self.kinds.is_empty() {
            return;
        }
        let sending = pace::paced_numbers(rate, stop).for_each_concurrent(MAX_AT_ONCE, async |number| {
            let (video, kind) = (number % VIDEOS, self.kinds[(number / VIDEOS) as usize % self.kinds.len()]);
            let sent = self.send_of_user(number, kind).await;
            if let Err(why) = &sent {
                record.note_fault(FoundFault::new(OracleFaultKind::Different, 1, why));
            }
            let mut expected = lock_ignoring_poison(&self.expected);
            let count = expected.entry((video, kind)).or_default();
            match sent {
                Ok(is_there) => count.sure += u64::from(is_there),
                Err(_) => count.open += 1,
            }
        });
        sending.await;
    }

    /// Sends one user's interaction twice, and takes every third one back. Returns whether it is there then.
    async fn send_of_user(&self, number: u32, kind: UniqueKind) -> Result<bool, String> {
        for time in ["one", "two"] {
            self.post(number, kind.name(), time).await?;
        }
        self.sent_twice.fetch_add(1, Relaxed);
        let Some(back) = kind.taken_back_by().filter(|_| is_taken_back(number, self.kinds.len())) else {
            return Ok(true);
        };
        self.post(number, back, "back").await?;
        self.taken_back.fetch_add(1, Relaxed);
        Ok(false)
    }

    async fn post(&self, number: u32, kind: &str, time: &str) -> Result<(), String> {
        let body = json!({
            "video_id": self.video(number % VIDEOS), "user_id": format!("{}-qu{number}", self.prefix), "type": kind,
            "event_id": format!("{}-q{number}-{time}", self.prefix),
        });
        self.requests.until_acknowledged(&Method::POST, "/interact", &body).await
    }

    /// Checks that each video has what is left; what is wrong at the deadline is noted as a fault. Returns whether all is
    /// right.
    pub async fn verify(&self, record: &RunRecord, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let wrong = self.compare().await;
            if wrong.is_empty() || Instant::now() >= deadline {
                let is_right = wrong.is_empty();
                for fault in wrong {
                    record.note_fault(fault);
                }
                return is_right;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn compare(&self) -> Vec<FoundFault> {
        let expected = lock_ignoring_poison(&self.expected).clone();
        let mut wrong = Vec::new();
        for ((video, kind), due) in expected {
            let id = self.video(video);
            match self.requests.get(&format!("/videos/{id}")).await {
                Ok(answer) => wrong.extend(due.compare(&id, kind, answer[kind.counter()].as_u64())),
                Err(why) => wrong.push(FoundFault::new(OracleFaultKind::Missing, 1, why)),
            }
        }
        wrong
    }

    fn video(&self, video: u32) -> String {
        format!("{}-q{video}", self.prefix)
    }

    /// Returns the figures; `None` if nothing was sent.
    pub fn figures(&self) -> Option<UniqueFigures> {
        let (sent_twice, taken_back) = (self.sent_twice.load(Relaxed), self.taken_back.load(Relaxed));
        (sent_twice > 0).then_some(UniqueFigures { sent_twice, taken_back })
    }
}

/// Returns whether the interaction with this number is taken back: every third one of each video and type.
const fn is_taken_back(number: u32, kinds: usize) -> bool {
    (number as usize / VIDEOS as usize / kinds).is_multiple_of(3)
}

impl ExpectedCount {
    fn compare(self, video: &str, kind: UniqueKind, found: Option<u64>) -> Option<FoundFault> {
        let Self { sure, open } = self;
        let found = found.unwrap_or_default();
        let what = || format!("{video} has {found} {}, of {sure} users (and {open} open)", kind.counter());
        if found < sure {
            return Some(FoundFault::new(OracleFaultKind::Missing, sure - found, what()));
        }
        let most = sure + open;
        (found > most).then(|| FoundFault::new(OracleFaultKind::Repeated, found - most, what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_of_each_video_and_type_is_taken_back() {
        for kinds in 1..4_usize {
            let mut taken: BTreeMap<(u32, usize), (u32, u32)> = BTreeMap::new();
            for number in 0..VIDEOS * 36 {
                let of = taken.entry((number % VIDEOS, (number / VIDEOS) as usize % kinds)).or_default();
                of.0 += 1;
                of.1 += u32::from(is_taken_back(number, kinds));
            }
            assert_eq!(taken.len(), VIDEOS as usize * kinds);
            assert!(taken.values().all(|(sent, back)| sent == &(back * 3)), "{taken:?}");
        }
    }

    #[test]
    fn a_count_is_right_between_what_is_sure_and_what_is_open() {
        let due = ExpectedCount { sure: 5, open: 2 };
        let wrong = |found| {
            due.compare("v", UniqueKind::Like, Some(found)).map(|fault| (fault.kind, fault.event_count))
        };
        assert_eq!(wrong(5), None);
        assert_eq!(wrong(7), None);
        assert_eq!(wrong(3), Some((OracleFaultKind::Missing, 2)));
        assert_eq!(wrong(10), Some((OracleFaultKind::Repeated, 3)));
    }
}
