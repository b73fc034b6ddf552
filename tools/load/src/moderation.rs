//! The moderation of a run: comments on videos of its own are pinned, deleted, held, reported, and their users banned,
//! muted and shadow-banned, so that the counts of all other videos stay known. Each action is checked.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use reqwest::{Client, Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::oracle::{FoundFault, OracleFaultKind};
use crate::pace;
use crate::patient::{EFFECT_TIMEOUT, PatientClient, REPORTS_RULE, RETRY_PAUSE};
use crate::record::{LatencyHistogram, RunRecord, lock_ignoring_poison};
use crate::report::TimeDistribution;
use crate::targets::TargetAddresses;

mod deed;
mod told;

use deed::{PlannedAction, VIDEOS};
use told::ToldDeletions;

/// The number of actions under way at once: when they are all waiting, the plan runs late.
const MAX_ACTIONS_AT_ONCE: usize = 64;
/// The number of reports in a run. A gateway takes 60 an hour of a user, or of an address where no tokens are asked for.
const MAX_REPORTS: u64 = 40;
/// The number of a video's newest comments in which one that was just posted is looked for.
const NEWEST: usize = 200;
/// The number of a video's newest released comments that are looked for at the end, of a page of a thousand.
const NEWEST_RELEASED: usize = 500;

/// The figures of a run's moderation.
#[derive(Debug, Clone, Serialize)]
pub struct ModerationFigures {
    /// The number of acknowledged actions.
    pub actions: u64,
    /// The number of acknowledged actions of each kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// The number of actions that were not acknowledged: refused for good, or given up.
    pub refused: u64,
    /// The times from an action's first try to its acknowledgement, waiting for its comment to be archived included.
    pub latency: TimeDistribution,
    /// The times from the acknowledgement of a ban or mute until a comment of its user is refused.
    pub in_force: TimeDistribution,
    /// The times from the acknowledgement of a deletion until a viewer who asked was told of it.
    pub told: TimeDistribution,
}

/// What must be seen of the moderated comments when the system is at rest, by video.
#[derive(Debug, Clone, Default)]
struct ExpectedComments {
    /// The texts that nobody may be shown: deleted, rejected, or of a shadow-banned user.
    hidden: Vec<(String, String)>,
    /// The texts that must be shown: released ones.
    shown: Vec<(String, String)>,
    /// The id of a comment that was pinned, the last one that was acknowledged.
    pinned: BTreeMap<String, String>,
}

/// Moderates comments of its own.
pub struct LoadModerator {
    requests: PatientClient,
    targets: TargetAddresses,
    prefix: String,
    acknowledged_actions: Mutex<BTreeMap<PlannedAction, u64>>,
    refused_actions: AtomicU64,
    reports: AtomicU64,
    latency: LatencyHistogram,
    ban_effect_latency: LatencyHistogram,
    deletions: ToldDeletions,
    expected: Mutex<ExpectedComments>,
}

impl LoadModerator {
    /// Creates a moderator whose names begin with `prefix`.
    pub fn new(client: Client, targets: TargetAddresses, prefix: &str) -> Self {
        Self {
            requests: PatientClient::new(client, targets.clone()),
            targets,
            prefix: prefix.to_owned(),
            acknowledged_actions: Mutex::default(),
            refused_actions: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            latency: LatencyHistogram::default(),
            ban_effect_latency: LatencyHistogram::default(),
            deletions: ToldDeletions::default(),
            expected: Mutex::default(),
        }
    }

    /// Begins `rate` actions a second until `stop`, and waits for those under way. An action that is refused, or that
    /// has no effect in time, is recorded as a fault of the run.
    pub async fn run_actions(&self, rate: f64, record: &RunRecord, stop: &CancellationToken) {
        if rate <= 0.0 {
            return;
        }
        let viewer = format!("{}-mv", self.prefix);
        let watching = join_all((0..VIDEOS).map(async |number| {
            self.deletions.watch(&self.targets, &self.video_id(number), &viewer).await;
        }));
        tokio::select! {
            _ = watching => {}
            acted = self.act(rate, record, stop) => acted.unwrap_or_else(|why| self.note_refused(record, why)),
        }
    }

    async fn act(&self, rate: f64, record: &RunRecord, stop: &CancellationToken) -> Result<(), String> {
        let rule = json!({"videoid": self.held_video(), "rules": {"hold_all": true}});
        self.requests.until_acknowledged(&Method::POST, "/moderation/rules", &rule).await?;
        self.deletions.wait_until_greeted(VIDEOS as usize).await?;
        let acting =
            pace::paced_numbers(rate, stop).for_each_concurrent(MAX_ACTIONS_AT_ONCE, async |number| {
                if let Err(why) = self.post_and_moderate(number).await {
                    self.note_refused(record, why);
                }
            });
        acting.await;
        self.deletions.wait_until_told().await
    }

    fn note_refused(&self, record: &RunRecord, why: String) {
        self.refused_actions.fetch_add(1, Relaxed);
        record.note_fault(FoundFault::new(OracleFaultKind::Different, 1, why));
    }

    /// Posts a comment and moderates it; the error says what was refused or had no effect.
    async fn post_and_moderate(&self, number: u32) -> Result<(), String> {
        let deed = PlannedAction::of(number);
        let (user, text) = (format!("{}-mu{number}", self.prefix), comment_text(number));
        let video = if deed.is_on_a_held_comment() { self.held_video() } else { self.video_id(number) };
        let (id, text) = if deed.is_on_a_held_comment() {
            self.comment_until_held(&user, &text).await?
        } else {
            let id = self.post_comment(&video, &user, &text).await?.ok_or("a new user was refused")?;
            (id, text)
        };
        if deed == PlannedAction::Dismiss && !self.report(&video, &id).await? {
            return Ok(());
        }
        let (method, path, body) = deed.request(&video, &id, &user);
        let began = Instant::now();
        self.requests.until_acknowledged(&method, &path, &body).await?;
        self.latency.note_latency(number as usize, began.elapsed().as_micros() as u64);
        *lock_ignoring_poison(&self.acknowledged_actions).entry(deed).or_default() += 1;
        match deed {
            PlannedAction::Pin => drop(lock_ignoring_poison(&self.expected).pinned.insert(video, id)),
            PlannedAction::Delete => {
                self.deletions.note_acknowledged(id);
                lock_ignoring_poison(&self.expected).hidden.push((video, text));
            }
            PlannedAction::Reject => lock_ignoring_poison(&self.expected).hidden.push((video, text)),
            PlannedAction::Release => lock_ignoring_poison(&self.expected).shown.push((video, text)),
            PlannedAction::Ban | PlannedAction::Mute => {
                self.comment_until_refused(number, &video, &user).await?;
            }
            PlannedAction::Shadow => self.comment_until_hidden(number, &video, &user).await?,
            PlannedAction::Dismiss => {}
        }
        Ok(())
    }

    /// Reports a comment; false if no more reports are taken.
    async fn report(&self, video: &str, id: &str) -> Result<bool, String> {
        let number = self.reports.fetch_add(1, Relaxed);
        if number >= MAX_REPORTS {
            return Ok(false);
        }
        let body = json!({"userid": format!("{}-mr{number}", self.prefix), "reason": "other"});
        let path = format!("/comments/{video}/{id}/reports");
        let said = self.requests.until_acknowledged(&Method::POST, &path, &body).await;
        // Other runs may have used up what the address may report in an hour.
        said.map(|()| true).or_else(|why| if why.contains(REPORTS_RULE) { Ok(false) } else { Err(why) })
    }

    async fn comment_until_refused(&self, number: u32, video: &str, user: &str) -> Result<(), String> {
        let began = Instant::now();
        while self
            .post_comment(video, user, &format!("said by {user} {:?}", began.elapsed()))
            .await?
            .is_some()
        {
            if began.elapsed() > EFFECT_TIMEOUT {
                return Err(format!("{user} comments {EFFECT_TIMEOUT:?} after being banned"));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.ban_effect_latency.note_latency(number as usize, began.elapsed().as_micros() as u64);
        Ok(())
    }

    /// Comments as a shadow-banned user, each time before another user does, until the other comment alone is shown.
    async fn comment_until_hidden(&self, number: u32, video: &str, user: &str) -> Result<(), String> {
        let began = Instant::now();
        let other = format!("{}-mo{number}", self.prefix);
        for round in 0_u32.. {
            let (hidden, marker) = (format!("hidden {number}.{round}."), format!("marker {number}.{round}."));
            self.post_comment(video, user, &hidden).await?.ok_or("a shadow-banned user was refused")?;
            self.post_comment(video, &other, &marker).await?.ok_or("a new user was refused")?;
            let shown = loop {
                let page = self.history(video, NEWEST).await?;
                if page.contains(&marker) {
                    break page;
                }
                if began.elapsed() > EFFECT_TIMEOUT {
                    return Err(format!("{video} does not show {marker:?}"));
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            };
            if !shown.contains(&hidden) {
                lock_ignoring_poison(&self.expected).hidden.push((video.to_owned(), hidden));
                return Ok(());
            }
            if began.elapsed() > EFFECT_TIMEOUT {
                break;
            }
        }
        Err(format!("{user} is shown {EFFECT_TIMEOUT:?} after being shadow-banned"))
    }

    /// Posts a comment on the video whose comments are held, until one is: a rule is in force a moment after it was
    /// acknowledged. Returns the id and the text of the one that is held.
    async fn comment_until_held(&self, user: &str, text: &str) -> Result<(String, String), String> {
        let began = Instant::now();
        for round in 0_u32.. {
            let text = format!("{text} {round}.");
            let body = comment_body(&self.held_video(), user, &text);
            let answer = self.requests.until_answered(&Method::POST, "/comment", &body).await?;
            if let Some(id) = answer.body["comment"]["id"].as_str().filter(|_| answer.body["held"] == true) {
                return Ok((id.to_owned(), text));
            }
            if !answer.status.is_success() || began.elapsed() > EFFECT_TIMEOUT {
                return Err(format!("a comment that is to be held got {} {}", answer.status, answer.body));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        unreachable!("rounds have no end")
    }

    /// Posts a comment, and returns its id; `None` if its user is banned or muted.
    async fn post_comment(&self, video: &str, user: &str, text: &str) -> Result<Option<String>, String> {
        let body = comment_body(video, user, text);
        let answer = self.requests.until_answered(&Method::POST, "/comment", &body).await?;
        if answer.status == StatusCode::FORBIDDEN
            && (answer.body["rule"] == "ban" || answer.body["rule"] == "mute")
        {
            return Ok(None);
        }
        let id = answer.body["comment"]["id"].as_str().filter(|_| answer.status.is_success());
        id.map(|id| Some(id.to_owned()))
            .ok_or_else(|| format!("a comment got {} {}", answer.status, answer.body))
    }

    /// Returns a video's newest comments, as the text of the page.
    async fn history(&self, video: &str, limit: usize) -> Result<String, String> {
        Ok(self.requests.get(&format!("/comments/{video}?limit={limit}")).await?.to_string())
    }

    /// Checks that histories show what they must and nothing that they must not, and that a video's pin is in force; what
    /// is wrong at the deadline is noted as a fault. Returns whether all is right.
    pub async fn verify(&self, record: &RunRecord, patience: Duration) -> bool {
        let expected = lock_ignoring_poison(&self.expected).clone();
        // Pins of the run were under way at once, so nobody knows which of them was the last one.
        for (video, id) in &expected.pinned {
            let (method, path, body) = PlannedAction::Pin.request(video, id, "");
            if let Err(why) = self.requests.until_acknowledged(&method, &path, &body).await {
                self.note_refused(record, why);
            }
        }
        let deadline = Instant::now() + patience;
        loop {
            let wrong = self.compare(&expected).await;
            if wrong.is_empty() || Instant::now() >= deadline {
                let is_right = wrong.is_empty();
                for what in wrong {
                    record.note_fault(FoundFault::new(OracleFaultKind::Different, 1, what));
                }
                return is_right;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn compare(&self, expected: &ExpectedComments) -> Vec<String> {
        let mut wrong = Vec::new();
        let videos = (0..VIDEOS).map(|number| self.video_id(number)).chain([self.held_video()]);
        for video in videos {
            let of = |texts: &[(String, String)]| -> Vec<String> {
                texts.iter().filter(|(of, _)| *of == video).map(|(_, text)| text.clone()).collect()
            };
            let (hidden, mut shown) = (of(&expected.hidden), of(&expected.shown));
            shown.drain(..shown.len().saturating_sub(NEWEST_RELEASED));
            if hidden.is_empty() && shown.is_empty() {
                continue;
            }
            match self.history(&video, 1000).await {
                Ok(page) => wrong.extend(compare_page(&video, &page, &hidden, &shown)),
                Err(why) => wrong.push(why),
            }
        }
        for (video, id) in &expected.pinned {
            match self.requests.get(&format!("/videos/{video}")).await {
                Ok(answer) if answer["pinned"]["id"] == id.as_str() => {}
                Ok(answer) => wrong.push(format!("{} is pinned on {video}, and not {id}", answer["pinned"])),
                Err(why) => wrong.push(why),
            }
        }
        wrong
    }

    fn video_id(&self, number: u32) -> String {
        // No name of the videos whose lists and counts are compared begins so.
        format!("{}-m{}", self.prefix, number % VIDEOS)
    }

    fn held_video(&self) -> String {
        format!("{}-mh", self.prefix)
    }

    /// Returns the figures; `None` if nothing was to be moderated.
    pub fn figures(&self) -> Option<ModerationFigures> {
        let by_kind: BTreeMap<&'static str, u64> = lock_ignoring_poison(&self.acknowledged_actions)
            .iter()
            .map(|(deed, count)| (deed.name(), *count))
            .collect();
        let (actions, refused) = (by_kind.values().sum::<u64>(), self.refused_actions.load(Relaxed));
        (actions + refused > 0).then(|| ModerationFigures {
            actions,
            by_kind,
            refused,
            latency: TimeDistribution::from_histogram(&self.latency.merged_histogram()),
            in_force: TimeDistribution::from_histogram(&self.ban_effect_latency.merged_histogram()),
            told: TimeDistribution::from_histogram(&self.deletions.latency().merged_histogram()),
        })
    }
}

fn comment_body(video: &str, user: &str, text: &str) -> Value {
    json!({"videoid": video, "userid": user, "comment": text, "idempotency_key": text})
}

/// Compares the text of a page of comments with the texts that it must not and must have.
fn compare_page(video: &str, page: &str, hidden: &[String], shown: &[String]) -> Vec<String> {
    let there = hidden.iter().filter(|text| page.contains(text.as_str()));
    let missing = shown.iter().filter(|text| !page.contains(text.as_str()));
    there
        .map(|text| format!("{video} shows {text:?}, which nobody may be shown"))
        .chain(missing.map(|text| format!("{video} does not show {text:?}, which was released")))
        .collect()
}

/// Returns the text of a moderated comment, which no other one contains.
fn comment_text(number: u32) -> String {
    format!("moderated {number}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_video_has_each_deed_and_each_text_is_one_of_its_own() {
        let mut done: Vec<(u32, PlannedAction)> =
            (0..VIDEOS * 16).map(|number| (number % VIDEOS, PlannedAction::of(number))).collect();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len(), VIDEOS as usize * PlannedAction::ALL.len());
        let texts: Vec<String> = (0..200).map(comment_text).collect();
        assert!(
            texts.iter().all(|text| texts.iter().filter(|other| other.contains(text.as_str())).count() == 1)
        );
    }

    #[test]
    fn what_is_hidden_must_not_be_there_and_what_was_released_must() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (hidden, shown) = (texts(&["gone"]), texts(&["back"]));
        assert_eq!(compare_page("v", "back, and more", &hidden, &shown), Vec::<String>::new());
        assert_eq!(compare_page("v", "gone", &hidden, &shown).len(), 2);
        assert_eq!(compare_page("v", "gone, back", &hidden, &shown).len(), 1);
    }
}
