//! All viewers of the pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use reqwest::{Client, Url};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::poster::Poster;
use super::viewer::{Viewer, Way};
use super::{Crowd, Report, Settled};

/// Faults told in words.
const FAULTS_TOLD: usize = 10;

struct Watching {
    viewer: Arc<Viewer>,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A crowd and those of it who are there.
#[derive(Default)]
struct Present {
    wanted: usize,
    there: Vec<Watching>,
    /// What was wrong with those who went.
    gone: Faults,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    count: u64,
    told: Vec<String>,
}

impl Faults {
    fn add(&mut self, viewer: &Viewer) {
        let seen = viewer.seen();
        self.count += seen.fault_count;
        let room = FAULTS_TOLD.saturating_sub(self.told.len());
        let told = seen.faults.iter().take(room);
        self.told.extend(told.map(|fault| format!("{} of {}: {fault}", viewer.user, viewer.video)));
    }
}

/// Viewers by crowd, and the one who posts.
pub struct Audience {
    client: Client,
    gateway: Url,
    crowds: Mutex<BTreeMap<String, Present>>,
    /// Posts comments.
    pub poster: Arc<Poster>,
}

impl Audience {
    /// Nobody yet.
    pub fn new(gateway: Url) -> anyhow::Result<Arc<Self>> {
        // A name is asked for again with each connection: a reader's Service is gone with the reader.
        let client = Client::builder().connect_timeout(Duration::from_secs(3)).no_proxy().build()?;
        let poster = Poster::new(client.clone(), gateway.clone());
        Ok(Arc::new(Self { client, gateway, crowds: Mutex::default(), poster }))
    }

    fn crowds(&self) -> MutexGuard<'_, BTreeMap<String, Present>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets viewers come, at their pace, or go, at once, until there are as many as wanted.
    pub fn set(self: &Arc<Self>, name: String, crowd: Crowd) {
        {
            let mut crowds = self.crowds();
            let present = crowds.entry(name.clone()).or_default();
            present.wanted = crowd.viewers;
            while present.there.len() > crowd.viewers {
                let gone = present.there.pop().expect("there are some");
                present.gone.add(&gone.viewer);
            }
        }
        let audience = Arc::clone(self);
        tokio::spawn(async move {
            let pace = Duration::from_secs_f64(1.0 / crowd.arrivals.max(1) as f64);
            while audience.let_in(&name, &crowd) {
                tokio::time::sleep(pace).await;
            }
        });
    }

    /// One more, where one is wanted.
    fn let_in(&self, name: &str, crowd: &Crowd) -> bool {
        let mut crowds = self.crowds();
        let Some(present) = crowds.get_mut(name) else { return false };
        if present.there.len() >= present.wanted.min(crowd.viewers) {
            return false;
        }
        let user = format!("{name}-{}", present.there.len());
        let viewer = Viewer::new(user, crowd.video.clone(), crowd.way);
        let task = tokio::spawn(Arc::clone(&viewer).watch(self.client.clone(), self.gateway.clone()));
        present.there.push(Watching { viewer, task });
        true
    }

    fn each(&self, mut what: impl FnMut(&Viewer)) {
        for present in self.crowds().values() {
            present.there.iter().for_each(|watching| what(&watching.viewer));
        }
    }

    /// What they saw.
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        let mut faults = Faults::default();
        for present in self.crowds().values() {
            report.viewers += present.wanted;
            faults.count += present.gone.count;
            faults.told.extend(present.gone.told.iter().cloned());
        }
        self.each(|viewer| {
            let seen = viewer.seen();
            report.connected += usize::from(seen.connected);
            if !seen.connected && report.without.len() < FAULTS_TOLD {
                let (user, video) = (&viewer.user, &viewer.video);
                report.without.push(format!("{user} of {video} since {}", seen.last_end));
            }
            report.comments += seen.comments;
            report.reconnects += seen.reconnects;
            let away_ms = seen.longest_away.as_millis() as u64;
            if away_ms > report.longest_away_ms {
                report.longest_away_ms = away_ms;
                let attempts = seen.longest_attempts.join(", ");
                report.longest_attempts = format!("{} ({:?}): {attempts}", viewer.user, viewer.way);
            }
            if viewer.way == Way::Direct {
                report.moved += usize::from(seen.moves > 0);
                report.most_moves = report.most_moves.max(seen.moves);
            }
            drop(seen);
            faults.add(viewer);
        });
        (report.fault_count, report.faults) = (faults.count, faults.told);
        report
    }

    /// Forgets what befell them; faults are never forgotten.
    pub fn forget(&self) {
        self.each(|viewer| viewer.seen().forget());
    }

    /// Whether all that was acknowledged was numbered, and everybody has it.
    pub async fn settled(&self) -> Settled {
        let mut settled = Settled::default();
        let posted = self.poster.posted();
        let mut videos: BTreeSet<String> = posted.acknowledged.keys().cloned().collect();
        self.each(|viewer| {
            videos.insert(viewer.video.clone());
        });
        let mut heads = BTreeMap::new();
        for video in videos {
            match self.head(&video).await {
                Ok(head) => {
                    let acknowledged = posted.acknowledged.get(&video).copied().unwrap_or(0);
                    if head != acknowledged {
                        settled
                            .wrong
                            .push(format!("{video}: {acknowledged} acknowledged and {head} numbered"));
                    }
                    heads.insert(video, head);
                }
                Err(error) => settled.wrong.push(format!("{video}: {error:#}")),
            }
        }
        if posted.pending > 0 {
            settled.wrong.push(format!("{} comments are not acknowledged", posted.pending));
        }
        self.each(|viewer| {
            let at = viewer.seen().at.as_ref().map_or(0, |(_, seq)| *seq);
            if heads.get(&viewer.video) == Some(&at) {
                settled.level += 1;
            } else if settled.wrong.len() < FAULTS_TOLD {
                settled.wrong.push(format!("{} of {} stands at {at}", viewer.user, viewer.video));
            }
        });
        settled
    }

    /// The first ranked list that comes over a WebSocket.
    pub async fn pushed(&self) -> anyhow::Result<Value> {
        let mut url = self.gateway.join("/ws/videos")?;
        url.set_scheme("ws").map_err(|()| anyhow::anyhow!("{url} cannot be a WebSocket's"))?;
        let first = async {
            let (mut socket, _) = tokio_tungstenite::connect_async(url.as_str()).await?;
            let message = socket.next().await.context("the WebSocket ended")??;
            anyhow::Ok(serde_json::from_str(message.to_text()?)?)
        };
        tokio::time::timeout(Duration::from_secs(10), first).await?
    }

    /// The number of a video's last comment; 0 where there is none.
    async fn head(&self, video: &str) -> anyhow::Result<u64> {
        let url = self.gateway.join(&format!("/comments/{video}?limit=1"))?;
        let answer =
            self.client.get(url).timeout(Duration::from_secs(10)).send().await?.error_for_status()?;
        let history: Value = answer.json().await?;
        let comments = history["comments"].as_array().context("no comments in a history")?;
        Ok(comments.first().and_then(|comment| comment["seq"].as_u64()).unwrap_or(0))
    }
}
