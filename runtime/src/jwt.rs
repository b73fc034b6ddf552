//! JSON Web Tokens (RFC 7519): reads the public keys that issuers publish, and verifies that a token is signed by one
//! of them.
//!
//! The algorithm is that of the key, never one that the token chooses; `none` and shared secrets are not supported.

use std::sync::Arc;

use anyhow::{Context, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod signature;

pub use jsonwebtoken;
pub use signature::install_verifiers;

/// The longest token, in bytes, that is verified. Tokens of Kubernetes take one to two thousand bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The largest key set, in bytes, that is read: enough for hundreds of keys.
pub const MAX_KEY_SET_BYTES: usize = 256 * 1024;
/// The largest number of keys that are kept of a set. Issuers publish two or three keys.
const MAX_KEYS: usize = 32;

/// A public key with its id and the algorithm for which it may be used.
pub struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    decoding_key: DecodingKey,
}

impl PublicKey {
    /// Creates an Ed25519 key with this id.
    pub fn from_ed25519(id: String, public: &[u8]) -> Self {
        Self { id: Some(id), algorithm: Algorithm::EdDSA, decoding_key: DecodingKey::from_ed_der(public) }
    }

    /// Returns the id (`kid`) of the key; `None` if it has none.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// Reads the header of a token, without verifying the token.
///
/// # Errors
/// The reason why the token is refused, in words for the caller who showed it.
pub fn read_header(token: &str) -> Result<Header, String> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(format!("it is longer than {MAX_TOKEN_BYTES} bytes"));
    }
    let header = decode_header(token).map_err(|error| error.to_string())?;
    if header.crit.is_some() {
        return Err("it has critical headers, and none are known here".to_owned());
    }
    Ok(header)
}

/// Returns the keys of `known` that may have signed a token with this header: those with its algorithm and key id. For
/// a token without a key id, the key must be the only one in `known`.
pub fn keys_fitting_header(known: &[Arc<PublicKey>], header: &Header) -> Vec<Arc<PublicKey>> {
    let fits = |key: &&Arc<PublicKey>| {
        key.algorithm == header.alg
            && match &header.kid {
                Some(kid) => key.id.as_ref() == Some(kid),
                None => known.len() == 1,
            }
    };
    known.iter().filter(fits).cloned().collect()
}

/// Returns the claims of a token that one of `keys` signed and that passes `validation`, whose algorithm must be that
/// of the keys.
///
/// # Errors
/// The reason why the token is refused.
pub fn verified_claims<T: DeserializeOwned + Clone>(
    token: &str,
    keys: &[Arc<PublicKey>],
    validation: &Validation,
) -> Result<T, String> {
    install_verifiers();
    let mut reason = "no key of its issuer's fits it".to_owned();
    for key in keys {
        match decode::<T>(token, &key.decoding_key, validation) {
            Ok(token) => return Ok(token.claims),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// Parses a JSON Web Key Set (RFC 7517). Keys for other purposes or algorithms are skipped, as the RFC says.
///
/// # Errors
/// The text is no key set, or no key in it can be used here.
pub fn parse_key_set(json: &[u8]) -> anyhow::Result<Vec<Arc<PublicKey>>> {
    #[derive(Deserialize)]
    struct KeySetJson {
        keys: Vec<Value>,
    }
    ensure!(json.len() <= MAX_KEY_SET_BYTES, "is longer than {MAX_KEY_SET_BYTES} bytes");
    let KeySetJson { keys } = serde_json::from_slice(json).context("is no JSON Web Key Set")?;
    let keys: Vec<Arc<PublicKey>> =
        keys.into_iter().filter_map(parse_key).take(MAX_KEYS).map(Arc::new).collect();
    ensure!(!keys.is_empty(), "has no key for RS256, ES256 or EdDSA");
    Ok(keys)
}

fn parse_key(jwk: Value) -> Option<PublicKey> {
    let jwk: Jwk = serde_json::from_value(jwk).ok()?;
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let for_this = jwk.common.key_algorithm.is_none_or(|algorithm| algorithm == named);
    let decoding_key = (for_signatures && for_this).then(|| DecodingKey::from_jwk(&jwk))?.ok()?;
    Some(PublicKey { id: jwk.common.key_id, algorithm, decoding_key })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXAMPLE_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed25519_jwk(more: &Value) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": EXAMPLE_X});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    #[test]
    fn keys_for_other_uses_are_ignored() {
        let others = json!({"keys": [
            ed25519_jwk(&json!({"use": "enc"})), ed25519_jwk(&json!({"alg": "ES256"})), {"kty": "oct", "k": "AAAA"},
            {"kty": "new", "x": EXAMPLE_X}, {"kty": "EC", "crv": "P-384", "x": EXAMPLE_X, "y": EXAMPLE_X}, 7,
        ]});
        let error = parse_key_set(others.to_string().as_bytes()).err().unwrap().to_string();
        assert!(error.contains("no key"), "{error}");
        let good = json!({"keys": [ed25519_jwk(&json!({"kid": "a"})), 7, ed25519_jwk(&json!({"use": "sig", "alg": "EdDSA"}))]});
        let keys = parse_key_set(good.to_string().as_bytes()).unwrap();
        assert_eq!(keys.iter().map(|key| key.id()).collect::<Vec<_>>(), [Some("a"), None]);
        let many = json!({"keys": vec![ed25519_jwk(&json!({})); MAX_KEYS + 1]});
        assert_eq!(parse_key_set(many.to_string().as_bytes()).unwrap().len(), MAX_KEYS);
        assert!(parse_key_set(b"[]").is_err());
        assert!(parse_key_set(&vec![b' '; MAX_KEY_SET_BYTES + 1]).is_err());
    }

    #[test]
    fn a_token_names_its_key_where_there_are_several() {
        let set = |kids: &[&str]| {
            let keys: Vec<Value> = kids.iter().map(|kid| ed25519_jwk(&json!({ "kid": kid }))).collect();
            parse_key_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
        };
        let with =
            |kid: Option<&str>| Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        assert_eq!(keys_fitting_header(&set(&["a", "b"]), &with(Some("b"))).len(), 1);
        assert_eq!(keys_fitting_header(&set(&["a", "b"]), &with(None)).len(), 0);
        assert_eq!(keys_fitting_header(&set(&["a"]), &with(None)).len(), 1);
        assert_eq!(keys_fitting_header(&set(&["a"]), &with(Some("b"))).len(), 0);
        assert_eq!(
            keys_fitting_header(&set(&["a"]), &Header { alg: Algorithm::RS256, ..with(Some("a")) }).len(),
            0
        );
    }
}
