//! The flags by which a process is given its identity.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{bail, ensure};

use super::Identity;
use super::kubernetes::{ClusterAudience, KubernetesVerifier, ServiceAccountName, TokenFiles};
use super::local::KeyRing;

/// The flags by which a process gets its own tokens and the keys that verify other processes' tokens.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityArgs {
    /// A file with the secret from which all processes' keys are derived, or with the key of this process alone.
    ///
    /// The secret has 32 bytes or more; `liverank identity derive` makes one process's key of it. Not for Kubernetes.
    #[arg(long, env = "LIVERANK_IDENTITY_KEY_FILE", value_name = "FILE")]
    pub identity_key_file: Option<PathBuf>,
    /// On Kubernetes: the projected token of this pod's `ServiceAccount`. It is read again when the kubelet renews it. A
    /// file `statistics-token` beside it is shown to the statistics service in its place.
    #[arg(long, env = "LIVERANK_IDENTITY_TOKEN_FILE", value_name = "FILE")]
    pub identity_token_file: Option<PathBuf>,
    /// On Kubernetes: the cluster's public keys (a JSON Web Key Set with a member `issuer`), which verify the tokens of
    /// other processes. They are read again when the operator renews them.
    #[arg(long, env = "LIVERANK_IDENTITY_JWKS_FILE", value_name = "FILE")]
    pub identity_jwks_file: Option<PathBuf>,
    /// On Kubernetes: the audience that tokens must have, liverank.dev/<namespace>/<cluster>.
    #[arg(long, env = "LIVERANK_IDENTITY_AUDIENCE", value_name = "AUDIENCE")]
    pub identity_audience: Option<ClusterAudience>,
    /// On Kubernetes: the operator's `ServiceAccount`, <namespace>/<name>.
    #[arg(long, env = "LIVERANK_IDENTITY_OPERATOR", value_name = "ACCOUNT")]
    pub identity_operator: Option<ServiceAccountName>,
    /// Accept viewers only if a gateway sent them: for readers, comment and websocket services, if gateways ask viewers
    /// for tokens.
    #[arg(long, env = "LIVERANK_VIEWERS_BY_GATEWAY")]
    pub viewers_by_gateway: bool,
}

impl IdentityArgs {
    /// Returns true if a key file, a token file or a file of public keys is given.
    pub const fn any_given(&self) -> bool {
        self.identity_key_file.is_some()
            || self.identity_token_file.is_some()
            || self.identity_jwks_file.is_some()
    }

    /// Returns the identity that the flags describe. Without flags, the identity has no tokens and verifies none.
    ///
    /// # Errors
    /// The flags contradict each other, or the key file holds no key.
    pub fn open_identity(&self) -> anyhow::Result<Identity> {
        Ok(self.build_identity()?.with_gateway_for_viewers(self.viewers_by_gateway))
    }

    fn build_identity(&self) -> anyhow::Result<Identity> {
        let Self {
            identity_key_file,
            identity_token_file,
            identity_jwks_file,
            identity_audience,
            identity_operator,
            viewers_by_gateway: _,
        } = self.clone();
        let on_kubernetes = identity_token_file.is_some() || identity_jwks_file.is_some();
        if let Some(file) = identity_key_file {
            ensure!(!on_kubernetes, "set --identity-key-file, or the token and keys of Kubernetes, not both");
            return Ok(Identity::with_keys(KeyRing::from_file(&file)?));
        }
        let mut identity = Identity::default();
        if let Some(file) = identity_token_file {
            identity.token_source = Some(Arc::new(TokenFiles::new(file)));
        }
        if let Some(file) = identity_jwks_file {
            let Some(audience) = identity_audience else {
                bail!("--identity-jwks-file needs --identity-audience")
            };
            identity.token_verifier =
                Some(Arc::new(KubernetesVerifier::new(file, audience, identity_operator)));
        }
        Ok(identity)
    }
}
