//! What somebody's hand did to what the operator made: undone. What is somebody else's: left alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fields::{self, Field};
use crate::kube::{self, CHILDREN, Kind, MANAGER};
use crate::wait::until;
use crate::world::{NAME, NAMESPACE_NAME, SETTLE, World};

/// Who owns what is repaired.
const OPERATOR: &str = "liverank-operator";
/// How long one repair in place may take. A reader is replaced, by a pod that comes and one that ends.
const REPAIR: Duration = Duration::from_secs(30);
/// Requests at once.
const AT_ONCE: usize = 8;
/// What is nobody's business but its owner's.
const FOREIGN: (&str, &str) = ("example.org/note", "keep me");

fn kind(object: &Value) -> anyhow::Result<Kind> {
    let name = kube::text(object, "/kind");
    CHILDREN.into_iter().find(|kind| kind.name == name).with_context(|| format!("a child of kind {name}"))
}

fn path(object: &Value) -> anyhow::Result<String> {
    Ok(kind(object)?.path(NAMESPACE_NAME, kube::name(object)))
}

/// Kinds and names of readers' objects: another reader has another name.
fn is_reader(object: &Value) -> bool {
    object.pointer("/metadata/labels/liverank.dev~1reader").is_some()
}

/// Each child deleted: there again, as another object.
pub async fn deleted(world: &World) -> anyhow::Result<String> {
    let before = world.children(NAMESPACE_NAME).await?;
    ensure!(before.len() > 20, "only {} children", before.len());
    let start = Instant::now();
    // Those that others hang on come last, so that what comes back is seen to come back by itself.
    for object in before.iter().filter(|object| object["kind"] != "Deployment") {
        world.kube.delete(&path(object)?).await?;
    }
    returned(world, &before, |object| object["kind"] != "Deployment").await?;
    let took = start.elapsed();
    for object in before.iter().filter(|object| object["kind"] == "Deployment") {
        world.kube.delete(&path(object)?).await?;
    }
    returned(world, &before, |object| object["kind"] == "Deployment").await?;
    world.ready(NAMESPACE_NAME, NAME).await?;
    Ok(format!("{} children, {:.1} s for those that are not Deployments", before.len(), took.as_secs_f64()))
}

async fn returned(world: &World, before: &[Value], which: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let readers =
        |objects: &[Value]| objects.iter().filter(|object| is_reader(object) && which(object)).count();
    let look = async || {
        let now = world.children(NAMESPACE_NAME).await?;
        let same = |a: &Value, b: &Value| a["kind"] == b["kind"] && kube::name(a) == kube::name(b);
        let missing: Vec<String> = before
            .iter()
            .filter(|old| which(old) && !is_reader(old))
            .filter(|old| !now.iter().any(|new| same(old, new) && kube::uid(old) != kube::uid(new)))
            .map(|old| format!("{} {}", kube::text(old, "/kind"), kube::name(old)))
            .collect();
        let deleted = |old: &Value| now.iter().any(|new| kube::uid(old) == kube::uid(new));
        let left = before.iter().filter(|old| which(old) && deleted(old)).count();
        let complete = readers(&now) == readers(before);
        let told = format!("missing {missing:?}, {left} not deleted, {} of readers", readers(&now));
        Ok(if missing.is_empty() && left == 0 && complete { Ok(()) } else { Err(told) })
    };
    until("what was deleted is there again", REPAIR * 2, look).await.map(|_| ())
}

/// Each field of ours edited: as it was. A foreign annotation stays.
pub async fn edited(world: &World) -> anyhow::Result<String> {
    let children = world.children(NAMESPACE_NAME).await?;
    let (mut edited, mut refused, mut longest) = (0, 0, Duration::ZERO);
    for child in &children {
        let repaired = edit(world, child)
            .await
            .with_context(|| format!("{} {}", kube::text(child, "/kind"), kube::name(child)))?;
        edited += repaired.edited;
        refused += repaired.refused;
        longest = longest.max(repaired.took);
    }
    world.ready(NAMESPACE_NAME, NAME).await?;
    for child in &children {
        let Some(live) = world.kube.get(&path(child)?).await? else {
            ensure!(is_reader(child), "{} is gone", kube::name(child));
            continue;
        };
        if kube::uid(&live) != kube::uid(child) {
            // A reader that was replaced is gone as well: the next one may have its number.
            ensure!(is_reader(child), "{} was made anew", kube::name(child));
            continue;
        }
        let kept = &live["metadata"]["annotations"][FOREIGN.0];
        ensure!(kept == FOREIGN.1, "{} lost its foreign annotation", kube::name(child));
    }
    ensure!(edited > 500, "only {edited} fields could be edited");
    Ok(format!(
        "{edited} fields of {} objects ({refused} more take no other value), longest {:.1} s",
        children.len(),
        longest.as_secs_f64()
    ))
}

struct Repaired {
    edited: usize,
    refused: usize,
    took: Duration,
}

async fn edit(world: &World, child: &Value) -> anyhow::Result<Repaired> {
    let path = path(child)?;
    let note = json!({"metadata": {"annotations": {FOREIGN.0: FOREIGN.1}}});
    world.kube.merge(&path, &note).await?.good()?;
    let owned = fields::owned(child, OPERATOR);
    ensure!(!owned.is_empty(), "{OPERATOR} owns nothing of it");
    // Each for itself, without effect: which other values would the API server take?
    let fields = owned.iter().filter(|(path, _)| may_be_edited(path));
    let tried: Vec<Option<Value>> = stream::iter(fields)
        .map(|(_, field)| acceptable(world, &path, field))
        .buffered(AT_ONCE)
        .map(Result::unwrap_or_default)
        .collect()
        .await;
    let refused = tried.iter().filter(|edit| edit.is_none()).count();
    let edits: Vec<Value> = tried.into_iter().flatten().collect();
    let together = patch(world, &path, &edits, false).await?;
    let made = if together { edits.len() } else { one_by_one(world, &path, &edits).await? };
    let start = Instant::now();
    repaired(world, &path, &owned, is_reader(child)).await?;
    Ok(Repaired { edited: made, refused, took: start.elapsed() })
}

/// An owner's UID says whose it is: with another one the object is not ours, and Kubernetes deletes it.
fn may_be_edited(path: &str) -> bool {
    !path.contains("ownerReferences")
}

/// Where edits that could each be made cannot be made together.
async fn one_by_one(world: &World, path: &str, edits: &[Value]) -> anyhow::Result<usize> {
    let mut made = 0;
    for edit in edits {
        made += usize::from(patch(world, path, std::slice::from_ref(edit), false).await?);
    }
    Ok(made)
}

async fn acceptable(world: &World, path: &str, field: &Field) -> anyhow::Result<Option<Value>> {
    for other in fields::others(&field.value) {
        let edit = json!({"op": "replace", "path": field.pointer, "value": other});
        if patch(world, path, std::slice::from_ref(&edit), true).await? {
            return Ok(Some(edit));
        }
    }
    Ok(None)
}

/// Whether the API server took it.
async fn patch(world: &World, path: &str, edits: &[Value], dry: bool) -> anyhow::Result<bool> {
    let path = format!("{path}?fieldManager={MANAGER}{}", if dry { "&dryRun=All" } else { "" });
    let body = json!(edits);
    let answer = world.kube.ask(Method::PATCH, &path, Some(("application/json-patch+json", &body))).await?;
    Ok(answer.status.is_success())
}

/// A reader that does not run what it should may also be replaced by one that does.
async fn repaired(
    world: &World,
    path: &str,
    wanted: &BTreeMap<String, Field>,
    replaceable: bool,
) -> anyhow::Result<()> {
    let look = async || {
        let live = match world.kube.get(path).await? {
            None if replaceable => return Ok(Ok(())),
            live => live.context("it is gone")?,
        };
        let now = fields::owned(&live, OPERATOR);
        let value = |path: &String| now.get(path).map(|field| &field.value);
        let wrong: Vec<&String> = wanted
            .iter()
            .filter(|(path, field)| value(path) != Some(&field.value))
            .map(|(path, _)| path)
            .collect();
        Ok(if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) })
    };
    until("all is as it was", if replaceable { SETTLE } else { REPAIR }, look).await.map(|_| ())
}
