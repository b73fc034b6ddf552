//! The server's error codes.

use mongodb::error::{Error, ErrorKind};

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
