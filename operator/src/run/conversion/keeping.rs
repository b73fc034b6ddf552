//! The leader's part of the webhook: keeps the certificate in its Secret, and writes the certificate's authority into
//! the definition of the resource. The leader may read and write that one Secret and that one definition; if it may
//! not, a log line and a metric say which permission is lacking.

use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt as _, Resource as _};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::certificate::HeldCertificate;
use super::{ConversionSettings, LOOK_INTERVAL, PartReport, REQUEST_TIMEOUT};
use crate::crd::RankingCluster;
use crate::run::cache::FIELD_MANAGER;
use crate::run::metrics::{ConversionPart, OperatorMetrics};

/// The number of reads of the Secret for each read of the definition, which has a quarter of a megabyte.
const LOOKS_PER_DEFINITION: u32 = 6;

/// Keeps the certificate in the Secret and its authority in the definition current, for as long as this process leads.
/// Never returns.
pub async fn keep_certificate(client: Client, settings: ConversionSettings, metrics: OperatorMetrics) {
    let mut keeper = CertificateKeeper {
        secrets: Api::namespaced(client.clone(), &settings.namespace),
        definitions: Api::all(client),
        settings,
        certificate: None,
        in_use: None,
        is_unwritten: false,
    };
    let _told_by_leader = LeaderMetrics(metrics.clone());
    let mut certificate = PartReport::new(ConversionPart::Certificate);
    let mut told = PartReport::new(ConversionPart::Definition);
    let mut looks = 0_u32;
    loop {
        let before = keeper.certificate.clone();
        let kept = keeper.keep_current().await;
        if kept.is_ok() && (keeper.certificate != before || looks.is_multiple_of(LOOKS_PER_DEFINITION)) {
            told.note_result(&metrics, &keeper.publish_authority().await);
        }
        certificate.note_result(&metrics, &kept);
        metrics.note_certificate_end(
            keeper.certificate_shown_by_replicas().map(HeldCertificate::valid_until_seconds),
        );
        looks = looks.wrapping_add(1);
        sleep(LOOK_INTERVAL).await;
    }
}

/// The metrics of the webhook that the leader alone exports. Dropping the value removes these metrics: a former leader
/// does not know the present state.
struct LeaderMetrics(OperatorMetrics);

impl Drop for LeaderMetrics {
    fn drop(&mut self) {
        self.0.forget_conversion();
    }
}

struct CertificateKeeper {
    secrets: Api<Secret>,
    definitions: Api<CustomResourceDefinition>,
    settings: ConversionSettings,
    /// The certificate that is in the Secret, or that is to be written into it.
    certificate: Option<HeldCertificate>,
    /// The certificate that was last seen in the Secret. Replicas show this certificate, also for a while after the
    /// Secret was deleted.
    in_use: Option<HeldCertificate>,
    /// Whether `certificate` could not be written yet.
    is_unwritten: bool,
}

impl CertificateKeeper {
    /// Returns the certificate that replicas show: not one that could not be written to the Secret yet.
    fn certificate_shown_by_replicas(&self) -> Option<&HeldCertificate> {
        if self.is_unwritten { self.in_use.as_ref() } else { self.certificate.as_ref() }
    }

    /// Reads the certificate from the Secret; makes a new one if there is none, or if a renewal is due.
    async fn keep_current(&mut self) -> anyhow::Result<()> {
        let name = &self.settings.secret;
        let found = with_time_limit(self.secrets.get_opt(name))
            .await
            .with_context(|| self.describe_needed_permission("get"))?;
        let now = Timestamp::now();
        let shown = found.as_ref().and_then(HeldCertificate::of_secret);
        if let Some(shown) = &shown {
            self.in_use = Some(shown.clone());
        }
        if let Some(stored) = shown.as_ref().filter(|held| !held.is_renewal_due(now)) {
            (self.certificate, self.is_unwritten) = (Some(stored.clone()), false);
            return Ok(());
        }
        let again = self.certificate.clone().filter(|held| self.is_unwritten && !held.is_renewal_due(now));
        let made = match again {
            Some(made) => made,
            None => HeldCertificate::make(&self.settings.service, &self.settings.namespace, now)?,
        };
        (self.certificate, self.is_unwritten) = (Some(made.clone()), true);
        // The API server is told first: it accepts the former certificate, too, which replicas show for some seconds more. As
        // long as it cannot be told, they go on showing one that they have.
        let told = self.publish_authority().await;
        if shown.is_some() {
            told?;
        }
        let secret = made.to_secret(name, found.as_ref());
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match &found {
            Some(_) => with_time_limit(self.secrets.replace(name, &parameters, &secret)).await,
            None => with_time_limit(self.secrets.create(&parameters, &secret)).await,
        }
        .with_context(|| {
            self.describe_needed_permission(if found.is_some() { "update" } else { "create" })
        })?;
        self.is_unwritten = false;
        tracing::info!(secret = name, "another certificate of the conversion webhook");
        Ok(())
    }

    /// Writes the authority of the certificate into the `CustomResourceDefinition`, by which the API server verifies
    /// the webhook.
    async fn publish_authority(&self) -> anyhow::Result<()> {
        let Some(held) = &self.certificate else { return Ok(()) };
        let name = RankingCluster::crd_name();
        let may = |verb: &str| format!("the operator needs {verb} of the customresourcedefinition {name}");
        let found = with_time_limit(self.definitions.get(name)).await.with_context(|| may("get"))?;
        let Some(config) = client_config(&found) else {
            bail!("the definition serves v1alpha1 only: install the one of both versions");
        };
        let service = config.service.as_ref().map(|it| (it.namespace.as_str(), it.name.as_str()));
        let ours = (self.settings.namespace.as_str(), self.settings.service.as_str());
        if service != Some(ours) {
            bail!("the definition names another Service than {}/{}: {service:?}", ours.0, ours.1);
        }
        let told = config.ca_bundle.as_ref().map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned());
        let wanted = held.authorities(
            self.in_use.as_ref().map(|it| it.authority.as_str()),
            told.as_deref().unwrap_or_default(),
        );
        if told.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": found.meta().resource_version },
            "spec": { "conversion": { "webhook": { "clientConfig": {
                "caBundle": ByteString(wanted.into_bytes()),
            } } } },
        });
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        with_time_limit(self.definitions.patch(name, &parameters, &Patch::Merge(patch)))
            .await
            .with_context(|| may("patch"))?;
        Ok(())
    }

    fn describe_needed_permission(&self, verb: &str) -> String {
        let ConversionSettings { namespace, secret, .. } = &self.settings;
        format!("the operator needs {verb} of the secret {secret} in {namespace}")
    }
}

/// Returns the part of the definition that says where the webhook is; `None` if the definition names no webhook.
fn client_config(definition: &CustomResourceDefinition) -> Option<&WebhookClientConfig> {
    let conversion = definition.spec.conversion.as_ref()?;
    conversion.webhook.as_ref()?.client_config.as_ref().filter(|_| conversion.strategy == "Webhook")
}

/// Sends a request to the API server within the time limit.
async fn with_time_limit<T>(request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    Ok(timeout(REQUEST_TIMEOUT, request).await.context("no answer in time")??)
}
