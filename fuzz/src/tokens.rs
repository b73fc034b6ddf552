//! Targets for tokens, for sets of keys that sign them, and for the list of revoked tokens.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue};
use liverank_core::secret::Secret;
use liverank_core::viewer_role::ViewerRoles;
use liverank_core::{UserId, VideoId};
use liverank_gateway::parsers::read_revoked;
use liverank_protocol::access::CalledService;
use liverank_runtime::identity::local::{KeyRing, LocalVerifier};
use liverank_runtime::identity::sent::{PASS_HEADER, check_pass};
use liverank_runtime::identity::{TokenVerifier, now_seconds};
use liverank_runtime::jwt::{self, MAX_TOKEN_BYTES};

use crate::texts::lossy_text;

/// The greatest length of the reason for refusing a token, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// A verifier with a random key that nobody knows, so any token that it accepts is forged.
static VERIFIER: LazyLock<LocalVerifier> = LazyLock::new(|| {
    KeyRing::with_random_secret().expect("this machine gives random numbers").token_verifier()
});

pub(crate) fn token(bytes: &[u8]) {
    let text = lossy_text(bytes);
    match jwt::read_header(&text) {
        Ok(header) => assert!(text.len() <= MAX_TOKEN_BYTES && header.crit.is_none()),
        Err(reason) => assert!(reason.len() <= MAX_REASON_BYTES, "{reason:.200}"),
    }
    let now = now_seconds();
    assert!(
        VERIFIER.verify(&text, CalledService::Manager, now).is_err(),
        "a token was taken that nobody signed"
    );
    if let Ok(claim) = serde_json::from_slice(bytes) {
        let _ = ViewerRoles::of_claim(Some(&claim));
    }
    let roles = ViewerRoles::of_names(&text);
    assert_eq!(ViewerRoles::of_names(&roles.to_string()), roles);
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let shown = HeaderMap::from_iter([(PASS_HEADER, value)]);
    let (user, video) = (UserId::parse("ana").expect("an id"), VideoId::parse("cat").expect("an id"));
    let key = Secret::new("nobody knows it");
    assert!(check_pass(&key, &shown, &user, &video, now).is_err(), "a pass was taken that nobody signed");
}

pub(crate) fn key_set(bytes: &[u8]) {
    if let Ok(keys) = jwt::parse_key_set(bytes) {
        assert!((1..=32).contains(&keys.len()) && bytes.len() <= jwt::MAX_KEY_SET_BYTES);
    }
}

pub(crate) fn revoked(bytes: &[u8]) {
    if let Ok(entries) = read_revoked(bytes) {
        assert!(entries <= bytes.len() / 8, "an entry has at least a name");
    }
}
