//! The identity key of a test's processes, and tokens with which a test calls them.

use std::path::PathBuf;
use std::sync::OnceLock;

use liverank_protocol::access::{CalledService, KnownCaller};
use liverank_runtime::identity::local::KeyRing;

/// The secret from which all keys of the end-to-end tests are derived; nothing else uses it.
const TEST_SECRET: &str = "the-secret-of-the-end-to-end-tests";

/// Returns the path of the file with the secret, which is written once in a process: a process that starts during a
/// second write could read an empty file.
pub fn key_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let made = || {
        let file = std::env::temp_dir().join(format!("liverank-e2e-{}.key", std::process::id()));
        std::fs::write(&file, TEST_SECRET).expect("writing the key file");
        file
    };
    FILE.get_or_init(made).clone()
}

/// Returns the environment variable that names the key file, with its value.
pub fn key_file_variable() -> (String, String) {
    ("LIVERANK_IDENTITY_KEY_FILE".to_owned(), key_file().display().to_string())
}

/// Returns a token by which `caller` calls `service`, valid for an hour.
pub fn token(caller: &str, service: CalledService) -> String {
    let caller: KnownCaller = caller.parse().expect("a caller");
    let keys = KeyRing::from_secret(TEST_SECRET.as_bytes()).expect("a secret");
    let seconds = liverank_runtime::now_micros() / 1_000_000;
    keys.token_source(&caller).expect("any caller's key").sign_token(service, seconds, 3_600)
}
