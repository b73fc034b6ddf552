//! A platform that gives each namespace's pods a user id of its own, as `OpenShift`'s admission does: here by a
//! `MutatingAdmissionPolicy`, on a Kubernetes that serves it (1.36 on).

use std::time::Duration;

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kube::{MUTATING_BINDING_KIND, MUTATING_POLICY_KIND, POD_KIND, object_name};
use crate::wait::wait_until_some;
use crate::world::{ClusterWorld, MANAGED_SELECTOR, NAMESPACE_NAME};

/// A user id from the range that `OpenShift` would give a namespace.
const USER_ID: u64 = 1_000_680_000;
/// The time limit until API servers have taken up the policy.
const POLICY_TIMEOUT: Duration = Duration::from_secs(30);
const NAME: &str = "liverank-e2e-platform-user";

/// Gives all pods of the tested namespace that name no user id one of the platform's. Returns whether this Kubernetes can.
pub async fn set_platform_user(world: &ClusterWorld) -> anyhow::Result<bool> {
    let served = world.kube.get_object(&format!("/apis/{}", MUTATING_POLICY_KIND.api)).await?;
    let kinds = served.as_ref().and_then(|list| list["resources"].as_array());
    if !kinds.into_iter().flatten().any(|kind| kind["name"] == MUTATING_POLICY_KIND.plural) {
        return Ok(false);
    }
    let user = format!(
        "Object{{spec: Object.spec{{securityContext: Object.spec.securityContext{{runAsUser: {USER_ID}, fsGroup: {USER_ID}}}}}}}"
    );
    let pods =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let policy = json!({
        "apiVersion": MUTATING_POLICY_KIND.api, "kind": MUTATING_POLICY_KIND.name, "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {"resourceRules": pods},
            "matchConditions": [{"name": "no-user",
                "expression": "!has(object.spec.securityContext) || !has(object.spec.securityContext.runAsUser)"}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": user}}],
        },
    });
    world.kube.apply_object(MUTATING_POLICY_KIND, &policy).await?;
    let there = json!({"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE_NAME}});
    let binding = json!({
        "apiVersion": MUTATING_BINDING_KIND.api, "kind": MUTATING_BINDING_KIND.name, "metadata": {"name": NAME},
        "spec": {"policyName": NAME, "matchResources": {"namespaceSelector": there}},
    });
    world.kube.apply_object(MUTATING_BINDING_KIND, &binding).await?;
    wait_until_given(world).await?;
    Ok(true)
}

/// Waits until a pod would get the user id: API servers take up a policy some seconds after it is there.
async fn wait_until_given(world: &ClusterWorld) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE_NAME}/pods?dryRun=All");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "probe", "image": "probe", "securityContext":
                {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    });
    let look = async || {
        let answer = world.kube.send_request(Method::POST, &path, Some(("application/json", &pod))).await?;
        let given = answer.body["spec"]["securityContext"]["runAsUser"] == USER_ID;
        Ok(if given { Ok(()) } else { Err(answer.body.to_string()) })
    };
    wait_until_some("pods are given the platform's user id", POLICY_TIMEOUT, look).await?;
    Ok(())
}

/// Ends that for pods that are made from now on.
pub async fn end(world: &ClusterWorld) -> anyhow::Result<()> {
    for kind in [MUTATING_BINDING_KIND, MUTATING_POLICY_KIND] {
        world.kube.delete_object(&kind.object_path("", NAME)).await?;
    }
    Ok(())
}

/// Checks that all pods of the cluster that do not end run under the platform's user id.
pub async fn check(world: &ClusterWorld) -> anyhow::Result<()> {
    let pods = world.kube.list_objects(POD_KIND, NAMESPACE_NAME, MANAGED_SELECTOR).await?;
    for pod in pods.iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()) {
        let runs_as = |context: &Value| context["runAsUser"].as_u64();
        let named = runs_as(&pod["spec"]["securityContext"]);
        ensure!(named == Some(USER_ID), "{} was given the user id {named:?}", object_name(pod));
        let really = pod.pointer("/status/containerStatuses/0/user/linux/uid").and_then(Value::as_u64);
        ensure!(really.is_none_or(|uid| uid == USER_ID), "{} runs as {really:?}", object_name(pod));
    }
    Ok(())
}
