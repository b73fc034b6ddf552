//! What the system is for, once through.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

use crate::agent::viewer::Way;
use crate::audience;
use crate::wait::{until, until_true};
use crate::world::World;

/// How long a counted interaction may take to be ranked.
const RANKED: Duration = Duration::from_secs(15);
/// How long a gateway that has just started may take to find the log.
const TAKEN: Duration = Duration::from_secs(30);

pub async fn in_and_out(world: &World) -> anyhow::Result<String> {
    let node = audience::audience_node(world).await?;
    audience::start(world, &node).await?;
    let ranked = interactions(world).await?;
    comments(world).await?;
    Ok(format!("ranked after {} ms", ranked.as_millis()))
}

/// Interactions into the gateway's Service, the ranked list out of it, over HTTP and pushed.
async fn interactions(world: &World) -> anyhow::Result<Duration> {
    for (video, times) in [("first", 3), ("second", 1)] {
        for _ in 0..times {
            interact(world, video).await?;
        }
    }
    let wanted = json!([["first", 6.0], ["second", 2.0]]);
    let look = async || {
        let list = world.request("gateway:8080", Method::GET, "/videos?limit=10", None).await?;
        let videos = list["videos"].as_array().cloned().unwrap_or_default();
        let found =
            json!(videos.iter().map(|video| json!([video["video_id"], video["score"]])).collect::<Vec<_>>());
        Ok(if found == wanted { Ok(()) } else { Err(found.to_string()) })
    };
    let took = until("the list is ranked", RANKED, look).await?.1;
    let pushed = audience::pushed(world).await?;
    let first = pushed.pointer("/0/video_id");
    ensure!(first == Some(&json!("first")), "the pushed list begins with {first:?}");
    Ok(took)
}

/// Until it is taken: one that is refused while the log is away was not counted.
async fn interact(world: &World, video: &str) -> anyhow::Result<()> {
    let body = json!({"video_id": video, "user_id": "somebody", "type": "like"});
    let post =
        async || world.request("gateway:8080", Method::POST, "/interact", Some(&body)).await.map(|_| true);
    until_true("an interaction is taken", TAKEN, post).await.map(|_| ())
}

/// Comments through a reader, to viewers of both kinds.
async fn comments(world: &World) -> anyhow::Result<()> {
    audience::crowd(world, "flow-direct", "flow", 2, Way::Direct).await?;
    audience::crowd(world, "flow-front", "flow", 2, Way::FrontDoor).await?;
    audience::complete(world).await?;
    audience::post(world, 20.0, BTreeMap::from([("flow".to_owned(), 1)])).await?;
    let look = async || {
        let comments = audience::report(world).await?.comments;
        Ok(if comments >= 80 { Ok(()) } else { Err(format!("{comments} comments")) })
    };
    until("comments come", Duration::from_secs(30), look).await?;
    audience::expect_all_right(world).await?;
    audience::crowd(world, "flow-direct", "flow", 0, Way::Direct).await?;
    audience::crowd(world, "flow-front", "flow", 0, Way::FrontDoor).await
}
