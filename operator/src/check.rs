//! `liverank-operator check`: tests whether an installed operator works. It creates a hibernating `RankingCluster` and
//! deletes it again: the operator has to write all objects of the cluster and to report that in the status. No pod
//! runs, so that no stores and no free nodes are needed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::OutputArgs;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::crd::RankingCluster;

/// The time between two looks at the resource's status.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The longest time for one request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates a `RankingCluster` without pods, waits until the operator has reconciled it, and deletes it.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The namespace of the test's resource: one that the operator looks at.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: String,
    /// The class of the operator that is tested, as given to its `--operator-class`.
    #[arg(long, value_name = "CLASS", default_value = "default")]
    pub operator_class: String,
    /// The image that the objects name; no node pulls it.
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// The time within which the operator must have done it.
    #[arg(long, alias = "seconds", value_name = "DURATION", default_value = "60s",
          value_parser = parser_of_range(Duration::from_secs(1), Duration::from_hours(1)))]
    pub within: Duration,
    /// The format of the output.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl CheckArgs {
    /// Runs the check and prints how long the operator took; an error if the operator failed or took too long.
    pub fn main(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let took = runtime.block_on(Box::pin(self.create_and_wait()))?;
        let seconds = took.as_secs_f64();
        self.output.print_value(&json!({"seconds": seconds}), || {
            format!("the operator made a RankingCluster of it in {seconds:.1} s\n")
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn create_and_wait(&self) -> anyhow::Result<Duration> {
        let client = Client::try_default().await.context("there is no Kubernetes to talk to")?;
        let api: Api<RankingCluster> = Api::namespaced(client, &self.namespace);
        let name = format!("check-{:08x}", rand::random::<u32>());
        let start = Instant::now();
        let wanted = self.test_resource(&name)?;
        let parameters = PostParams::default();
        let made = timeout(REQUEST_TIMEOUT, api.create(&parameters, &wanted)).await;
        made.context("no answer in time")?.context("the RankingCluster cannot be made")?;
        let result = self.wait_until_reconciled(&api, &name, start).await;
        // The resource is deleted whatever the result of the check is.
        let deleted = timeout(REQUEST_TIMEOUT, api.delete(&name, &DeleteParams::default())).await;
        let took = result?;
        deleted.context("no answer in time")?.with_context(|| format!("{name} cannot be deleted"))?;
        Ok(took)
    }

    async fn wait_until_reconciled(
        &self,
        api: &Api<RankingCluster>,
        name: &str,
        start: Instant,
    ) -> anyhow::Result<Duration> {
        let mut said = "nothing".to_owned();
        while start.elapsed() < self.within {
            match timeout(REQUEST_TIMEOUT, api.get(name)).await {
                Ok(Ok(cluster)) => match check_by_kstatus(&cluster) {
                    ReconcileVerdict::Done => return Ok(start.elapsed()),
                    ReconcileVerdict::Failed(why) => bail!("the operator says: {why}"),
                    ReconcileVerdict::Waits(why) => said = why,
                },
                Ok(Err(error)) => said = error.to_string(),
                Err(_) => "no answer in time".clone_into(&mut said),
            }
            sleep(POLL_INTERVAL).await;
        }
        bail!(
            "within {} s no operator of the class {} has made {}/{name} what it asks for; last was said: {said}",
            self.within.as_secs(),
            self.operator_class,
            self.namespace,
        )
    }

    /// Returns the `RankingCluster` that the check creates: it hibernates, so that it has no pods.
    fn test_resource(&self, name: &str) -> anyhow::Result<RankingCluster> {
        let secret = |key: &str| json!({"name": "not-needed", "key": key});
        let resource = json!({
            "apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "operatorClass": self.operator_class,
                "image": self.image,
                "hibernate": true,
                "kafka": {"bootstrapServers": "not-needed:9092"},
                "redis": {"urlSecret": secret("url")},
                "mongodb": {"uriSecret": secret("uri")},
                "auth": {"enabled": false},
            },
        });
        serde_json::from_value(resource).context("a RankingCluster")
    }
}

/// The result of the check, read from the status of the resource.
#[derive(Debug, PartialEq, Eq)]
enum ReconcileVerdict {
    Done,
    Waits(String),
    Failed(String),
}

/// Judges the status by the rules of kstatus; the check is done when the resource is reconciled and hibernates.
fn check_by_kstatus(cluster: &RankingCluster) -> ReconcileVerdict {
    let Some(status) = cluster.status.as_ref() else {
        return ReconcileVerdict::Waits("no status".to_owned());
    };
    if status.observed_generation != Some(cluster.generation()) {
        return ReconcileVerdict::Waits("no operator has looked at it".to_owned());
    }
    let find = |kind: &str| status.conditions.iter().find(|it| it.type_ == kind);
    let told = |kind: &str| find(kind).map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default();
    let is = |kind: &str, wanted: &str| find(kind).is_some_and(|it| it.status == wanted);
    if is("Stalled", "True") {
        return ReconcileVerdict::Failed(told("Stalled"));
    }
    let sleeps = find("Ready").is_some_and(|it| it.status == "True" && it.reason == "Hibernated");
    if is("Reconciling", "False") && sleeps {
        ReconcileVerdict::Done
    } else {
        ReconcileVerdict::Waits(told("Reconciling"))
    }
}

#[cfg(test)]
mod tests {
    use liverank_runtime::output::OutputFormat;

    use super::*;

    fn verdict_of_conditions(generation: i64, conditions: &[(&str, &str, &str)]) -> ReconcileVerdict {
        let args = CheckArgs {
            namespace: "ns".into(),
            operator_class: "blue".into(),
            image: "i:1".into(),
            within: Duration::from_secs(1),
            output: OutputArgs { output: OutputFormat::Table },
        };
        let mut cluster = args.test_resource("check-1").unwrap();
        assert_eq!(crate::validate::validate_cluster(&cluster), [], "what is made is valid");
        cluster.metadata.generation = Some(1);
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({"type": kind, "status": status, "reason": reason, "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let status = json!({"observedGeneration": generation, "conditions": conditions});
        cluster.status = Some(serde_json::from_value(status).unwrap());
        check_by_kstatus(&cluster)
    }

    #[test]
    fn the_check_ends_when_the_status_speaks_of_the_newest_spec() {
        let (done, asleep) = (("Reconciling", "False", "Done"), ("Ready", "True", "Hibernated"));
        assert_eq!(verdict_of_conditions(1, &[done, asleep]), ReconcileVerdict::Done);
        assert!(matches!(verdict_of_conditions(-1, &[done, asleep]), ReconcileVerdict::Waits(_)));
        let writing = ("Reconciling", "True", "Writing");
        assert_eq!(
            verdict_of_conditions(1, &[writing, asleep]),
            ReconcileVerdict::Waits("Writing: m".into())
        );
        assert!(matches!(
            verdict_of_conditions(1, &[done, ("Ready", "True", "Serving")]),
            ReconcileVerdict::Waits(_)
        ));
        let stalled = ("Stalled", "True", "Forbidden");
        assert_eq!(
            verdict_of_conditions(1, &[stalled, done, asleep]),
            ReconcileVerdict::Failed("Forbidden: m".into())
        );
    }
}
