//! Secrets in pods: mounted as files, or as environment variables if a role accepts them in no other way. The operator
//! reads no Secret.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, KeyToPath, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};

use super::{Component, Store};
use crate::crd::{RankingClusterSpec, SecretKey};

/// The folder of files from Secrets; each file has a folder of its own in it.
const FOLDER: &str = "/etc/liverank/secrets";
/// The file mode of Secrets: readable by user and group, by nobody else.
const MODE: i32 = 0o440;

/// A key of a Secret as a file in the pods of a component.
pub(super) struct File<'a> {
    /// The flag by which the role gets the path of the file.
    pub(super) setting: &'static str,
    /// The name of the volume and of its folder.
    volume: &'static str,
    name: &'static str,
    secret: &'a SecretKey,
}

impl File<'_> {
    /// Returns the path of the file in the pod.
    pub(super) fn path(&self) -> String {
        format!("{FOLDER}/{}/{}", self.volume, self.name)
    }

    pub(super) fn volume(&self) -> Volume {
        volume(self.volume, &self.secret.name, &[(&self.secret.key, self.name)])
    }

    pub(super) fn mount(&self) -> VolumeMount {
        VolumeMount {
            name: self.volume.to_owned(),
            mount_path: format!("{FOLDER}/{}", self.volume),
            read_only: Some(true),
            ..VolumeMount::default()
        }
    }
}

/// Returns a volume with keys of a Secret; `files` gives each key with the name of its file.
pub(super) fn volume(name: &str, secret: &str, files: &[(&str, &str)]) -> Volume {
    let file = |(key, path): &(&str, &str)| KeyToPath {
        key: (*key).to_owned(),
        path: (*path).to_owned(),
        mode: None,
    };
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(files.iter().map(file).collect()),
            default_mode: Some(MODE),
            optional: None,
        }),
        ..Volume::default()
    }
}

/// Returns the files from Secrets that a component needs, and no others.
pub(super) fn files(spec: &RankingClusterSpec, component: Component) -> Vec<File<'_>> {
    let of_stores = component.stores().iter().filter_map(|store| {
        let (setting, volume, secret) = match store {
            Store::Kafka => ("kafka-ca-file", "kafka-ca", &spec.kafka.ca_secret),
            Store::Redis => ("redis-ca-file", "redis-ca", &spec.redis.ca_secret),
            Store::Mongodb => ("mongodb-ca-file", "mongodb-ca", &spec.mongodb.ca_secret),
        };
        Some(File { setting, volume, name: "ca.pem", secret: secret.as_ref()? })
    });
    let jwks = checks_users(spec, component)
        .then(|| spec.auth.jwks.as_ref()?.secret_key.as_ref())
        .flatten()
        .map(|secret| File { setting: "auth-jwks-file", volume: "jwks", name: "jwks.json", secret });
    let revoked = checks_users(spec, component).then_some(spec.auth.revoked_secret.as_ref()).flatten();
    let revoked = revoked.map(|secret| File {
        setting: "auth-revoked-file",
        volume: "liverank-revoked",
        name: "revoked.json",
        secret,
    });
    let hook = matches!(component, Component::Comment).then_some(spec.comment.hook.as_ref()).flatten();
    let hook = hook.map(|hook| File {
        setting: "comment-hook-key-file",
        volume: "liverank-hook",
        name: "hook.key",
        secret: &hook.key_secret,
    });
    of_stores.chain(jwks).chain(revoked).chain(hook).collect()
}

/// Returns the URL from which a component gets the keys of users' tokens; `None` if the keys come from a Secret or the
/// component checks no users.
pub(super) fn jwks_url(spec: &RankingClusterSpec, component: Component) -> Option<&str> {
    checks_users(spec, component).then(|| spec.auth.jwks.as_ref()?.url.as_deref())?
}

/// Returns whether a component checks the tokens of users. Only gateways do, because all requests of users pass them.
pub(super) const fn checks_users(spec: &RankingClusterSpec, component: Component) -> bool {
    spec.auth.enabled && matches!(component, Component::Gateway)
}

/// Returns the environment variables from Secrets that a component needs, and no others.
pub(super) fn variables(spec: &RankingClusterSpec, component: Component) -> Vec<EnvVar> {
    component.stores().iter().flat_map(|store| store_variables(spec, *store)).collect()
}

fn store_variables(spec: &RankingClusterSpec, store: Store) -> Vec<EnvVar> {
    match store {
        Store::Redis => vec![variable("LIVERANK_REDIS", &spec.redis.url_secret, false)],
        Store::Mongodb => vec![variable("LIVERANK_MONGODB", &spec.mongodb.uri_secret, false)],
        Store::Kafka => spec.kafka.credentials_secret.as_deref().map_or_else(Vec::new, |secret| {
            [("USERNAME", "username", false), ("PASSWORD", "password", false), ("SASL", "mechanism", true)]
                .into_iter()
                .map(|(name, key, optional)| {
                    let key = SecretKey { name: secret.to_owned(), key: key.to_owned() };
                    variable(&format!("LIVERANK_KAFKA_{name}"), &key, optional)
                })
                .collect()
        }),
    }
}

fn variable(name: &str, secret: &SecretKey, optional: bool) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.name.clone(),
                key: secret.key.clone(),
                optional: optional.then_some(true),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}
