//! Registers videos that are asked for, within their callers' shares of new videos.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use liverank_adapters::assignment_store::VideoAssignment;
use liverank_core::VideoId;
use liverank_runtime::Problem;
use tokio::time::timeout;

use crate::Manager;
use crate::manager::EnsuredAssignment;
use crate::registrations::{Refusal, Registrant, UsedShare};

/// The time that the store may take to look up a video that this manager does not know; after it, the video counts as
/// unknown.
const LOOK_UP_TIME_LIMIT: Duration = Duration::from_millis(500);

/// Makes sure that a video has a reader. A new video counts in the share of `registrant`; `None`: for a gateway, which
/// has a budget for each of its own callers. All ways by which a video becomes known to the managers come here, but for
/// videos that are watched already (`sweep`), for which each reader has another budget ([`crate::adoptions`]).
///
/// # Errors
/// 429 if the video is not known and the caller has used its share; 503 if the video can have no reader now.
pub(super) async fn ensure_within_share(
    manager: &Manager,
    video: &VideoId,
    known_epoch: u64,
    registrant: Option<Registrant>,
) -> Result<EnsuredAssignment, Problem> {
    let registrant = registrant.filter(|_| manager.cluster().assignment_view.get(video).is_none());
    let counted = match registrant {
        None => None,
        Some(registrant) => {
            // Counted before the store is asked, so that requests at the same time cannot exceed the share.
            let counted = manager.recent_registrations().count_video(Instant::now(), &registrant);
            match counted {
                Ok(()) => Some(registrant),
                Err(_) if is_known_to_store(manager, video).await => None,
                Err(refusal) => return Err(refused_registration(manager, refusal)),
            }
        }
    };
    let ensured = manager.ensure_assigned(video, known_epoch).await;
    // A caller that hangs up meanwhile does not get here: its video stays counted, because it may be registered.
    if let Some(registrant) = counted.filter(|_| !ensured.as_ref().is_ok_and(|ensured| ensured.is_new)) {
        manager.recent_registrations().take_back(&registrant);
    }
    if ensured.is_err() {
        manager.note_unserved(video);
    }
    Ok(ensured?)
}

/// Returns true if another manager has registered the video. Returns false, too, if the store is unavailable, or busy with
/// such questions.
async fn is_known_to_store(manager: &Manager, video: &VideoId) -> bool {
    let Ok(_permit) = manager.over_share_look_ups.try_acquire() else { return false };
    look_up_in_store(manager, video).await.is_some()
}

fn refused_registration(manager: &Manager, Refusal { used_share, wait }: Refusal) -> Problem {
    manager.metrics.count_refused_registration(used_share);
    let whose = match used_share {
        UsedShare::Address => "are registered from this address",
        UsedShare::Reader => "come by this reader",
    };
    let detail = format!("too many new videos {whose}: register known ones, or come back later");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_retry_after(wait)
}

/// Reads a video's assignment, which another manager may have made just now; `None` if there is none, or the store does
/// not answer in time.
pub(super) async fn look_up_in_store(manager: &Manager, video: &VideoId) -> Option<VideoAssignment> {
    timeout(LOOK_UP_TIME_LIMIT, manager.look_up_assignment(video)).await.unwrap_or_default()
}
