//! The user name and the password that connections to Redis begin with.
//!
//! Redis asks for them once, at the begin of a connection. So where they are in a file, the file is read for each new
//! connection, and connections that are open stay. Nothing but user name and password is taken from a file that has
//! changed: the data are on the servers of the start, and other servers are not shown the password.

use std::sync::{Mutex, PoisonError};

use redis::{ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError};

use super::PART_NAME;
use crate::{SecretSource, StoreError};

/// A user name and a password; each is absent if the address has none.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    username: Option<String>,
    password: Option<String>,
}

impl Login {
    /// Returns the user name and the password in the settings of an address.
    pub(super) fn of(settings: &RedisConnectionInfo) -> Self {
        Self {
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
        }
    }

    /// Returns the settings with this user name and password. The settings must have none of their own.
    pub(super) fn added_to(&self, mut settings: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        settings
    }
}

/// The addresses in the settings, from which the user name and the password of each new connection are read.
pub(super) struct LoginSource {
    url: SecretSource,
    is_cluster: bool,
    /// The servers at the start.
    servers: Vec<(ConnectionAddr, i64)>,
    /// The login that a server accepted last; `None` before the first connection. All servers of a cluster share it:
    /// one that the cluster names later has accepted none yet.
    accepted_login: Mutex<Option<Login>>,
}

impl LoginSource {
    /// Returns the source of logins, which reads the addresses of the start from `text`.
    pub(super) fn new(url: SecretSource, text: &str, is_cluster: bool) -> Result<Self, StoreError> {
        let (servers, _) = read_addresses(text, is_cluster)?;
        Ok(Self { url, is_cluster, servers, accepted_login: Mutex::default() })
    }

    /// Returns the user name and the password in the settings as they are now: those of the first address.
    ///
    /// # Errors
    /// The file cannot be read, or names other servers than at the start.
    pub(super) fn present_login(&self) -> Result<Login, StoreError> {
        let text = self.url.read(PART_NAME)?;
        let (servers, login) = read_addresses(text.expose(), self.is_cluster)?;
        if servers == self.servers {
            Ok(login)
        } else {
            Err(StoreError::unusable(
                PART_NAME,
                "the file names other servers than at the start, which takes a restart",
            ))
        }
    }

    /// Returns the login that a server accepted last; `None` before the first connection.
    pub(super) fn accepted_login(&self) -> Option<Login> {
        self.accepted_login.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a server has accepted `login`.
    pub(super) fn note_accepted_login(&self, login: Login) {
        *self.accepted_login.lock().unwrap_or_else(PoisonError::into_inner) = Some(login);
    }

    /// Returns true if the login may change while the process runs.
    pub(super) const fn may_change(&self) -> bool {
        self.url.may_change()
    }
}

/// Returns the servers that `text` names, with their numbered databases, and the login of the first one.
fn read_addresses(text: &str, is_cluster: bool) -> Result<(Vec<(ConnectionAddr, i64)>, Login), StoreError> {
    let urls: Vec<&str> = if is_cluster { text.split(',').collect() } else { vec![text] };
    let mut login = None;
    let mut servers = Vec::new();
    for url in urls {
        let info = url.trim().into_connection_info();
        // The text of the error has no part of the URL.
        let info = info.map_err(|error| StoreError::unusable(PART_NAME, format!("URL: {error}")))?;
        servers.push((info.addr().clone(), info.redis_settings().db()));
        login.get_or_insert_with(|| Login::of(info.redis_settings()));
    }
    Ok((servers, login.unwrap_or_default()))
}

/// Returns true if the server did not take the user name and password, or asks for some.
pub(super) fn is_login_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(username: Option<&str>, password: Option<&str>) -> Login {
        Login { username: username.map(str::to_owned), password: password.map(str::to_owned) }
    }

    #[test]
    fn a_changed_file_gives_the_next_login_and_no_other_server() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("url");
        let start = "redis://app:one@a:1/3";
        let source = LoginSource::new(SecretSource::File(file.clone()), start, false).unwrap();
        let present = |text: &str| {
            std::fs::write(&file, text).unwrap();
            source.present_login().map_err(|error| error.to_string())
        };
        assert!(present(start).unwrap() == login(Some("app"), Some("one")));
        assert!(present("redis://other:two%2F@a:1/3\n").unwrap() == login(Some("other"), Some("two/")));
        assert!(present("redis://:two@a:1/3").unwrap() == login(None, Some("two")));
        assert!(present("redis://a:1/3").unwrap() == Login::default());
        for other in [
            "redis://app:two@b:1/3",
            "redis://app:two@a:2/3",
            "redis://app:two@a:1/4",
            "rediss://app:two@a:1/3",
        ] {
            let error = present(other).err().unwrap();
            assert!(error.contains("other servers") && !error.contains("two"), "{error}");
        }
        assert!(present("redis://app:two@a:nowhere").is_err_and(|error| !error.contains("two")));
    }

    #[test]
    fn the_login_of_a_cluster_is_that_of_its_first_address() {
        let text = "redis://app:one@a:1, redis://b:2";
        let source = LoginSource::new(text.into(), text, true).unwrap();
        assert!(source.present_login().unwrap() == login(Some("app"), Some("one")));
        assert!(!source.may_change());
    }
}
