//! The user's settings for MongoDB, and the driver's options made from them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use liverank_core::secret::Secret;
use mongodb::error::Error;
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, Tls, TlsOptions, WriteConcern};

use crate::SecretSource;

/// The time for which the driver looks for a primary. An election takes a second or two; without a server each call
/// fails after this time.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// The time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest number of connections that a process opens: each consumer uses one for its commits, and reads of history
/// share the rest.
const MAX_CONNECTIONS: u32 = 32;

/// The address of the MongoDB server, and how to connect to it.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoConfig {
    /// A connection string (`mongodb://…` or `mongodb+srv://…`); credentials and TLS are part of it. If it is in a file,
    /// other credentials in the file are used soon after they stand there.
    pub uri: SecretSource,
    /// The name of the database.
    pub database: String,
    /// The file with the CA's certificate (PEM), for TLS with a CA that the system does not trust. A CA file implies
    /// TLS.
    pub ca_file: Option<PathBuf>,
}

impl MongoConfig {
    /// Returns a configuration with this address, the default database `video_db` and no CA file.
    pub fn new(uri: impl Into<SecretSource>) -> Self {
        Self { uri: uri.into(), database: "video_db".to_owned(), ca_file: None }
    }

    /// Makes the driver's options from these settings and the address in them, which was read before; an option in the
    /// address wins over our default.
    pub(super) async fn driver_options(&self, address: &Secret) -> Result<ClientOptions, Error> {
        let mut options = ClientOptions::parse(address.expose()).await?;
        options.app_name.get_or_insert_with(|| "liverank".to_owned());
        options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        options.max_pool_size.get_or_insert(MAX_CONNECTIONS);
        // A result that was returned once must not be undone by an election.
        options.read_concern = Some(ReadConcern::majority());
        options.write_concern = Some(durable_write_concern());
        if let Some(file) = &self.ca_file {
            let mut tls = match options.tls.take() {
                Some(Tls::Enabled(tls)) => tls,
                _ => TlsOptions::default(),
            };
            tls.ca_file_path = Some(file.clone());
            options.tls = Some(Tls::Enabled(tls));
        }
        Ok(options)
    }
}

/// Returns the write concern of durable writes: on disk on a majority of the members.
pub(super) fn durable_write_concern() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

impl fmt::Debug for MongoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match &self.uri {
            SecretSource::Value(uri) => without_credentials(uri.expose()),
            SecretSource::File(file) => file.display().to_string(),
        };
        f.debug_struct("MongoConfig")
            .field("uri", &shown)
            .field("database", &self.database)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// Returns an address without user name and password, which are between `//` and `@`.
fn without_credentials(uri: &str) -> String {
    match (uri.split_once("//"), uri.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}//…@{hosts}"),
        _ => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let config = MongoConfig::new("mongodb://user:hunter2@a:1,b:2/?replicaSet=rs0");
        let printed = format!("{config:?}");
        assert!(!printed.contains("hunter2") && printed.contains("a:1,b:2"), "{printed}");
        let plain = format!("{:?}", MongoConfig::new("mongodb://a:1/?replicaSet=rs0"));
        assert!(plain.contains("mongodb://a:1/?replicaSet=rs0"), "{plain}");
    }

    #[tokio::test]
    async fn a_ca_file_turns_tls_on_and_keeps_the_rest() {
        let address = Secret::new("mongodb://a:1/?serverSelectionTimeoutMS=100");
        let mut config = MongoConfig::new(address.expose());
        let options = config.driver_options(&address).await.unwrap();
        assert!(!matches!(options.tls, Some(Tls::Enabled(_))));
        assert_eq!(options.server_selection_timeout, Some(Duration::from_millis(100)), "the address decides");
        assert_eq!(options.connect_timeout, Some(CONNECT_TIMEOUT));
        config.ca_file = Some("/etc/ca.pem".into());
        match config.driver_options(&address).await.unwrap().tls {
            Some(Tls::Enabled(tls)) => assert_eq!(tls.ca_file_path, Some("/etc/ca.pem".into())),
            other => panic!("{other:?}"),
        }
    }
}
