//! The failures of a redb file, with error texts for the person who has to repair it.

use std::io::{self, ErrorKind};

use crate::StoreError;

/// The reason why an operation on a file failed.
#[derive(Debug)]
pub(crate) enum FileFailure {
    /// The operating system returned an error.
    Io(io::Error),
    /// redb returned an error.
    Redb(redb::Error),
    /// redb panicked: the contents of the file are not as redb wrote them.
    Panicked(String),
    /// A value in the file cannot be read; the text says which value and why.
    Damaged(String),
    /// The file has the format of another release.
    Format { found: u64, known: u64 },
}

impl<E: Into<redb::Error>> From<E> for FileFailure {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::Io(error),
            error => Self::Redb(error),
        }
    }
}

impl FileFailure {
    /// Returns true if the database has to be closed and opened again before it can be used.
    pub fn breaks_the_file(&self) -> bool {
        match self {
            Self::Io(_) | Self::Panicked(_) => true,
            Self::Damaged(_) | Self::Format { .. } => false,
            Self::Redb(error) => matches!(
                error,
                redb::Error::PreviousIo
                    | redb::Error::DatabaseClosed
                    | redb::Error::LockPoisoned(_)
                    | redb::Error::Corrupted(_)
            ),
        }
    }
}

/// Returns the failure of the file `name` as the error that its users get.
pub(super) fn explain_failure(part: &'static str, name: &str, failure: &FileFailure) -> StoreError {
    match failure {
        FileFailure::Io(error) => io_error(part, name, error),
        FileFailure::Panicked(text) | FileFailure::Damaged(text) => damaged_file(part, name, text),
        FileFailure::Format { found, known } => StoreError::unusable(
            part,
            format!(
                "{name} has format {found}, and this program knows format {known}: run the release that wrote it, or \
                 give this one another data directory"
            ),
        ),
        FileFailure::Redb(error) => redb_error(part, name, error),
    }
}

fn damaged_file(part: &'static str, name: &str, text: &str) -> StoreError {
    StoreError::unusable(
        part,
        format!(
            "{name} is damaged ({text}): put a copy of it back, or move it away to begin with an empty one"
        ),
    )
}

fn redb_error(part: &'static str, name: &str, error: &redb::Error) -> StoreError {
    use redb::Error as E;
    match error {
        E::DatabaseAlreadyOpen | E::LockProtocolMismatch => StoreError::unusable(
            part,
            format!("{name} is in use by another process: stop it, or give this one another data directory"),
        ),
        E::UpgradeRequired(version) => StoreError::unusable(
            part,
            format!(
                "{name} is of redb's file format {version}, too old for this program: give it another data directory"
            ),
        ),
        E::Corrupted(_)
        | E::TableTypeMismatch { .. }
        | E::TypeDefinitionChanged { .. }
        | E::TableIsMultimap(_)
        | E::TableDoesNotExist(_) => damaged_file(part, name, &error.to_string()),
        _ => StoreError::unavailable(part, format!("{name}: {error}")),
    }
}

fn io_error(part: &'static str, name: &str, error: &io::Error) -> StoreError {
    let final_reason = match error.kind() {
        ErrorKind::PermissionDenied => "permission denied: make it writable for this user",
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "a part of its path is not a directory",
        ErrorKind::IsADirectory => "it is a directory",
        ErrorKind::NotFound => "it is not there (any more)",
        // redb's error for a file that is shorter than its header says.
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            return damaged_file(part, name, &error.to_string());
        }
        ErrorKind::StorageFull => {
            return StoreError::unavailable(part, format!("{name} cannot be written: the disk is full"));
        }
        ErrorKind::QuotaExceeded => {
            return StoreError::unavailable(
                part,
                format!("{name} cannot be written: the disk quota is used up"),
            );
        }
        _ => return StoreError::unavailable(part, format!("{name}: {error}")),
    };
    StoreError::unusable(part, format!("{name} cannot be opened or written: {final_reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_names_the_file_and_whether_a_retry_helps() {
        let io = |kind: ErrorKind| FileFailure::Io(kind.into());
        let cases = [
            (io(ErrorKind::StorageFull), true, "full"),
            (io(ErrorKind::QuotaExceeded), true, "quota"),
            (io(ErrorKind::Other), true, "error"),
            (io(ErrorKind::PermissionDenied), false, "permission denied"),
            (io(ErrorKind::ReadOnlyFilesystem), false, "read-only"),
            (io(ErrorKind::UnexpectedEof), false, "damaged"),
            (FileFailure::Redb(redb::Error::DatabaseAlreadyOpen), false, "in use by another process"),
            (FileFailure::Redb(redb::Error::PreviousIo), true, "Previous I/O"),
            (FileFailure::Redb(redb::Error::Corrupted("x".into())), false, "damaged"),
            (FileFailure::Panicked("x".into()), false, "damaged"),
            (FileFailure::Format { found: 2, known: 1 }, false, "format 2"),
        ];
        for (failure, transient, words) in cases {
            let error = explain_failure("event log", "/data/log.redb", &failure);
            let text = error.to_string();
            assert_eq!(error.is_transient(), transient, "{text}");
            assert!(text.contains("/data/log.redb") && text.contains(words), "{text} lacks {words}");
        }
    }
}
