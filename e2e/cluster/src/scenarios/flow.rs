//! The scenario `flow`: interactions are ranked, and comments reach their viewers.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::agent::WantedList;
use crate::agent::viewer::ConnectMode;
use crate::audience;
use crate::wait::{wait_until_some, wait_until_true};
use crate::world::ClusterWorld;

/// The time limit until a counted interaction is in the ranked list.
const RANKED_TIMEOUT: Duration = Duration::from_secs(15);
/// The time limit until a gateway that has just started accepts an interaction, which needs the log.
const ACCEPTED_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn check_flow(world: &ClusterWorld) -> anyhow::Result<String> {
    let node = audience::audience_node(world).await?;
    audience::start_audience(world, &node).await?;
    let ranked = check_interactions(world).await?;
    check_comments(world).await?;
    Ok(format!("ranked after {} ms", ranked.as_millis()))
}

/// Posts interactions to the gateway and checks the ranked list, over HTTP and over a WebSocket. Returns the time
/// until the list was right.
async fn check_interactions(world: &ClusterWorld) -> anyhow::Result<Duration> {
    let (first, second) = (format!("first-{}", world.run), format!("second-{}", world.run));
    for (video, times) in [(&first, 3), (&second, 1)] {
        for nth in 0..times {
            post_until_accepted(world, video, nth).await?;
        }
    }
    // A like is worth 2 points.
    let wanted =
        WantedList { lines: vec![(first, 6.0), (second, 2.0)], within_ms: RANKED_TIMEOUT.as_millis() as u64 };
    let look = async || {
        let list = world.request_service("gateway:8080", Method::GET, "/videos?limit=100", None).await?;
        let videos = &list["videos"];
        Ok(if wanted.is_in(videos) { Ok(()) } else { Err(format!("{:?}", wanted.lines_of(videos))) })
    };
    let took = wait_until_some("the list is ranked", RANKED_TIMEOUT, look).await?.1;
    audience::wait_for_pushed_list(world, &wanted).await?;
    Ok(took)
}

/// Posts the like `nth` of a video until it is acknowledged. Its event id says which one it is: one that was counted, and
/// whose answer was lost, is not counted twice.
pub(super) async fn post_until_accepted(world: &ClusterWorld, video: &str, nth: usize) -> anyhow::Result<()> {
    let event = format!("{video}-{nth}");
    let body = json!({"video_id": video, "user_id": "somebody", "type": "like", "event_id": event});
    let post = async || {
        world.request_service("gateway:8080", Method::POST, "/interact", Some(&body)).await.map(|_| true)
    };
    wait_until_true("an interaction is taken", ACCEPTED_TIMEOUT, post).await.map(|_| ())
}

/// Posts comments, and checks that viewers behind the gateway and viewers of readers get every one.
async fn check_comments(world: &ClusterWorld) -> anyhow::Result<()> {
    audience::set_crowd(world, "flow-direct", "flow", 2, ConnectMode::Direct).await?;
    audience::set_crowd(world, "flow-front", "flow", 2, ConnectMode::FrontDoor).await?;
    audience::wait_until_complete(world).await?;
    audience::set_posting(world, 20.0, BTreeMap::from([("flow".to_owned(), 1)])).await?;
    let look = async || {
        let comments = audience::report(world).await?.comments;
        Ok(if comments >= 80 { Ok(()) } else { Err(format!("{comments} comments")) })
    };
    wait_until_some("comments come", Duration::from_secs(30), look).await?;
    audience::expect_all_right(world).await?;
    audience::set_crowd(world, "flow-direct", "flow", 0, ConnectMode::Direct).await?;
    audience::set_crowd(world, "flow-front", "flow", 0, ConnectMode::FrontDoor).await
}
