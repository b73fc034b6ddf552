//! Local identity, for anywhere but Kubernetes: tokens signed with Ed25519 keys that are derived from one secret, one
//! key for each role and each reader.
//!
//! Whoever has the file with the secret can derive every key, so only managers need that file, because they have to
//! know every reader. Every other process can use a file of its own ([`KeyRing::key_file_of`]) with its own key and the
//! public keys of the roles. Whoever steals the file of one reader can act as that reader only.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{TokenRejection, TokenSource, TokenVerifier, VerifiedToken, now_seconds};
use crate::jwt::{self, PublicKey};

/// The issuer (`iss`) of locally signed tokens.
const ISSUER: &str = "liverank";
/// The lifetime of a token in seconds. A new token is made when half of the lifetime is over.
pub const TOKEN_LIFE_SECONDS: u64 = 300;
/// The longest lifetime of a token, in seconds: a day, for tokens that a person asks for.
const MAX_TOKEN_LIFE_SECONDS: u64 = 24 * 3_600;
/// The largest difference between the clocks of two processes that is tolerated, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// The shortest identity secret that is accepted, in bytes.
const MIN_SECRET_BYTES: usize = 32;
/// The largest key file that is read, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
/// The salt of the key derivation. The number in this salt changes when the derivation changes.
const KEY_DERIVATION_SALT: &[u8] = b"liverank identity 1";
/// The version of the format of a derived key file.
const KEY_FILE_FORMAT: u32 = 1;

/// The seed of an Ed25519 signing key.
type KeySeed = [u8; 32];

/// The signing and public keys of liverank processes: either the secret from which all keys are derived, or the keys
/// that one process needs. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing(Arc<RingKeys>);

enum RingKeys {
    /// The secret from which the keys of all callers are derived.
    Secret(Vec<u8>),
    /// The key of one process, and the public keys of the callers that it knows.
    SingleProcess { subject: KnownCaller, seed: KeySeed, known: BTreeMap<String, Vec<u8>> },
}

/// The JSON content of the key file of one process.
#[derive(Serialize, Deserialize)]
struct DerivedKeyFile {
    format: u32,
    subject: String,
    seed: String,
    keys: BTreeMap<String, String>,
}

impl KeyRing {
    /// Creates a ring from a random secret that no other process has: for one process that runs all services.
    ///
    /// # Errors
    /// The machine gives no random numbers.
    pub fn with_random_secret() -> anyhow::Result<Self> {
        let mut secret = vec![0; MIN_SECRET_BYTES];
        let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut secret);
        filled.map_err(|_| anyhow::anyhow!("this machine gives no random numbers"))?;
        Self::from_secret(&secret)
    }

    /// Creates a ring from the secret in `bytes`. White space around the secret is ignored, because editors add it.
    ///
    /// # Errors
    /// The secret is too short.
    pub fn from_secret(bytes: &[u8]) -> anyhow::Result<Self> {
        let secret = if bytes.is_ascii() { bytes.trim_ascii() } else { bytes };
        ensure!(secret.len() >= MIN_SECRET_BYTES, "must have at least {MIN_SECRET_BYTES} bytes");
        Ok(Self(Arc::new(RingKeys::Secret(secret.to_vec()))))
    }

    /// Reads a ring from a file that holds either a secret or the keys of one process.
    ///
    /// # Errors
    /// The file cannot be read, or holds neither.
    pub fn from_file(file: &Path) -> anyhow::Result<Self> {
        let read = || {
            let size = std::fs::metadata(file)?.len();
            ensure!(size <= MAX_KEY_FILE_BYTES, "is longer than {MAX_KEY_FILE_BYTES} bytes");
            let bytes = std::fs::read(file)?;
            if bytes.trim_ascii_start().starts_with(b"{") {
                Self::from_derived_file(&bytes)
            } else {
                Self::from_secret(&bytes)
            }
        };
        read().with_context(|| format!("the key file {}", file.display()))
    }

    fn from_derived_file(json: &[u8]) -> anyhow::Result<Self> {
        let DerivedKeyFile { format, subject, seed, keys } =
            serde_json::from_slice(json).map_err(|_| anyhow::anyhow!("is no key file"))?;
        ensure!(format == KEY_FILE_FORMAT, "is of format {format}, and this release reads {KEY_FILE_FORMAT}");
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).context("holds a key that is none");
        let seed = bytes(&seed)?.try_into().map_err(|_| anyhow::anyhow!("holds a key that is none"))?;
        let known =
            keys.iter().map(|(name, key)| Ok((name.clone(), bytes(key)?))).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(RingKeys::SingleProcess { subject: subject.parse()?, seed, known })))
    }

    /// Returns the content of the key file of one process: its own key, and the public keys of the callers that it has
    /// to know. Managers cannot use such a file, because they have to know every reader.
    ///
    /// # Errors
    /// This ring was itself read from the key file of one process, so no other keys can be derived.
    pub fn key_file_of(&self, caller: &KnownCaller) -> anyhow::Result<String> {
        let RingKeys::Secret(secret) = &*self.0 else { bail!("keys are derived from the secret only") };
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let roles = CallerRole::ALL.into_iter().filter_map(KnownCaller::of_role);
        let file = DerivedKeyFile {
            format: KEY_FILE_FORMAT,
            subject: caller.to_string(),
            seed: text(&derive_seed(secret, caller)),
            keys: roles
                .map(|role| (role.to_string(), text(&public_key_of_seed(&derive_seed(secret, &role)))))
                .collect(),
        };
        Ok(serde_json::to_string_pretty(&file)?)
    }

    /// Returns the source of tokens that are signed for `caller`.
    ///
    /// # Errors
    /// This ring holds the key of another caller only.
    pub fn token_source(&self, caller: &KnownCaller) -> anyhow::Result<LocalTokens> {
        let seed = match &*self.0 {
            RingKeys::Secret(secret) => derive_seed(secret, caller),
            RingKeys::SingleProcess { subject, seed, .. } => {
                ensure!(subject == caller, "the key file is that of {subject}, and this process is {caller}");
                *seed
            }
        };
        Ok(LocalTokens {
            subject: caller.clone(),
            key_pair: key_pair_of_seed(&seed),
            cached_tokens: Mutex::default(),
        })
    }

    /// Returns the verifier that tells which caller a token belongs to.
    pub fn token_verifier(&self) -> LocalVerifier {
        LocalVerifier(self.clone())
    }

    fn public_key_of(&self, caller: &KnownCaller) -> Option<Vec<u8>> {
        match &*self.0 {
            RingKeys::Secret(secret) => Some(public_key_of_seed(&derive_seed(secret, caller))),
            RingKeys::SingleProcess { known, .. } => known.get(&caller.to_string()).cloned(),
        }
    }
}

/// The length of a derived seed, as the type that *ring*'s HKDF asks for.
struct SeedLength;

impl KeyType for SeedLength {
    fn len(&self) -> usize {
        size_of::<KeySeed>()
    }
}

/// Derives the seed of `caller`'s key from the secret by HKDF-SHA256 (RFC 5869).
fn derive_seed(secret: &[u8], caller: &KnownCaller) -> KeySeed {
    let mut seed = KeySeed::default();
    Salt::new(HKDF_SHA256, KEY_DERIVATION_SALT)
        .extract(secret)
        .expand(&[caller.to_string().as_bytes()], SeedLength)
        .and_then(|key| key.fill(&mut seed))
        .expect("32 bytes can be derived from any secret");
    seed
}

fn key_pair_of_seed(seed: &KeySeed) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed")
}

fn public_key_of_seed(seed: &KeySeed) -> Vec<u8> {
    key_pair_of_seed(seed).public_key().as_ref().to_vec()
}

/// The source of locally signed tokens of one caller.
pub struct LocalTokens {
    subject: KnownCaller,
    key_pair: Ed25519KeyPair,
    /// The tokens in use, each with the time, in seconds since 1970, from which a new one is made.
    cached_tokens: Mutex<HashMap<CalledService, (String, u64)>>,
}

impl LocalTokens {
    /// Returns a signed token for `service` that is valid for `life` seconds from `now` on, but for a day at most.
    pub fn sign_token(&self, service: CalledService, now: u64, life: u64) -> String {
        let text = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let subject = self.subject.to_string();
        let header = text(json!({ "alg": "EdDSA", "typ": "JWT", "kid": subject }));
        let claims = text(json!({
            "iss": ISSUER, "sub": subject, "aud": service.name(),
            "iat": now, "nbf": now, "exp": now + life.min(MAX_TOKEN_LIFE_SECONDS),
        }));
        let message = format!("{header}.{claims}");
        let signature = self.key_pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl TokenSource for LocalTokens {
    fn token(&self, service: CalledService) -> anyhow::Result<String> {
        let now = now_seconds();
        let mut made = self.cached_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, renew_at)) = made.get(&service)
            // If the clock went back, the remembered token is not valid yet, so a new one is made.
            && (renew_at.saturating_sub(TOKEN_LIFE_SECONDS)..*renew_at).contains(&now)
        {
            return Ok(token.clone());
        }
        let token = self.sign_token(service, now, TOKEN_LIFE_SECONDS);
        made.insert(service, (token.clone(), now + TOKEN_LIFE_SECONDS / 2));
        Ok(token)
    }

    /// Returns true, because every local token names the only service that accepts it.
    fn has_bound_token(&self, _: CalledService) -> bool {
        true
    }
}

/// Verifies locally signed tokens by the public keys of their callers.
pub struct LocalVerifier(KeyRing);

#[derive(Clone, Deserialize)]
struct LocalClaims {
    sub: String,
    iat: u64,
    exp: u64,
}

impl TokenVerifier for LocalVerifier {
    fn verify(
        &self,
        token: &str,
        service: CalledService,
        _now: u64,
    ) -> Result<VerifiedToken, TokenRejection> {
        let header = jwt::read_header(token).map_err(TokenRejection::Invalid)?;
        let named = header.kid.as_deref().and_then(|kid| kid.parse::<KnownCaller>().ok());
        let caller =
            named.ok_or_else(|| TokenRejection::Invalid("its kid names none of our processes".into()))?;
        let public = self.0.public_key_of(&caller).ok_or_else(|| {
            TokenRejection::Invalid(format!("{caller} is not known by the key file of this process"))
        })?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[service.name()]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        let keys = [Arc::new(PublicKey::from_ed25519(caller.to_string(), &public))];
        let claims: LocalClaims =
            jwt::verified_claims(token, &keys, &validation).map_err(TokenRejection::Invalid)?;
        if claims.sub != caller.to_string() {
            return Err(TokenRejection::Invalid("its sub is not whose key signed it".into()));
        }
        if claims.exp.saturating_sub(claims.iat) > MAX_TOKEN_LIFE_SECONDS {
            return Err(TokenRejection::Invalid(format!(
                "it would be good for more than {MAX_TOKEN_LIFE_SECONDS} s"
            )));
        }
        Ok(VerifiedToken { caller, valid_until: claims.exp })
    }
}

#[cfg(test)]
mod tests;
