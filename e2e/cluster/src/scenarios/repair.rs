//! The scenarios `repair-deleted` and `repair-edited`: the operator undoes edits of the objects that it created, and
//! leaves fields of others alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fields::{self, OwnedField};
use crate::kube::{self, CHILD_KINDS, FIELD_MANAGER, ObjectKind};
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT};

/// The field manager that owns the repaired fields.
const OPERATOR_MANAGER: &str = "liverank-operator";
/// The time limit of one repair in place. A reader is not repaired but replaced, by a pod that starts and one that
/// ends.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// The most requests that are sent at the same time.
const MAX_REQUESTS_AT_ONCE: usize = 8;
/// An annotation of somebody else, which the operator must leave alone.
const FOREIGN_ANNOTATION: (&str, &str) = ("example.org/note", "keep me");

fn child_kind(object: &Value) -> anyhow::Result<ObjectKind> {
    let name = kube::text_at(object, "/kind");
    CHILD_KINDS.into_iter().find(|kind| kind.name == name).with_context(|| format!("a child of kind {name}"))
}

fn path_of(object: &Value) -> anyhow::Result<String> {
    Ok(child_kind(object)?.object_path(NAMESPACE_NAME, kube::object_name(object)))
}

/// Whether the object belongs to a reader: the reader that replaces a deleted one has objects with other names.
fn is_reader(object: &Value) -> bool {
    object.pointer("/metadata/labels/liverank.dev~1reader").is_some()
}

/// Deletes each child object, and checks that the operator creates it again.
pub async fn check_deleted_children(world: &ClusterWorld) -> anyhow::Result<String> {
    let before = world.operator_objects(NAMESPACE_NAME).await?;
    ensure!(before.len() > 20, "only {} children", before.len());
    let start = Instant::now();
    // Deployments are deleted last: other objects then come back without being created along with a Deployment.
    for object in before.iter().filter(|object| object["kind"] != "Deployment") {
        world.kube.delete_object(&path_of(object)?).await?;
    }
    wait_until_returned(world, &before, |object| object["kind"] != "Deployment").await?;
    let took = start.elapsed();
    for object in before.iter().filter(|object| object["kind"] == "Deployment") {
        world.kube.delete_object(&path_of(object)?).await?;
    }
    wait_until_returned(world, &before, |object| object["kind"] == "Deployment").await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    Ok(format!("{} children, {:.1} s for those that are not Deployments", before.len(), took.as_secs_f64()))
}

async fn wait_until_returned(
    world: &ClusterWorld,
    before: &[Value],
    which: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    let readers =
        |objects: &[Value]| objects.iter().filter(|object| is_reader(object) && which(object)).count();
    let look = async || {
        let now = world.operator_objects(NAMESPACE_NAME).await?;
        let same =
            |a: &Value, b: &Value| a["kind"] == b["kind"] && kube::object_name(a) == kube::object_name(b);
        let missing: Vec<String> = before
            .iter()
            .filter(|old| which(old) && !is_reader(old))
            .filter(|old| {
                !now.iter().any(|new| same(old, new) && kube::object_uid(old) != kube::object_uid(new))
            })
            .map(|old| format!("{} {}", kube::text_at(old, "/kind"), kube::object_name(old)))
            .collect();
        let deleted = |old: &Value| now.iter().any(|new| kube::object_uid(old) == kube::object_uid(new));
        let left = before.iter().filter(|old| which(old) && deleted(old)).count();
        let complete = readers(&now) == readers(before);
        let told = format!("missing {missing:?}, {left} not deleted, {} of readers", readers(&now));
        Ok(if missing.is_empty() && left == 0 && complete { Ok(()) } else { Err(told) })
    };
    wait_until_some("what was deleted is there again", REPAIR_TIMEOUT * 2, look).await.map(|_| ())
}

/// Edits each field that the operator owns, and checks that the operator restores it and keeps a foreign annotation.
pub async fn check_edited_fields(world: &ClusterWorld) -> anyhow::Result<String> {
    let children = world.operator_objects(NAMESPACE_NAME).await?;
    let (mut edited, mut refused, mut longest) = (0, 0, Duration::ZERO);
    for child in &children {
        let repaired = edit_and_check(world, child)
            .await
            .with_context(|| format!("{} {}", kube::text_at(child, "/kind"), kube::object_name(child)))?;
        edited += repaired.edited;
        refused += repaired.refused;
        longest = longest.max(repaired.duration);
    }
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    for child in &children {
        let Some(live) = world.kube.get_object(&path_of(child)?).await? else {
            ensure!(is_reader(child), "{} is gone", kube::object_name(child));
            continue;
        };
        if kube::object_uid(&live) != kube::object_uid(child) {
            // An object with another UID is of another reader, which may have got the number of the reader that was
            // replaced.
            ensure!(is_reader(child), "{} was made anew", kube::object_name(child));
            continue;
        }
        let kept = &live["metadata"]["annotations"][FOREIGN_ANNOTATION.0];
        ensure!(kept == FOREIGN_ANNOTATION.1, "{} lost its foreign annotation", kube::object_name(child));
    }
    ensure!(edited > 500, "only {edited} fields could be edited");
    Ok(format!(
        "{edited} fields of {} objects ({refused} more take no other value), longest {:.1} s",
        children.len(),
        longest.as_secs_f64()
    ))
}

struct RepairTally {
    edited: usize,
    refused: usize,
    duration: Duration,
}

async fn edit_and_check(world: &ClusterWorld, child: &Value) -> anyhow::Result<RepairTally> {
    let path = path_of(child)?;
    let note = json!({"metadata": {"annotations": {FOREIGN_ANNOTATION.0: FOREIGN_ANNOTATION.1}}});
    let noted = world.kube.merge_patch(&path, &note).await?;
    if noted.status == StatusCode::NOT_FOUND && is_reader(child) {
        // An edit of another object of this reader caused the reader to be replaced meanwhile.
        return Ok(RepairTally { edited: 0, refused: 0, duration: Duration::ZERO });
    }
    let noted = noted.expect_success()?;
    if kube::object_uid(&noted) != kube::object_uid(child) && is_reader(child) {
        // The reader that replaced it has got its number.
        return Ok(RepairTally { edited: 0, refused: 0, duration: Duration::ZERO });
    }
    let owned = fields::owned_fields(child, OPERATOR_MANAGER);
    ensure!(!owned.is_empty(), "{OPERATOR_MANAGER} owns nothing of it");
    // Tries each field alone with a dry run, to find another value that the API server accepts.
    let fields = owned.iter().filter(|(path, _)| may_be_edited(path));
    let tried: Vec<Option<Value>> = stream::iter(fields)
        .map(|(_, field)| acceptable_value(world, &path, field))
        .buffered(MAX_REQUESTS_AT_ONCE)
        .map(Result::unwrap_or_default)
        .collect()
        .await;
    let refused = tried.iter().filter(|edit| edit.is_none()).count();
    let edits: Vec<Value> = tried.into_iter().flatten().collect();
    let together = patch_object(world, &path, &edits, false).await?;
    let made = if together { edits.len() } else { apply_edits_in_parts(world, &path, &edits).await? };
    let start = Instant::now();
    wait_until_repaired(world, &path, &owned, child).await?;
    Ok(RepairTally { edited: made, refused, duration: start.elapsed() })
}

/// Whether the field at this path may be edited. Not the owner's UID: with another UID the object has no owner, and
/// Kubernetes deletes it.
fn may_be_edited(path: &str) -> bool {
    !path.contains("ownerReferences")
}

/// Makes the edits in as few parts as the API server accepts, for edits that it accepts alone but not together. Each part
/// that comes after a repair is another repair, and the operator makes a pause before the fourth. Returns the number of
/// edits that it accepted.
async fn apply_edits_in_parts(world: &ClusterWorld, path: &str, edits: &[Value]) -> anyhow::Result<usize> {
    let (mut made, mut parts) = (0, vec![edits]);
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        if patch_object(world, path, part, false).await? {
            made += part.len();
        } else if part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            parts.extend([second, first]);
        }
    }
    Ok(made)
}

async fn acceptable_value(
    world: &ClusterWorld,
    path: &str,
    field: &OwnedField,
) -> anyhow::Result<Option<Value>> {
    for other in fields::other_values(&field.value) {
        let edit = json!({"op": "replace", "path": field.pointer, "value": other});
        if patch_object(world, path, std::slice::from_ref(&edit), true).await? {
            return Ok(Some(edit));
        }
    }
    Ok(None)
}

/// Sends the edits as one JSON patch, with `dry` as a dry run; returns whether the API server accepted them.
async fn patch_object(world: &ClusterWorld, path: &str, edits: &[Value], dry: bool) -> anyhow::Result<bool> {
    let path = format!("{path}?fieldManager={FIELD_MANAGER}{}", if dry { "&dryRun=All" } else { "" });
    let body = json!(edits);
    let answer =
        world.kube.send_request(Method::PATCH, &path, Some(("application/json-patch+json", &body))).await?;
    Ok(answer.status.is_success())
}

/// Waits until all `wanted` fields of `child` have their values again. An object of a reader may also be gone, or be another
/// one of the same name: a reader that does not run what it should is replaced by one that does.
async fn wait_until_repaired(
    world: &ClusterWorld,
    path: &str,
    wanted: &BTreeMap<String, OwnedField>,
    child: &Value,
) -> anyhow::Result<()> {
    let replaceable = is_reader(child);
    let look = async || {
        let live = world.kube.get_object(path).await?;
        let is_same = live.as_ref().is_some_and(|it| kube::object_uid(it) == kube::object_uid(child));
        if replaceable && !is_same {
            return Ok(Ok(()));
        }
        let live = live.context("it is gone")?;
        let now = fields::owned_fields(&live, OPERATOR_MANAGER);
        let value = |path: &String| now.get(path).map(|field| &field.value);
        let wrong: Vec<&String> = wanted
            .iter()
            .filter(|(path, field)| value(path) != Some(&field.value))
            .map(|(path, _)| path)
            .collect();
        Ok(if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) })
    };
    wait_until_some("all is as it was", if replaceable { SETTLE_TIMEOUT } else { REPAIR_TIMEOUT }, look)
        .await
        .map(|_| ())
}
