//! What users add to pods reaches them; what the operator does not permit is told by its field, and changes nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::kube::{condition, text};
use crate::wait::until;
use crate::world::{NAME, NAMESPACE_NAME, World, expect_restarted, is_true};

/// How long the operator may take to say what it thinks of a change.
const SOON: Duration = Duration::from_secs(30);

pub async fn as_their_users_want_them(world: &World) -> anyhow::Result<String> {
    let before = world.pods().await?;
    let more = json!({
        "env": [{"name": "E2E", "value": "there"}],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    });
    world.change(json!({"statistics": {"pod": more}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    let with = world.pods().await?;
    expect_restarted(&before, &with, &["statistics"])?;
    let pod = world.pods_of("statistics").await?.pop().context("no statistics")?;
    let said = pod["spec"]["containers"][0].to_string();
    ensure!(said.contains("E2E") && said.contains("/scratch"), "what was added is not there: {said}");
    refused(world).await?;
    let none = json!({"env": null, "volumes": null, "volumeMounts": null});
    world.change(json!({"statistics": {"pod": none}, "gateway": {"pod": {"volumes": null}}})).await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    expect_restarted(&with, &world.pods().await?, &["statistics"])?;
    Ok(String::new())
}

/// A folder of the node is for no author of a `RankingCluster`, unless the operator's policy says otherwise.
async fn refused(world: &World) -> anyhow::Result<()> {
    let node = json!([{"name": "node", "hostPath": {"path": "/"}}]);
    world.change(json!({"gateway": {"pod": {"volumes": node}}})).await?;
    let look = async || {
        let cluster = world.live().await?;
        let said = condition(&cluster, "Stalled").map(|it| text(it, "/message").to_owned());
        let said = said.unwrap_or_default();
        let told = is_true(&cluster, "Stalled") && said.contains("spec.gateway.pod.volumes[node].hostPath");
        Ok(if told { Ok(()) } else { Err(said) })
    };
    until("a condition names the field that is not permitted", SOON, look).await?;
    Ok(())
}
