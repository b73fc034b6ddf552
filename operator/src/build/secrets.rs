//! Secrets in pods: mounted as files, so that they are in no environment. The operator reads no Secret.
//!
//! Builders up to revision 4 give the credentials of stores as environment variables.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, KeyToPath, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};

use std::borrow::Cow;

use super::{Component, Store};
use crate::crd::{RankingClusterSpec, SecretKey};

/// The folder in which files from Secrets are mounted; each file has a folder of its own below it.
const FOLDER: &str = "/etc/liverank/secrets";
/// The first builder revision that mounts the credentials of stores as files.
const CREDENTIALS_MOUNTED_SINCE_REVISION: u32 = 5;
/// The file mode of Secrets: readable by user and group, by nobody else.
const MODE: i32 = 0o440;

/// A key of a Secret that the pods of a component get as a file.
pub(super) struct File<'a> {
    /// The flag that gives the role the path of the file.
    pub(super) setting: &'static str,
    /// The name of the volume, and of the folder of the file.
    volume: &'static str,
    name: &'static str,
    secret: Cow<'a, SecretKey>,
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

/// Returns the files from Secrets that a component needs at this revision of the builder, and no others.
pub(super) fn files(spec: &RankingClusterSpec, revision: u32, component: Component) -> Vec<File<'_>> {
    let credentials = component.stores().iter().filter_map(|store| credential_file(spec, *store));
    let credentials = credentials.filter(|_| are_credentials_mounted(revision));
    let of_stores = component.stores().iter().filter_map(|store| {
        let (setting, volume, secret) = match store {
            Store::Kafka => ("kafka-ca-file", "kafka-ca", &spec.kafka.ca_secret),
            Store::Redis => ("redis-ca-file", "redis-ca", &spec.redis.ca_secret),
            Store::Mongodb => ("mongodb-ca-file", "mongodb-ca", &spec.mongodb.ca_secret),
        };
        Some(File { setting, volume, name: "ca.pem", secret: Cow::Borrowed(secret.as_ref()?) })
    });
    let jwks = checks_users(spec, component)
        .then(|| spec.auth.jwks.as_ref()?.secret_key.as_ref())
        .flatten()
        .map(|secret| File {
            setting: "auth-jwks-file",
            volume: "jwks",
            name: "jwks.json",
            secret: Cow::Borrowed(secret),
        });
    let revoked = checks_users(spec, component).then_some(spec.auth.revoked_secret.as_ref()).flatten();
    let revoked = revoked.map(|secret| File {
        setting: "auth-revoked-file",
        volume: "liverank-revoked",
        name: "revoked.json",
        secret: Cow::Borrowed(secret),
    });
    let hook = matches!(component, Component::Comment).then_some(spec.comment.hook.as_ref()).flatten();
    let hook = hook.map(|hook| File {
        setting: "comment-hook-key-file",
        volume: "liverank-hook",
        name: "hook.key",
        secret: Cow::Borrowed(&hook.key_secret),
    });
    of_stores.chain(credentials).chain(jwks).chain(revoked).chain(hook).collect()
}

/// Whether the credentials of stores are files in the pods, instead of environment variables.
const fn are_credentials_mounted(revision: u32) -> bool {
    revision >= CREDENTIALS_MOUNTED_SINCE_REVISION
}

/// Returns the file that contains the password or address by which a component reaches a store; `None` for a Kafka
/// without passwords.
fn credential_file(spec: &RankingClusterSpec, store: Store) -> Option<File<'_>> {
    let (setting, volume, name, secret) = match store {
        Store::Redis => {
            ("redis-url-file", "liverank-redis-url", "url", Cow::Borrowed(&spec.redis.url_secret))
        }
        Store::Mongodb => {
            ("mongodb-uri-file", "liverank-mongodb-uri", "uri", Cow::Borrowed(&spec.mongodb.uri_secret))
        }
        Store::Kafka => {
            let password = Cow::Owned(kafka_key(spec.kafka.credentials_secret.as_deref()?, "password"));
            ("kafka-password-file", "liverank-kafka-password", "password", password)
        }
    };
    Some(File { setting, volume, name, secret })
}

fn kafka_key(secret: &str, key: &str) -> SecretKey {
    SecretKey { name: secret.to_owned(), key: key.to_owned() }
}

/// Returns the URL from which a component gets the keys of users' tokens; `None` if the keys come from a Secret or the
/// component checks no users.
pub(super) fn jwks_url(spec: &RankingClusterSpec, component: Component) -> Option<&str> {
    checks_users(spec, component).then(|| spec.auth.jwks.as_ref()?.url.as_deref())?
}

/// Returns whether a component checks the tokens of users. Only gateways check the tokens of users, because all
/// requests of users pass through gateways.
pub(super) const fn checks_users(spec: &RankingClusterSpec, component: Component) -> bool {
    spec.auth.enabled && matches!(component, Component::Gateway)
}

/// Returns the environment variables from Secrets that a component needs at this revision of the builder, and no others.
pub(super) fn variables(spec: &RankingClusterSpec, revision: u32, component: Component) -> Vec<EnvVar> {
    component.stores().iter().flat_map(|store| store_variables(spec, revision, *store)).collect()
}

fn store_variables(spec: &RankingClusterSpec, revision: u32, store: Store) -> Vec<EnvVar> {
    let is_mounted = are_credentials_mounted(revision);
    match store {
        Store::Redis | Store::Mongodb if is_mounted => Vec::new(),
        Store::Redis => vec![variable("LIVERANK_REDIS", &spec.redis.url_secret, false)],
        Store::Mongodb => vec![variable("LIVERANK_MONGODB", &spec.mongodb.uri_secret, false)],
        Store::Kafka => spec.kafka.credentials_secret.as_deref().map_or_else(Vec::new, |secret| {
            let of_key = |(name, key, optional): (&str, &str, bool)| {
                variable(&format!("LIVERANK_KAFKA_{name}"), &kafka_key(secret, key), optional)
            };
            // The user's name and the mechanism are no secrets.
            let password = (!is_mounted).then_some(("PASSWORD", "password", false));
            let all = [("USERNAME", "username", false)].into_iter().chain(password);
            all.chain([("SASL", "mechanism", true)]).map(of_key).collect()
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
