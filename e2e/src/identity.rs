//! Who the processes of a test are to each other, and who a test is to them.

use std::path::PathBuf;
use std::sync::OnceLock;

use liverank_protocol::access::{CalledService, KnownCaller};
use liverank_runtime::identity::local::KeyRing;

/// What all keys of these tests follow from: good for nothing else.
const TEST_SECRET: &str = "the-secret-of-the-end-to-end-tests";

/// The file with the secret, written once: a process that starts meanwhile must not find it empty.
pub fn key_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let made = || {
        let file = std::env::temp_dir().join(format!("liverank-e2e-{}.key", std::process::id()));
        std::fs::write(&file, TEST_SECRET).expect("writing the key file");
        file
    };
    FILE.get_or_init(made).clone()
}

/// The variable by which a process finds it.
pub fn variable() -> (String, String) {
    ("LIVERANK_IDENTITY_KEY_FILE".to_owned(), key_file().display().to_string())
}

/// A token of `caller` for `service`, good for an hour.
pub fn token(caller: &str, service: CalledService) -> String {
    let caller: KnownCaller = caller.parse().expect("a caller");
    let keys = KeyRing::from_secret(TEST_SECRET.as_bytes()).expect("a secret");
    let seconds = liverank_runtime::now_micros() / 1_000_000;
    keys.token_source(&caller).expect("any caller's key").sign_token(service, seconds, 3_600)
}
