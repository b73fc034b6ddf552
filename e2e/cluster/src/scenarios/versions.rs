//! The scenario `versions`: v1beta1 is served beside v1alpha1, and the operator's webhook converts. Nothing is lost between
//! the versions, the webhook's certificate can be renewed at any time, and v1alpha1 needs no operator.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::kube::{self, DEFINITION_KIND, ObjectKind, RANKING_CLUSTER_KIND, SECRET_KIND};
use crate::wait::{Look, wait_and_watch, wait_until_some, wait_until_true};
use crate::world::{
    CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, OPERATOR_NAME, OPERATOR_NAMESPACE, RELEASE_NAME,
    SETTLE_TIMEOUT,
};

/// The namespace and the name of the resource that the scenario changes. The resource hibernates: it has no pods.
const VERSIONS_NAMESPACE: &str = "liverank-e2e-versions";
const VERSIONS_NAME: &str = "versions";
/// The same kind in its other version.
const V1BETA1_KIND: ObjectKind = ObjectKind { api: "liverank.dev/v1beta1", ..RANKING_CLUSTER_KIND };
/// The name of the definition.
const DEFINITION_NAME: &str = "rankingclusters.liverank.dev";

pub async fn both_served(world: &ClusterWorld) -> anyhow::Result<String> {
    let before = helm_revision(world).await?;
    let start = Instant::now();
    world.install_operator(&["--set", "conversion.enabled=true"]).await?;
    let live = V1BETA1_KIND.object_path(NAMESPACE_NAME, CLUSTER_NAME);
    let served = async || {
        let answer = world.kube.send_request(reqwest::Method::GET, &live, None).await?;
        Ok(answer.expect_success().map_err(|error| format!("{error:#}")))
    };
    let (cluster, _) = wait_until_some("v1beta1 is served", SETTLE_TIMEOUT, served).await?;
    let ready = start.elapsed();
    for (pointer, value) in [
        ("/apiVersion", json!("liverank.dev/v1beta1")),
        ("/spec/gateway/drainTimeout", json!("5s")),
        ("/spec/readers/scaling/scaleDownStabilizationWindow", json!("15s")),
        ("/spec/auth/mode", json!("None")),
        ("/spec/redis/urlSecretKeyRef/name", json!("stores")),
    ] {
        ensure!(cluster.pointer(pointer) == Some(&value), "{pointer}: {:?}", cluster.pointer(pointer));
    }
    world.create_namespace(VERSIONS_NAMESPACE).await?;
    check_both_ways(world).await?;
    check_kubectl(world).await?;
    check_refusals(world).await?;
    let renewed = check_renewal(world).await?;
    check_without_operator(world).await?;
    world.remove_namespace(VERSIONS_NAMESPACE).await?;
    // The operator has written into the definition meanwhile, and the earlier revision knows nothing of that.
    let back =
        ["rollback", RELEASE_NAME, &before, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "150s"];
    world.kube.run_helm(&back).await?;
    let alone = async || Ok(world.kube.get_object(&live).await?.is_none());
    wait_until_true("v1beta1 is not served any more", SETTLE_TIMEOUT, alone).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    Ok(format!("served after {:.1} s, renewed within {renewed:.1} s", ready.as_secs_f64()))
}

/// Returns the number of the helm release's present revision.
async fn helm_revision(world: &ClusterWorld) -> anyhow::Result<String> {
    let args = ["history", RELEASE_NAME, "--namespace", OPERATOR_NAMESPACE, "--max", "1", "--output", "json"];
    let history: Value = serde_json::from_str(&world.kube.run_helm(&args).await?).context("helm history")?;
    history[0]["revision"].as_u64().map(|revision| revision.to_string()).context("no revision")
}

/// Returns the scenario's resource in v1beta1.
fn beta_resource(world: &ClusterWorld) -> Value {
    let alpha = &world.new_cluster(VERSIONS_NAMESPACE, VERSIONS_NAME)["spec"];
    let prefix = &alpha["redis"]["prefix"];
    json!({
        "apiVersion": V1BETA1_KIND.api, "kind": V1BETA1_KIND.name,
        "metadata": {"namespace": VERSIONS_NAMESPACE, "name": VERSIONS_NAME},
        "spec": {
            "image": alpha["image"], "kafka": alpha["kafka"],
            "redis": {"urlSecretKeyRef": alpha["redis"]["urlSecret"], "prefix": prefix},
            "mongodb": {"uriSecretKeyRef": alpha["mongodb"]["uriSecret"], "database": alpha["mongodb"]["database"]},
            "auth": {"mode": "None"},
            "hibernate": true,
            "gateway": {"drainTimeout": "90s", "podTemplate": {
                "metadata": {"labels": {"team": "video"}}, "container": {"logLevel": "debug"},
            }},
        },
    })
}

async fn resource_in(world: &ClusterWorld, version: ObjectKind) -> anyhow::Result<Value> {
    world.kube.get_named(version, VERSIONS_NAMESPACE, VERSIONS_NAME).await
}

async fn change_spec(
    world: &ClusterWorld,
    version: ObjectKind,
    spec: Value,
) -> anyhow::Result<kube::KubeAnswer> {
    let path = version.object_path(VERSIONS_NAMESPACE, VERSIONS_NAME);
    world.kube.merge_patch(&path, &json!({"spec": spec})).await
}

/// Applies v1beta1, reads it as both versions, and changes it through each. The operator carries out what was written in
/// v1beta1.
async fn check_both_ways(world: &ClusterWorld) -> anyhow::Result<()> {
    world.kube.apply_object(V1BETA1_KIND, &beta_resource(world)).await?;
    let alpha = resource_in(world, RANKING_CLUSTER_KIND).await?;
    let gateway = &alpha["spec"]["gateway"];
    ensure!(gateway["drainSeconds"] == 90 && gateway["pod"]["logLevel"] == "debug", "v1alpha1: {gateway}");
    ensure!(alpha["spec"]["comment"]["enabled"] == true, "defaults: {}", alpha["spec"]["comment"]);
    let beta = resource_in(world, V1BETA1_KIND).await?;
    ensure!(beta["spec"]["gateway"]["drainTimeout"] == "1m30s", "v1beta1: {}", beta["spec"]["gateway"]);
    change_spec(world, RANKING_CLUSTER_KIND, json!({"gateway": {"drainSeconds": 30}}))
        .await?
        .expect_success()?;
    change_spec(world, V1BETA1_KIND, json!({"comment": {"mode": "Disabled"}})).await?.expect_success()?;
    let (alpha, beta) =
        (resource_in(world, RANKING_CLUSTER_KIND).await?, resource_in(world, V1BETA1_KIND).await?);
    ensure!(alpha["spec"]["comment"]["enabled"] == false, "v1alpha1: {}", alpha["spec"]["comment"]);
    ensure!(beta["spec"]["gateway"]["drainTimeout"] == "30s", "v1beta1: {}", beta["spec"]["gateway"]);
    ensure!(beta["metadata"]["uid"] == alpha["metadata"]["uid"], "two resources");
    // Applied again, it is what was written; the other one's change of another field stays.
    world.kube.apply_object(V1BETA1_KIND, &beta_resource(world)).await?;
    let alpha = resource_in(world, RANKING_CLUSTER_KIND).await?;
    let spec = &alpha["spec"];
    ensure!(spec["gateway"]["drainSeconds"] == 90 && spec["comment"]["enabled"] == false, "applied: {spec}");
    let seen = async || {
        let now = resource_in(world, V1BETA1_KIND).await?;
        let generation = &now["metadata"]["generation"];
        Ok(if now["status"]["observedGeneration"] == *generation {
            Ok(())
        } else {
            Err(now["status"].to_string())
        })
    };
    wait_until_some("the operator has seen the newest spec", SETTLE_TIMEOUT, seen).await.map(|_| ())
}

/// Checks what kubectl shows of each version: names, wide columns, and fields to select by.
async fn check_kubectl(world: &ClusterWorld) -> anyhow::Result<()> {
    for version in ["v1alpha1", "v1beta1"] {
        let plural = format!("rankingclusters.{version}.liverank.dev");
        let args = [
            "--namespace",
            VERSIONS_NAMESPACE,
            "get",
            &plural,
            "--output=wide",
            "--field-selector=spec.operatorClass=default",
        ];
        let shown = world.kube.run_kubectl(&args, None).await?;
        for word in ["MODE", "IMAGE", "REASON", VERSIONS_NAME, &world.settings.image] {
            ensure!(shown.stdout.contains(word), "{plural}: no {word}: {}{}", shown.stdout, shown.stderr);
        }
        let args =
            ["--namespace", VERSIONS_NAMESPACE, "get", &plural, "--field-selector=spec.operatorClass=other"];
        let shown = world.kube.run_kubectl(&args, None).await?;
        ensure!(
            !shown.stdout.contains(VERSIONS_NAME),
            "{plural}: selected by another class: {}",
            shown.stdout
        );
    }
    let explained = ["explain", "--api-version=liverank.dev/v1beta1", "rkc.spec.readers.drain.timeout"];
    let explained = world.kube.run_kubectl(&explained, None).await?;
    ensure!(
        explained.stdout.contains("The time limit for emptying a reader."),
        "explain: {}",
        explained.stdout
    );
    Ok(())
}

/// Checks that wrong durations and words are refused by the path of v1beta1.
async fn check_refusals(world: &ClusterWorld) -> anyhow::Result<()> {
    for (spec, path, words) in [
        (json!({"readers": {"drain": {"timeout": "5x"}}}), "spec.readers.drain.timeout", "should match"),
        (
            json!({"readers": {"drain": {"timeout": "9s"}}}),
            "spec.readers.drain.timeout",
            "write a duration from 10s to 24h",
        ),
        (json!({"comment": {"mode": "ReadOnly"}}), "spec.comment.mode", "supported values"),
        (
            json!({"gateway": {"podTemplate": {"container": {"livenessProbe": {"periodSeconds": "10"}}}}}),
            "spec.gateway.podTemplate.container.livenessProbe.periodSeconds",
            "must be of type integer",
        ),
        (json!({"auth": {"mode": "JWT"}}), "spec.auth", "set jwks, issuer and audience, or mode: None"),
    ] {
        let answer = change_spec(world, V1BETA1_KIND, spec).await?;
        let message = answer.body["message"].as_str().unwrap_or_default();
        ensure!(
            answer.status == 422 && message.contains(path) && message.contains(words),
            "{path}: {} {message}",
            answer.status
        );
    }
    Ok(())
}

/// Deletes the Secret of the webhook's certificate: another one is made, and requests are answered all the while.
/// Returns the time in seconds until all replicas showed it.
async fn check_renewal(world: &ClusterWorld) -> anyhow::Result<f64> {
    let path = SECRET_KIND.object_path(OPERATOR_NAMESPACE, &format!("{OPERATOR_NAME}-conversion"));
    let authority = |secret: &Value| kube::text_at(secret, "/data/ca.crt").to_owned();
    let former = authority(&world.kube.get_object(&path).await?.context("no Secret")?);
    world.kube.delete_object(&path).await?;
    let start = Instant::now();
    // A read that fails ends the scenario: it must not be taken for a reason to wait.
    let read_fails =
        |error: anyhow::Error| format!("a read fails while the certificate is renewed: {error:#}");
    let renewed = async || {
        if let Err(error) = resource_in(world, V1BETA1_KIND).await {
            return Ok(Look::Wrong(read_fails(error)));
        }
        let now = world.kube.get_object(&path).await?.map(|secret| authority(&secret));
        let is_other = now.as_ref().is_some_and(|now| *now != former);
        Ok(if is_other { Look::Found(()) } else { Look::NotYet("it is not there".to_owned()) })
    };
    wait_and_watch("another certificate is made", SETTLE_TIMEOUT, renewed).await?;
    let shown = async || {
        if let Err(error) = resource_in(world, V1BETA1_KIND).await {
            return Ok(Look::Wrong(read_fails(error)));
        }
        let selector =
            "--selector=app.kubernetes.io/name=liverank-operator,app.kubernetes.io/component=operator";
        let args = ["--namespace", OPERATOR_NAMESPACE, "logs", selector, "--tail=-1"];
        let log = world.kube.run_kubectl(&args, None).await?.stdout;
        let replicas = log.matches("the conversion webhook shows a renewed certificate").count();
        let told = format!("{replicas} replicas show it");
        Ok(if replicas == 2 { Look::Found(()) } else { Look::NotYet(told) })
    };
    wait_and_watch("both replicas show it", SETTLE_TIMEOUT, shown).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Checks that v1alpha1 can be read, listed and changed while no operator runs, and that v1beta1 is back with it.
async fn check_without_operator(world: &ClusterWorld) -> anyhow::Result<()> {
    world.scale_operator(0).await?;
    let beta = V1BETA1_KIND.object_path(VERSIONS_NAMESPACE, VERSIONS_NAME);
    // The API server tries the webhook for 30 s, which is longer than this client waits.
    let answer = world.kube.send_request(reqwest::Method::GET, &beta, None).await;
    let is_served = answer.is_ok_and(|it| it.status.is_success());
    let read = resource_in(world, RANKING_CLUSTER_KIND).await;
    let listed = world.kube.list_objects(RANKING_CLUSTER_KIND, VERSIONS_NAMESPACE, "").await;
    let changed = change_spec(world, RANKING_CLUSTER_KIND, json!({"gateway": {"drainSeconds": 45}})).await;
    let definition = world.kube.get_named(DEFINITION_KIND, "", DEFINITION_NAME).await?;
    world.scale_operator(2).await?;
    ensure!(!is_served, "v1beta1 is served without an operator");
    read?;
    ensure!(listed?.len() == 1, "a list of v1alpha1");
    changed?.expect_success().context("changing v1alpha1")?;
    let stored = &definition["status"]["storedVersions"];
    ensure!(*stored == json!(["v1alpha1"]), "stored versions: {stored}");
    let back = async || {
        let now = resource_in(world, V1BETA1_KIND).await?;
        Ok(if now["spec"]["gateway"]["drainTimeout"] == "45s" {
            Ok(())
        } else {
            Err(now["spec"].to_string())
        })
    };
    wait_until_some("v1beta1 is back", SETTLE_TIMEOUT, back).await.map(|_| ())
}
