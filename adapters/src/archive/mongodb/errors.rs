//! The driver's errors, divided by what a caller can do about them.

use std::error::Error as _;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind};

use super::MongoConfig;
use crate::StoreError;

/// The name of this store in errors and logs.
pub(super) const PART_NAME: &str = "mongodb";

/// The server's error code for a collection that exists already.
pub(super) const NAMESPACE_EXISTS: i32 = 48;
/// The server's error code for a second document with a key that must be unique.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// Returns the server's error code of a failed command or write; `None` for other errors.
pub(super) fn error_code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// Whether a login that the server refuses can be followed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginChange {
    /// The login is a setting: another one takes another process.
    Never,
    /// The login is in a file, which may have another one soon.
    ByFile,
}

impl LoginChange {
    /// Returns whether the login of `config` can change.
    pub(super) const fn of(config: &MongoConfig) -> Self {
        if config.uri.may_change() { Self::ByFile } else { Self::Never }
    }

    /// Returns the error for a login that the server refuses: it passes only if another login may come.
    fn refusal(self, reason: &str) -> StoreError {
        match self {
            Self::Never => StoreError::unusable(PART_NAME, format!("the login is refused: {reason}")),
            Self::ByFile => {
                StoreError::unavailable(PART_NAME, format!("waiting for a file with another login: {reason}"))
            }
        }
    }
}

/// Bounds the time of a request to the server: the driver itself waits for an answer for ever.
pub(super) async fn with_timeout<T>(
    time: Duration,
    doing: &str,
    logins: LoginChange,
    talk: impl Future<Output = Result<T, Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(time, talk).await {
        Ok(result) => result.map_err(|error| store_error(doing, logins, &error)),
        Err(_) => Err(StoreError::unavailable(PART_NAME, format!("{doing}: no answer within {time:?}"))),
    }
}

/// Turns a driver's error into a [`StoreError`], which tells the caller whether trying again may help; it may for most
/// errors, which come from the network or the replica set.
pub(super) fn store_error(doing: &str, logins: LoginChange, error: &Error) -> StoreError {
    /// The codes of errors that do not pass: `Unauthorized`, `AuthenticationFailed`, `IllegalOperation` (no
    /// transactions on this server), `UserNotFound`, `CommandNotFound`, `DocumentValidationFailure`.
    const PERMANENT_ERROR_CODES: [i32; 6] = [13, 18, 20, 11, 59, 121];
    let reason = format!("{doing}: {error}");
    match &*error.kind {
        _ if is_login_refused(error) => logins.refusal(&reason),
        ErrorKind::Command(command) if PERMANENT_ERROR_CODES.contains(&command.code) => {
            StoreError::unusable(PART_NAME, reason)
        }
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::BsonDeserialization(_)
        | ErrorKind::BsonSerialization(_)
        | ErrorKind::SessionsNotSupported
        | ErrorKind::IncompatibleServer { .. } => StoreError::unusable(PART_NAME, reason),
        _ => StoreError::unavailable(PART_NAME, reason),
    }
}

/// Returns true if the server did not take the user name and password of a connection. A server that is shutting down, or
/// is no primary any more, fails to authenticate, too: its error has another code.
pub(super) fn is_login_refused(error: &Error) -> bool {
    /// `UserNotFound`, `AuthenticationFailed`, `AtlasError`.
    const REFUSAL_CODES: [i32; 3] = [11, 18, 8000];
    if !matches!(&*error.kind, ErrorKind::Authentication { .. }) {
        return false;
    }
    let source = error.source();
    let source = source.and_then(|source| {
        source.downcast_ref::<Error>().or_else(|| source.downcast_ref::<Box<Error>>().map(|error| &**error))
    });
    source.and_then(error_code).is_none_or(|code| REFUSAL_CODES.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_passes_only_if_another_one_may_come() {
        let error = LoginChange::Never.refusal("reading");
        assert!(!error.is_transient() && error.to_string().contains("the login is refused"), "{error}");
        let error = LoginChange::ByFile.refusal("reading");
        assert!(error.is_transient() && error.to_string().contains("waiting for a file"), "{error}");
    }
}
