//! The client of the MongoDB servers, and its replacement when the address in a file has other credentials, or the file of
//! the authorities other certificates.
//!
//! The driver keeps the credentials and the certificates of a client for the client's life. So a change takes another
//! client: it is made and tried while the former one serves, and takes its place only once the servers accept it. Whoever
//! uses the former client ends what it does there. Servers that the file names newly are refused, because the data are on
//! the others.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use liverank_core::backoff::wait_after_failures;
use liverank_core::secret::Secret;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, Tls};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::errors::{LoginChange, PART_NAME, store_error, with_timeout};
use super::ownership::CommitState;
use super::{MongoConfig, QUERY_TIMEOUT};
use crate::StoreError;

/// The pause between two looks at the files: as for the files of TLS, so that all secrets are in force equally soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The bounds of the pauses between two attempts with the same contents of the files, which were refused: each attempt
/// makes connections to all servers, and every process makes some.
const ATTEMPT_PAUSES: (Duration, Duration) = (LOOK_EVERY, Duration::from_secs(30));

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

/// Returns the file with the certificates of the authorities; `None` if the authorities are those of the system, or there
/// is no TLS.
fn authorities_file(options: &ClientOptions) -> Option<&Path> {
    match &options.tls {
        Some(Tls::Enabled(tls)) => tls.ca_file_path.as_deref(),
        _ => None,
    }
}

/// The contents of the files from which a client is made.
#[derive(Clone, PartialEq, Eq)]
struct FileContents {
    address: Secret,
    /// The certificates of the authorities; `None` without a file of them.
    authorities: Option<Vec<u8>>,
}

impl FileContents {
    /// Stands for files that cannot be read.
    fn unreadable() -> Self {
        Self { address: Secret::new(String::new()), authorities: None }
    }

    /// Reads the file of the authorities beside an address that was read.
    fn with_authorities(address: Secret, file: Option<&Path>) -> Result<Self, StoreError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| {
                StoreError::unusable(PART_NAME, format!("certificate file {}: {error}", file.display()))
            })
        };
        Ok(Self { address, authorities: file.map(read).transpose()? })
    }
}

/// The contents of the files that were refused last, and the time of the next attempt with them.
///
/// Pure: time is an argument.
#[derive(Default)]
struct RefusedContents {
    contents: Option<FileContents>,
    failures: u32,
    /// The time before which there is no other attempt; `None` if there may be one now.
    next_attempt: Option<Instant>,
    /// Whether the servers refuse the client in use, too.
    is_client_refused: bool,
}

impl RefusedContents {
    /// Returns true if an attempt with these contents is due: others than the ones that were refused always are.
    fn is_due(&self, now: Instant, contents: &FileContents) -> bool {
        self.contents.as_ref() != Some(contents) || self.next_attempt.is_none_or(|at| at <= now)
    }

    /// Notes that an attempt with these contents failed. Returns true if it was the first one with them.
    fn note_refusal(&mut self, now: Instant, contents: FileContents) -> bool {
        let is_first = self.contents.as_ref() != Some(&contents);
        if is_first {
            self.failures = 0;
        }
        let pause = wait_after_failures(self.failures, ATTEMPT_PAUSES.0, ATTEMPT_PAUSES.1);
        self.contents = Some(contents);
        self.failures = self.failures.saturating_add(1);
        self.next_attempt = Some(now + pause);
        is_first
    }

    /// Notes that the servers refuse the client in use: they may have just taken up what the file has for long, so the next
    /// attempt is due at once, and the ones after it begin with short pauses. Only the first call since the client was
    /// replaced has an effect.
    fn note_client_refused(&mut self) {
        if !std::mem::replace(&mut self.is_client_refused, true) {
            (self.failures, self.next_attempt) = (0, None);
        }
    }
}

/// The task that replaces a client when the files that it was made from change.
pub(super) struct CredentialsWatch {
    config: MongoConfig,
    /// The contents of the files that the client in use was made from.
    in_use: FileContents,
    /// The options at the start: of a changed address the credentials alone are taken, so that no file can switch off
    /// TLS while the process runs.
    options: ClientOptions,
    refused: RefusedContents,
    /// The number of times that the servers refused the login of the client in use.
    login_refusals: Arc<AtomicU64>,
}

impl CredentialsWatch {
    /// Returns the task for the client of `options`, which were made from `address`; `None` if there are no files that
    /// may change. `login_refusals` counts how often the servers refuse the client's login.
    ///
    /// # Errors
    /// The file of the authorities cannot be read.
    pub(super) fn new(
        config: MongoConfig,
        address: Secret,
        options: &ClientOptions,
        login_refusals: &Arc<AtomicU64>,
    ) -> Result<Option<Self>, StoreError> {
        let file = authorities_file(options);
        if !config.uri.may_change() && file.is_none() {
            return Ok(None);
        }
        let in_use = FileContents::with_authorities(address, file)?;
        Ok(Some(Self {
            config,
            in_use,
            options: options.clone(),
            refused: RefusedContents::default(),
            login_refusals: Arc::clone(login_refusals),
        }))
    }

    /// Starts the task that watches the credentials. The task ends when the archive is dropped.
    pub(super) fn start(self, in_use: &ClientInUse, owner: &Arc<Mutex<CommitState>>) {
        tokio::spawn(self.run(Arc::downgrade(&in_use.0), Arc::downgrade(owner)));
    }

    async fn run(mut self, in_use: Weak<RwLock<Client>>, owner: Weak<Mutex<CommitState>>) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known_refusals = 0;
        while in_use.strong_count() > 0 {
            ticks.tick().await;
            let refusals = self.login_refusals.load(Ordering::Relaxed);
            if std::mem::replace(&mut known_refusals, refusals) != refusals {
                self.refused.note_client_refused();
            }
            let read = self.read_files();
            if read.as_ref().is_ok_and(|contents| *contents == self.in_use) {
                continue;
            }
            let (contents, client) = match read {
                Ok(contents) if !self.refused.is_due(Instant::now(), &contents) => continue,
                Ok(contents) => {
                    let client = self.client_at(&contents.address).await;
                    (contents, client)
                }
                Err(error) => (FileContents::unreadable(), Err(error)),
            };
            let (Some(in_use), Some(owner)) = (in_use.upgrade(), owner.upgrade()) else { return };
            match client {
                Ok(client) => {
                    *in_use.write().unwrap_or_else(PoisonError::into_inner) = client;
                    // The session is one of the former client.
                    owner.lock().await.forget_session();
                    (self.in_use, self.refused) = (contents, RefusedContents::default());
                    tracing::info!(part = PART_NAME, "the changed credentials or certificates are in use");
                }
                Err(error) => {
                    if self.refused.note_refusal(Instant::now(), contents) {
                        tracing::warn!(part = PART_NAME, %error, "what changed in the files is not used yet, and what they had before is");
                    }
                }
            }
        }
    }

    /// Reads the files as they are now.
    fn read_files(&self) -> Result<FileContents, StoreError> {
        FileContents::with_authorities(self.config.uri.read(PART_NAME)?, authorities_file(&self.options))
    }

    /// Returns a client with the credentials of `address` that the servers accept.
    async fn client_at(&self, address: &Secret) -> Result<Client, StoreError> {
        let logins = LoginChange::of(&self.config);
        let options = self.options_with_credentials_of(address).await?;
        // The driver reads the file of the authorities here.
        let client = Client::with_options(options);
        let client = client.map_err(|error| store_error("configuring", logins, &error))?;
        // A `ping` would be answered to anybody. This is answered to a user who may read the archive.
        with_timeout(QUERY_TIMEOUT, "trying the changed credentials", logins, async {
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
        let logins = LoginChange::of(&self.config);
        let changed = self.config.driver_options(address);
        let changed = with_timeout(QUERY_TIMEOUT, "reading the changed address", logins, changed).await?;
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
}

#[cfg(test)]
mod tests {
    use mongodb::options::Tls;

    use super::*;
    use crate::SecretSource;

    /// Returns the options of the start with the credentials of another address, or the text of the refusal.
    async fn changed_options(start: &str, changed: &str) -> Result<ClientOptions, String> {
        let config = MongoConfig::new(SecretSource::File("/not/read".into()));
        let address = Secret::new(start);
        let options = config.driver_options(&address).await.unwrap();
        let watch = CredentialsWatch::new(config, address, &options, &Arc::default()).unwrap().unwrap();
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

    fn contents(address: &str) -> FileContents {
        FileContents { address: Secret::new(address), authorities: None }
    }

    /// Returns the seconds, out of `seconds`, at which there is an attempt, if every one of them is refused.
    fn attempts(refused: &mut RefusedContents, start: Instant, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let mut due = Vec::new();
        for second in seconds {
            let now = start + Duration::from_secs(second);
            if refused.is_due(now, &contents("wrong")) {
                refused.note_refusal(now, contents("wrong"));
                due.push(second);
            }
        }
        due
    }

    #[test]
    fn what_is_refused_is_tried_less_and_less_often() {
        let (mut refused, start) = (RefusedContents::default(), Instant::now());
        let due = attempts(&mut refused, start, 0..200);
        assert_eq!(due, [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]);
        let now = start + Duration::from_secs(182);
        assert!(refused.is_due(now, &contents("another")), "other contents are tried at once");
        assert!(
            refused.note_refusal(now, contents("another")) && !refused.note_refusal(now, contents("another"))
        );
        assert!(!refused.is_due(now, &contents("another")));
        assert_eq!(attempts(&mut refused, start, 183..200), [183, 184, 186, 190, 198], "and begin anew");
    }

    #[test]
    fn a_client_that_is_refused_makes_the_next_attempt_due_once() {
        let (mut refused, start) = (RefusedContents::default(), Instant::now());
        attempts(&mut refused, start, 0..62);
        refused.note_client_refused();
        assert_eq!(attempts(&mut refused, start, 62..90), [62, 63, 65, 69, 77]);
        refused.note_client_refused();
        assert_eq!(attempts(&mut refused, start, 90..100), [93]);
    }

    #[tokio::test]
    async fn only_files_are_watched() {
        let watched = async |config: MongoConfig| {
            let address = Secret::new("mongodb://a:1/?tls=true");
            let options = config.driver_options(&address).await.unwrap();
            CredentialsWatch::new(config, address, &options, &Arc::default()).map(|watch| watch.is_some())
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.crt");
        let with_authorities =
            MongoConfig { ca_file: Some(file.clone()), ..MongoConfig::new("mongodb://a:1/") };
        assert!(!watched(MongoConfig::new("mongodb://a:1/")).await.unwrap());
        let error = watched(with_authorities.clone()).await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("ca.crt"), "{error}");
        std::fs::write(&file, "x").unwrap();
        assert!(watched(with_authorities).await.unwrap());
    }
}
