//! The moderator: while faults happen it comments, deletes, pins, bans, mutes, decides on held comments, likes, takes
//! likes back, and says what videos are. What was acknowledged is kept, for [`crate::moderated`] and
//! [`crate::declared`].
//!
//! There is one moderator, which waits for each acknowledgement, so the order of what it did is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use liverank_load::record::lock_ignoring_poison;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::traffic::Traffic;

/// Actions a second while nothing fails.
const ACTIONS_A_SECOND: f64 = 12.0;
/// The pause before an action that was not acknowledged is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The time until a rule is in force at every comment service, on a busy machine.
const RULE_TIMEOUT: Duration = Duration::from_mins(1);
/// The time limit of an answer: longer than a server's own wait for the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// The prefix of the names of the moderator's videos, users and comments.
pub const PREFIX: &str = "m-";
/// The number of videos on which the moderator comments.
const VIDEOS: usize = 3;
/// The video on which every comment is held.
pub const HELD_VIDEO: &str = "m-held";
/// The category of the board by category, and another one.
const CATEGORIES: [&str; 2] = ["pets", "other"];

/// A comment that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownComment {
    /// The video of the comment.
    pub video: String,
    /// The id of the comment.
    pub id: String,
    /// The text of the comment, which no other comment contains.
    pub text: String,
}

/// A ban or mute of a user; without a video it is everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// The restricted user.
    pub user: String,
    /// `ban` or `mute`.
    pub kind: &'static str,
    /// The video on which the user is restricted; `None`: everywhere.
    pub video: Option<String>,
}

/// The moderation actions that the system has acknowledged, with the state that they must lead to.
#[derive(Debug, Clone, Default)]
pub struct AcknowledgedModeration {
    /// Comments that must be shown, oldest first.
    pub shown: VecDeque<KnownComment>,
    /// Comments that must not be shown: deleted ones, and held ones that were rejected.
    pub gone: Vec<KnownComment>,
    /// Held comments on which nobody has decided yet.
    pub waiting: VecDeque<KnownComment>,
    /// Bans and mutes in force.
    pub restrictions: VecDeque<Restriction>,
    /// Users whose ban or mute was ended.
    pub lifted: Vec<Restriction>,
    /// The users who like a video, by video.
    pub likers: BTreeMap<String, BTreeSet<String>>,
    /// The title that a video was given last, by video.
    pub titles: BTreeMap<String, String>,
    /// The comment that was pinned last, by video.
    pub pinned: BTreeMap<String, String>,
}

/// An action of the moderator.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ModeratorAction {
    Comment { video: String, user: String, text: String },
    Delete(KnownComment),
    Pin(KnownComment),
    Restrict(Restriction),
    Lift(Restriction),
    Decide { held: KnownComment, is_released: bool },
    Like { video: String, user: String, is_back: bool, number: usize },
    Describe { video: String, title: String, category: &'static str },
}

/// The outcome of an action.
enum Outcome {
    Done(Value),
    /// An earlier try, whose answer was lost, may have been the one that decided.
    Unknown,
}

/// The moderator, with what was acknowledged to it.
pub struct Moderator {
    client: Client,
    gateways: Vec<String>,
    acknowledged: Mutex<AcknowledgedModeration>,
    faults: Mutex<Vec<String>>,
}

impl Moderator {
    /// Creates the moderator, and has all comments on [`HELD_VIDEO`] held, once every comment service knows that.
    pub async fn begin(gateways: &[String], comment_services: &[String]) -> anyhow::Result<Arc<Self>> {
        let moderator = Self {
            client: Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()?,
            gateways: gateways.to_vec(),
            acknowledged: Mutex::default(),
            faults: Mutex::default(),
        };
        let body = json!({"videoid": HELD_VIDEO, "rules": {"hold_all": true}});
        let url = format!("{}/moderation/rules", gateways[0]);
        let answer = liverank_e2e::patient::answer_of(moderator.client.post(url).json(&body)).await;
        ensure!(answer.status().is_success(), "the rule is not taken: {}", answer.text().await?);
        for service in comment_services {
            tokio::time::timeout(RULE_TIMEOUT, moderator.wait_until_held(service))
                .await
                .with_context(|| format!("{service} does not hold comments"))?;
        }
        Ok(Arc::new(moderator))
    }

    /// Waits until a comment service holds comments on [`HELD_VIDEO`]: a rule is in force once a consumer has counted it.
    async fn wait_until_held(&self, service: &str) {
        let body = json!({"userid": "m-probe", "videoid": HELD_VIDEO, "comment": "whether this is held"});
        loop {
            if let Ok(answer) = self.client.post(format!("{service}/comment")).json(&body).send().await
                && answer.json::<Value>().await.is_ok_and(|said| said["held"] == true)
            {
                return;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Acts while the load is on, until the run is over.
    pub fn moderate(self: Arc<Self>, traffic: Arc<Traffic>) {
        tokio::spawn(async move {
            for number in 0.. {
                let Some(room) = traffic.wait_for_turn(ACTIONS_A_SECOND).await else { return };
                let action = next_action(number, &lock_ignoring_poison(&self.acknowledged));
                if let Some(action) = action {
                    self.carry_out(&action).await;
                }
                drop(room);
            }
        });
    }

    /// Returns what was acknowledged so far.
    pub fn acknowledged(&self) -> AcknowledgedModeration {
        lock_ignoring_poison(&self.acknowledged).clone()
    }

    /// Returns what was refused although it must not be.
    pub fn faults(&self) -> Vec<String> {
        lock_ignoring_poison(&self.faults).clone()
    }

    async fn carry_out(&self, action: &ModeratorAction) {
        match self.until_acknowledged(action).await {
            Ok(Outcome::Done(answer)) => {
                if let Err(error) =
                    note_acknowledged(&mut lock_ignoring_poison(&self.acknowledged), action, &answer)
                {
                    lock_ignoring_poison(&self.faults).push(format!("{action:?}: {error:#}"));
                }
            }
            // Whether a comment is shown on which somebody has decided meanwhile is not known.
            Ok(Outcome::Unknown) => {
                lock_ignoring_poison(&self.acknowledged).waiting.pop_front();
            }
            Err(error) => lock_ignoring_poison(&self.faults).push(format!("{action:?}: {error:#}")),
        }
    }

    /// Sends an action, to one gateway after the other, until it is acknowledged; an error if it is refused for good.
    async fn until_acknowledged(&self, action: &ModeratorAction) -> anyhow::Result<Outcome> {
        let mut is_unsure = false;
        for attempt in 0.. {
            let gateway = &self.gateways[attempt % self.gateways.len()];
            if let Ok(answer) = self.request(gateway, action).send().await {
                let status = answer.status();
                if status.is_success() {
                    return Ok(Outcome::Done(answer.json().await.unwrap_or_default()));
                }
                // What was acknowledged is counted a moment later; a held comment is gone once it was decided on.
                let is_decided =
                    status == StatusCode::NOT_FOUND && matches!(action, ModeratorAction::Decide { .. });
                if is_decided && is_unsure {
                    return Ok(Outcome::Unknown);
                }
                let may_pass = status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::NOT_FOUND]
                        .contains(&status);
                ensure!(may_pass, "{status} {}", answer.text().await.unwrap_or_default());
                is_unsure |= status.is_server_error();
            } else {
                is_unsure = true;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        unreachable!("attempts have no end")
    }

    fn request(&self, gateway: &str, action: &ModeratorAction) -> RequestBuilder {
        let post = |path: &str, body: Value| self.client.post(format!("{gateway}{path}")).json(&body);
        match action {
            ModeratorAction::Comment { video, user, text } => post(
                "/comment",
                json!({"videoid": video, "userid": user, "comment": text, "idempotency_key": text}),
            ),
            ModeratorAction::Delete(KnownComment { video, id, .. }) => {
                self.client.delete(format!("{gateway}/comments/{video}/{id}?reason=faults"))
            }
            ModeratorAction::Pin(KnownComment { video, id, .. }) => {
                post("/moderation/pins", json!({"videoid": video, "id": id}))
            }
            ModeratorAction::Restrict(Restriction { user, kind, video }) => {
                post("/moderation/bans", json!({"userid": user, "kind": kind, "videoid": video}))
            }
            ModeratorAction::Lift(Restriction { user, kind, video }) => {
                let video = video.as_ref().map(|video| format!("&videoid={video}")).unwrap_or_default();
                self.client.delete(format!("{gateway}/moderation/bans?userid={user}&kind={kind}{video}"))
            }
            ModeratorAction::Decide { held, is_released } => {
                let outcome = if *is_released { "release" } else { "reject" };
                post("/moderation/held", json!({"videoid": held.video, "id": held.id, "outcome": outcome}))
            }
            ModeratorAction::Like { video, user, is_back, number } => {
                let kind = if *is_back { "unlike" } else { "like" };
                let body = json!({
                    "video_id": video, "user_id": user, "type": kind, "event_id": format!("{PREFIX}like-{number}"),
                });
                post("/interact", body)
            }
            ModeratorAction::Describe { video, title, category } => self
                .client
                .put(format!("{gateway}/videos/{video}"))
                .json(&json!({"title": title, "category": category})),
        }
    }
}

fn video(number: usize) -> String {
    format!("{PREFIX}{}", number % VIDEOS)
}

/// Returns the action with this number; `None` if nothing is there yet that it could be done to.
fn next_action(number: usize, known: &AcknowledgedModeration) -> Option<ModeratorAction> {
    let round = number / 12;
    let text = format!("said {number} here.");
    let user = format!("{PREFIX}user-{}", round % 7);
    match number % 12 {
        0..=2 => Some(ModeratorAction::Comment { video: video(number), user, text }),
        // A comment of a round before, of each video in turn: later ones have its place in rings and pages, and some
        // of them are pinned.
        3 => known
            .shown
            .get(known.shown.len().checked_sub(4 + round % 3)?)
            .cloned()
            .map(ModeratorAction::Delete),
        4 => known.shown.back().cloned().map(ModeratorAction::Pin),
        5 => Some(ModeratorAction::Restrict(Restriction {
            user: format!("{PREFIX}troll-{number}"),
            kind: ["ban", "mute"][round % 2],
            video: round.is_multiple_of(3).then(|| video(round)),
        })),
        // Restrictions stay for some rounds of faults before they are ended, and most stay for good.
        6 if round % 4 == 3 => known.restrictions.front().cloned().map(ModeratorAction::Lift),
        6 | 7 => Some(ModeratorAction::Comment { video: HELD_VIDEO.into(), user, text }),
        8 => known
            .waiting
            .front()
            .cloned()
            .map(|held| ModeratorAction::Decide { held, is_released: round.is_multiple_of(2) }),
        9 | 10 => Some(ModeratorAction::Like {
            video: video(round),
            user: format!("{PREFIX}fan-{}", number % 5),
            is_back: round % 3 == 2,
            number,
        }),
        _ => Some(ModeratorAction::Describe {
            video: video(round),
            title: format!("title {number} of this run"),
            category: CATEGORIES[round % 5 / 3],
        }),
    }
}

/// Keeps an action that was acknowledged with this answer.
fn note_acknowledged(
    known: &mut AcknowledgedModeration,
    action: &ModeratorAction,
    answer: &Value,
) -> anyhow::Result<()> {
    match action {
        ModeratorAction::Comment { video, text, .. } => {
            let id = answer["comment"]["id"].as_str().with_context(|| format!("no id: {answer}"))?;
            let comment = KnownComment { video: video.clone(), id: id.to_owned(), text: text.clone() };
            let is_held = answer["held"] == true;
            ensure!(is_held == (video == HELD_VIDEO), "held or not: {answer}");
            if is_held { known.waiting.push_back(comment) } else { known.shown.push_back(comment) }
        }
        ModeratorAction::Delete(comment) => {
            known.shown.retain(|other| other != comment);
            known.pinned.retain(|_, id| *id != comment.id);
            known.gone.push(comment.clone());
        }
        ModeratorAction::Pin(comment) => {
            known.pinned.insert(comment.video.clone(), comment.id.clone());
        }
        ModeratorAction::Restrict(restriction) => known.restrictions.push_back(restriction.clone()),
        ModeratorAction::Lift(restriction) => {
            known.restrictions.retain(|other| other != restriction);
            known.lifted.push(restriction.clone());
        }
        ModeratorAction::Decide { held, is_released } => {
            known.waiting.retain(|other| other != held);
            if *is_released {
                // In front: what is deleted and pinned are the newest comments of other videos.
                known.shown.push_front(held.clone());
            } else {
                known.gone.push(held.clone());
            }
        }
        ModeratorAction::Like { video, user, is_back, .. } => {
            let likers = known.likers.entry(video.clone()).or_default();
            if *is_back {
                likers.remove(user)
            } else {
                likers.insert(user.clone())
            };
        }
        ModeratorAction::Describe { video, title, .. } => {
            known.titles.insert(video.clone(), title.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_action_is_done_within_some_rounds() {
        let mut known = AcknowledgedModeration::default();
        let mut done = BTreeSet::new();
        for number in 0..12 * 12 {
            let Some(action) = next_action(number, &known) else { continue };
            let is_held = matches!(&action, ModeratorAction::Comment { video, .. } if video == HELD_VIDEO);
            let answer = json!({"held": is_held, "comment": {"id": format!("c-{number}")}});
            note_acknowledged(&mut known, &action, &answer).unwrap();
            done.insert(match action {
                ModeratorAction::Comment { .. } => "comment",
                ModeratorAction::Delete(_) => "delete",
                ModeratorAction::Pin(_) => "pin",
                ModeratorAction::Restrict(_) => "restrict",
                ModeratorAction::Lift(_) => "lift",
                ModeratorAction::Decide { is_released: true, .. } => "release",
                ModeratorAction::Decide { .. } => "reject",
                ModeratorAction::Like { is_back: true, .. } => "unlike",
                ModeratorAction::Like { .. } => "like",
                ModeratorAction::Describe { .. } => "describe",
            });
        }
        assert_eq!(done.len(), 10, "{done:?}");
        assert!(known.likers.values().any(|likers| !likers.is_empty()));
        assert!(known.gone.iter().all(|gone| !known.shown.contains(gone)));
        let gone: BTreeSet<&str> = known.gone.iter().map(|gone| gone.video.as_str()).collect();
        assert!(gone.len() > 2, "{gone:?}");
    }

    #[test]
    fn no_text_of_a_comment_is_in_another_one() {
        let texts: Vec<String> = (0..200)
            .filter_map(|number| match next_action(number, &AcknowledgedModeration::default()) {
                Some(ModeratorAction::Comment { text, .. }) => Some(text),
                _ => None,
            })
            .collect();
        for text in &texts {
            assert_eq!(texts.iter().filter(|other| other.contains(text.as_str())).count(), 1, "{text}");
        }
    }
}
