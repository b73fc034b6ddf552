//! Tokens of our own, for anywhere but Kubernetes: signed with Ed25519 keys that are derived from one secret, one for each
//! role and reader.
//!
//! The file with the secret makes everybody's key, so only managers need it, who have to know every reader. Everybody else
//! can do with a file of its own ([`KeyRing::key_file_of`]): its own key, and the public keys of the roles. Who steals that is
//! one reader, and no more.

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

/// The issuer (`iss`) of these tokens.
const ISSUER: &str = "liverank";
/// How long a token is good, in seconds: it is made anew when half of that is over.
pub const TOKEN_LIFE_SECONDS: u64 = 300;
/// The longest life that a token may have, in seconds: those that a person asks for.
const MAX_LIFE: u64 = 24 * 3_600;
/// How far two clocks of ours may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// The shortest secret.
const MIN_SECRET_BYTES: usize = 32;
/// The largest key file.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Stands before the purpose that a key is derived for. Its number changes when the derivation changes.
const KEY_PURPOSE: &[u8] = b"liverank identity 1";
/// The format of a derived file.
const FILE_FORMAT: u32 = 1;

/// The seed of a signing key.
type KeySeed = [u8; 32];

/// Keys, or what they are derived from.
#[derive(Clone)]
pub struct KeyRing(Arc<RingKeys>);

enum RingKeys {
    /// All keys follow from it.
    Secret(Vec<u8>),
    /// One key, and who else is known.
    One { subject: KnownCaller, seed: KeySeed, known: BTreeMap<String, Vec<u8>> },
}

/// A key file of one process.
#[derive(Serialize, Deserialize)]
struct DerivedKeyFile {
    format: u32,
    subject: String,
    seed: String,
    keys: BTreeMap<String, String>,
}

impl KeyRing {
    /// A secret that nobody else has: for one process that holds everything.
    ///
    /// # Errors
    /// The machine gives no random numbers.
    pub fn with_random_secret() -> anyhow::Result<Self> {
        let mut secret = vec![0; MIN_SECRET_BYTES];
        let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut secret);
        filled.map_err(|_| anyhow::anyhow!("this machine gives no random numbers"))?;
        Self::from_secret(&secret)
    }

    /// The secret in `bytes`; white space around it belongs to the editor.
    ///
    /// # Errors
    /// A secret that is too short.
    pub fn from_secret(bytes: &[u8]) -> anyhow::Result<Self> {
        let secret = if bytes.is_ascii() { bytes.trim_ascii() } else { bytes };
        ensure!(secret.len() >= MIN_SECRET_BYTES, "must have at least {MIN_SECRET_BYTES} bytes");
        Ok(Self(Arc::new(RingKeys::Secret(secret.to_vec()))))
    }

    /// What a file holds: a secret, or the key of one process.
    ///
    /// # Errors
    /// A file that cannot be read, or holds neither.
    pub fn from_file(file: &Path) -> anyhow::Result<Self> {
        let read = || {
            let size = std::fs::metadata(file)?.len();
            ensure!(size <= MAX_FILE_BYTES, "is longer than {MAX_FILE_BYTES} bytes");
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
        ensure!(format == FILE_FORMAT, "is of format {format}, and this release reads {FILE_FORMAT}");
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).context("holds a key that is none");
        let seed = bytes(&seed)?.try_into().map_err(|_| anyhow::anyhow!("holds a key that is none"))?;
        let known =
            keys.iter().map(|(name, key)| Ok((name.clone(), bytes(key)?))).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(RingKeys::One { subject: subject.parse()?, seed, known })))
    }

    /// The file of one process: its own key, and whom it has to know. Not for managers, who have to know every reader.
    ///
    /// # Errors
    /// This is a file of one process itself.
    pub fn key_file_of(&self, caller: &KnownCaller) -> anyhow::Result<String> {
        let RingKeys::Secret(secret) = &*self.0 else { bail!("keys are derived from the secret only") };
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let roles = CallerRole::ALL.into_iter().filter_map(KnownCaller::of);
        let file = DerivedKeyFile {
            format: FILE_FORMAT,
            subject: caller.to_string(),
            seed: text(&derive_seed(secret, caller)),
            keys: roles.map(|role| (role.to_string(), text(&public(&derive_seed(secret, &role))))).collect(),
        };
        Ok(serde_json::to_string_pretty(&file)?)
    }

    /// What signs for `caller`.
    ///
    /// # Errors
    /// The key is somebody else's.
    pub fn token_source(&self, caller: &KnownCaller) -> anyhow::Result<LocalTokens> {
        let seed = match &*self.0 {
            RingKeys::Secret(secret) => derive_seed(secret, caller),
            RingKeys::One { subject, seed, .. } => {
                ensure!(subject == caller, "the key file is that of {subject}, and this process is {caller}");
                *seed
            }
        };
        Ok(LocalTokens { subject: caller.clone(), pair: pair(&seed), made_tokens: Mutex::default() })
    }

    /// Makes the verifier that tells which caller a token names.
    pub fn token_verifier(&self) -> LocalVerifier {
        LocalVerifier(self.clone())
    }

    fn public(&self, caller: &KnownCaller) -> Option<Vec<u8>> {
        match &*self.0 {
            RingKeys::Secret(secret) => Some(public(&derive_seed(secret, caller))),
            RingKeys::One { known, .. } => known.get(&caller.to_string()).cloned(),
        }
    }
}

/// A key's length.
struct SeedLength;

impl KeyType for SeedLength {
    fn len(&self) -> usize {
        size_of::<KeySeed>()
    }
}

/// The key of `caller`: HKDF-SHA256 (RFC 5869).
fn derive_seed(secret: &[u8], caller: &KnownCaller) -> KeySeed {
    let mut seed = KeySeed::default();
    Salt::new(HKDF_SHA256, KEY_PURPOSE)
        .extract(secret)
        .expand(&[caller.to_string().as_bytes()], SeedLength)
        .and_then(|key| key.fill(&mut seed))
        .expect("32 bytes can be derived from any secret");
    seed
}

fn pair(seed: &KeySeed) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed")
}

fn public(seed: &KeySeed) -> Vec<u8> {
    pair(seed).public_key().as_ref().to_vec()
}

/// Signs tokens for one caller.
pub struct LocalTokens {
    subject: KnownCaller,
    pair: Ed25519KeyPair,
    /// Tokens in use, and when they are to be made anew.
    made_tokens: Mutex<HashMap<CalledService, (String, u64)>>,
}

impl LocalTokens {
    /// A token for `service` that is good for `life` seconds from `now` on, a day at most.
    pub fn sign_token(&self, service: CalledService, now: u64, life: u64) -> String {
        let text = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let subject = self.subject.to_string();
        let header = text(json!({ "alg": "EdDSA", "typ": "JWT", "kid": subject }));
        let claims = text(json!({
            "iss": ISSUER, "sub": subject, "aud": service.name(),
            "iat": now, "nbf": now, "exp": now + life.min(MAX_LIFE),
        }));
        let message = format!("{header}.{claims}");
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl TokenSource for LocalTokens {
    fn token(&self, service: CalledService) -> anyhow::Result<String> {
        let now = now_seconds();
        let mut made = self.made_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, renew_at)) = made.get(&service)
            // A clock that went back makes a token that is not good yet.
            && (renew_at.saturating_sub(TOKEN_LIFE_SECONDS)..*renew_at).contains(&now)
        {
            return Ok(token.clone());
        }
        let token = self.sign_token(service, now, TOKEN_LIFE_SECONDS);
        made.insert(service, (token.clone(), now + TOKEN_LIFE_SECONDS / 2));
        Ok(token)
    }
}

/// Knows callers by their keys.
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
        let public = self.0.public(&caller).ok_or_else(|| {
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
        if claims.exp.saturating_sub(claims.iat) > MAX_LIFE {
            return Err(TokenRejection::Invalid(format!("it would be good for more than {MAX_LIFE} s")));
        }
        Ok(VerifiedToken { caller, valid_until: claims.exp })
    }
}

#[cfg(test)]
mod tests;
