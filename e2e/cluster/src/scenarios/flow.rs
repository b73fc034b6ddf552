//! The scenario `flow`: interactions are ranked, and comments reach their viewers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

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
    for (video, times) in [("first", 3), ("second", 1)] {
        for _ in 0..times {
            post_until_accepted(world, video).await?;
        }
    }
    let wanted = json!([["first", 6.0], ["second", 2.0]]);
    let look = async || {
        let list = world.request_service("gateway:8080", Method::GET, "/videos?limit=10", None).await?;
        let videos = list["videos"].as_array().cloned().unwrap_or_default();
        let found =
            json!(videos.iter().map(|video| json!([video["video_id"], video["score"]])).collect::<Vec<_>>());
        Ok(if found == wanted { Ok(()) } else { Err(found.to_string()) })
    };
    let took = wait_until_some("the list is ranked", RANKED_TIMEOUT, look).await?.1;
    let pushed = audience::fetch_pushed_list(world).await?;
    let first = pushed.pointer("/0/video_id");
    ensure!(first == Some(&json!("first")), "the pushed list begins with {first:?}");
    Ok(took)
}

/// Posts a like until it is accepted: one that is refused while the log is away was not counted.
async fn post_until_accepted(world: &ClusterWorld, video: &str) -> anyhow::Result<()> {
    let body = json!({"video_id": video, "user_id": "somebody", "type": "like"});
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
