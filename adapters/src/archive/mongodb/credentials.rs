//! The client of the MongoDB servers, and its replacement when the address in a file has other credentials.
//!
//! The driver keeps the credentials of a client for the client's life. So a change takes another client: it is made
//! and tried while the former one serves, and takes its place only once the servers accept it. Whoever uses the former
//! client ends what it does there. Servers that the file names newly are refused, because the data are on the others.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use liverank_core::secret::Secret;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::ownership::CommitState;
use super::{MongoConfig, PART_NAME, QUERY_TIMEOUT, store_error, with_timeout};
use crate::StoreError;

/// The pause between two looks at the file: as for the files of TLS, so that all secrets are in force equally soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The client in use. Cheap to clone: all clones are the same client, also after its replacement.
#[derive(Debug, Clone)]
pub(super) struct ClientInUse(Arc<RwLock<Client>>);

impl ClientInUse {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(RwLock::new(client)))
    }

    /// Returns the client as it is now.
    pub(super) fn get(&self) -> Client {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The servers that an address names.
#[derive(PartialEq, Eq)]
struct NamedServers {
    hosts: BTreeSet<String>,
    replica_set: Option<String>,
}

impl NamedServers {
    fn of(options: &ClientOptions) -> Self {
        // Their order is of no importance, and DNS may change it.
        let hosts = options.hosts.iter().map(ToString::to_string).collect();
        Self { hosts, replica_set: options.repl_set_name.clone() }
    }
}

/// The task that replaces a client when the credentials in the file of its address change.
pub(super) struct CredentialsWatch {
    config: MongoConfig,
    /// The address of the client in use.
    address: Secret,
    /// The options at the start: of a changed address the credentials alone are taken, so that no file can switch off
    /// TLS while the process runs.
    options: ClientOptions,
    /// The address that was refused last, so that each one is reported once.
    refused: Option<Secret>,
}

impl CredentialsWatch {
    /// Returns the task for the client of `options`, which were made from `address`.
    pub(super) fn new(config: MongoConfig, address: Secret, options: &ClientOptions) -> Self {
        Self { config, address, options: options.clone(), refused: None }
    }

    /// Starts the task. It ends when the archive is dropped.
    pub(super) fn start(self, in_use: &ClientInUse, owner: &Arc<Mutex<CommitState>>) {
        tokio::spawn(self.run(Arc::downgrade(&in_use.0), Arc::downgrade(owner)));
    }

    async fn run(mut self, in_use: Weak<RwLock<Client>>, owner: Weak<Mutex<CommitState>>) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while in_use.strong_count() > 0 {
            ticks.tick().await;
            let read = self.config.uri.read(PART_NAME);
            if read.as_ref().is_ok_and(|address| *address == self.address) {
                continue;
            }
            let (address, client) = match read {
                Ok(address) => {
                    let client = self.client_at(&address).await;
                    (address, client)
                }
                // Nothing was read: an empty content, so that this is reported once, too.
                Err(error) => (Secret::new(""), Err(error)),
            };
            let (Some(in_use), Some(owner)) = (in_use.upgrade(), owner.upgrade()) else { return };
            match client {
                Ok(client) => {
                    *in_use.write().unwrap_or_else(PoisonError::into_inner) = client;
                    // The session is one of the former client.
                    owner.lock().await.forget_session();
                    (self.address, self.refused) = (address, None);
                    tracing::info!(part = PART_NAME, "the changed credentials are in use");
                }
                Err(error) => self.report_refusal(address, &error),
            }
        }
    }

    /// Returns a client with the credentials of `address` that the servers accept.
    async fn client_at(&self, address: &Secret) -> Result<Client, StoreError> {
        let options = self.options_with_credentials_of(address).await?;
        let client = Client::with_options(options).map_err(|error| store_error("configuring", &error))?;
        // A `ping` would be answered to anybody. This is answered to a user who may read the archive.
        with_timeout(QUERY_TIMEOUT, "trying the changed credentials", async {
            client.database(&self.config.database).collection::<Document>("meta").find_one(doc! {}).await
        })
        .await?;
        Ok(client)
    }

    /// Returns the options of the start with the credentials of `address`.
    ///
    /// # Errors
    /// `address` cannot be read, names other servers, or has no credentials although the options of the start have.
    async fn options_with_credentials_of(&self, address: &Secret) -> Result<ClientOptions, StoreError> {
        let changed = self.config.driver_options(address);
        let changed = with_timeout(QUERY_TIMEOUT, "reading the changed address", changed).await?;
        let refuse = |what| Err(StoreError::unusable(PART_NAME, what));
        if NamedServers::of(&changed) != NamedServers::of(&self.options) {
            return refuse("the file names other servers than at the start, which takes a restart");
        }
        if changed.credential.is_none() && self.options.credential.is_some() {
            return refuse("the file has no credentials any more");
        }
        let mut options = self.options.clone();
        options.credential = changed.credential;
        Ok(options)
    }

    /// Logs that `address`, the content of the file, is not used; once for each content.
    fn report_refusal(&mut self, address: Secret, error: &StoreError) {
        if self.refused.as_ref() != Some(&address) {
            tracing::warn!(part = PART_NAME, %error, "the changed address is not used yet, and the former one is");
            self.refused = Some(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::options::Tls;

    use super::*;

    /// Returns the options of the start with the credentials of another address, or the text of the refusal.
    async fn changed_options(start: &str, changed: &str) -> Result<ClientOptions, String> {
        let config = MongoConfig::new(start);
        let address = Secret::new(start);
        let options = config.driver_options(&address).await.unwrap();
        let watch = CredentialsWatch::new(config, address, &options);
        watch.options_with_credentials_of(&Secret::new(changed)).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn nothing_but_credentials_is_taken_from_a_changed_address() {
        let start = "mongodb://app:one@a:1,b:2/?replicaSet=rs0&tls=true";
        let changed = "mongodb://other:two@b:2,a:1/?replicaSet=rs0&tls=false&readPreference=nearest";
        let options = changed_options(start, changed).await.unwrap();
        let credential = options.credential.unwrap();
        assert_eq!(
            (credential.username.as_deref(), credential.password.as_deref()),
            (Some("other"), Some("two"))
        );
        assert!(matches!(options.tls, Some(Tls::Enabled(_))) && options.selection_criteria.is_none());
    }

    #[tokio::test]
    async fn an_address_without_credentials_or_of_other_servers_is_refused() {
        let start = "mongodb://app:one@a:1/?replicaSet=rs0";
        for (changed, why) in [
            ("mongodb://a:1/?replicaSet=rs0", "no credentials any more"),
            ("mongodb://app:two@c:1/?replicaSet=rs0", "other servers"),
            ("mongodb://app:two@a:1/?replicaSet=rs1", "other servers"),
        ] {
            let refusal = changed_options(start, changed).await.unwrap_err();
            assert!(refusal.contains(why) && !refusal.contains("two"), "{refusal}");
        }
        assert!(
            changed_options("mongodb://a:1/", "mongodb://a:1/").await.is_ok(),
            "none before, and none now"
        );
    }
}
