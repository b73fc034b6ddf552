//! Verifies the signatures of tokens with *ring*, the crypto library that the TLS of this process uses, too.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

static CRYPTO_PROVIDER: CryptoProvider = CryptoProvider {
    // This process verifies tokens only and signs none by this library.
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: new_verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the JWT library of the whole process verify signatures by this module.
pub fn install_verifiers() {
    // The installation fails only if it was done before, and then it was done here.
    let _ = CRYPTO_PROVIDER.install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the library calls it")]
fn new_verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified =
            match (self.algorithm, self.key.kind()) {
                (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                    RsaPublicKeyComponents { n: without_leading_zeros(n), e: without_leading_zeros(e) }
                        .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                }
                (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
                }
                (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                    UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
                }
                _ => return Err(Error::new()),
            };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Returns the number without leading zero bytes. Some issuers write leading zero bytes, and *ring* refuses them.
fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}
