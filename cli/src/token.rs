//! `liverank token`: makes viewers' tokens to try a system that asks viewers for tokens, without an issuer.
//!
//! The keys are Ed25519, made when they are first needed and kept in a directory: `key.pkcs8` signs tokens, and a
//! gateway verifies them by `jwks.json`. `liverank up --auth-dev` uses the same two files. The keys are for a
//! developer's own machine: whoever can read the private key can make a token for any user.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand, ValueEnum};
use liverank_core::UserId;
use liverank_gateway::auth::AuthArgs;
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::OutputArgs;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// The issuer (`iss`) of these development tokens.
const DEV_ISSUER: &str = "liverank-dev";
/// The audience (`aud`) of these development tokens.
const DEV_AUDIENCE: &str = "liverank";
/// The folder of the keys, below the data directory of `liverank up`.
const KEYS_FOLDER: &str = "dev-keys";
const PRIVATE_KEY_FILE: &str = "key.pkcs8";
const PUBLIC_KEYS_FILE: &str = "jwks.json";

/// The subcommands of `liverank token`.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Prints a viewer's token for `liverank up --auth-dev`. Makes the keys if there are none.
    User(UserTokenArgs),
}

/// A role that a token gives to its viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TokenRole {
    Viewer,
    Poster,
    Member,
    Moderator,
    Service,
    Operator,
}

/// The arguments of `liverank token user`.
#[derive(Debug, Clone, Args)]
pub struct UserTokenArgs {
    /// The user of the token: what requests call `userid` or `user_id`.
    #[arg(long, value_name = "ID")]
    user: String,
    /// What the user may do; may be given several times. In the token these are `roles`.
    #[arg(long, value_enum, value_name = "ROLE", default_values = ["viewer", "poster"])]
    role: Vec<TokenRole>,
    /// The lifetime of the token.
    #[arg(long, value_name = "DURATION", default_value = "12h",
          value_parser = parser_of_range(Duration::from_secs(1), Duration::from_hours(8760)))]
    valid_for: Duration,
    /// The lifetime of the token, in hours.
    #[arg(long, hide = true, conflicts_with = "valid_for", value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: Option<u32>,
    #[command(flatten)]
    output: OutputArgs,
    /// The data directory of the `liverank up` that is to accept the token.
    #[arg(long, env = "LIVERANK_DATA_DIR", default_value = "liverank-data", value_name = "DIR")]
    data_dir: PathBuf,
}

impl UserTokenArgs {
    fn token_life(&self) -> Duration {
        self.hours.map_or(self.valid_for, |hours| Duration::from_hours(hours.into()))
    }
}

impl TokenCommand {
    /// Runs the subcommand of `liverank token`.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::User(wanted) => {
                UserId::parse_field("--user", &wanted.user)?;
                let keys = DevKeys::in_data_directory(&wanted.data_dir)?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                let token =
                    keys.sign_claims(&token_claims(&wanted.user, &wanted.role, wanted.token_life(), now))?;
                wanted.output.print_value(&json!({"token": token}), || format!("{token}\n"))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn token_claims(user: &str, roles: &[TokenRole], valid_for: Duration, now: u64) -> Value {
    let roles: Vec<String> = roles
        .iter()
        .filter_map(|role| role.to_possible_value().map(|value| value.get_name().to_owned()))
        .collect();
    json!({
        "iss": DEV_ISSUER,
        "aud": DEV_AUDIENCE,
        "sub": user,
        "roles": roles,
        "iat": now,
        "exp": now + valid_for.as_secs(),
    })
}

/// The keys that sign the tokens of `liverank up --auth-dev`.
pub struct DevKeys {
    folder: PathBuf,
    key_pair: Ed25519KeyPair,
}

impl DevKeys {
    /// Opens the keys below a data directory; makes them if there are none.
    pub fn in_data_directory(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = data_dir.join(KEYS_FOLDER);
        let private = folder.join(PRIVATE_KEY_FILE);
        if !private.exists() {
            make_key(&folder).with_context(|| format!("keys cannot be made in {}", folder.display()))?;
        }
        let bytes = fs::read(&private).with_context(|| private.display().to_string())?;
        let key_pair = Ed25519KeyPair::from_pkcs8(&bytes)
            .map_err(|error| anyhow!("{} holds no Ed25519 key: {error}", private.display()))?;
        let keys = Self { folder, key_pair };
        // The public key is written each time, because it is derived from the private key.
        fs::write(keys.jwks_file(), keys.public_keys().to_string())
            .with_context(|| keys.jwks_file().display().to_string())?;
        Ok(keys)
    }

    fn jwks_file(&self) -> PathBuf {
        self.folder.join(PUBLIC_KEYS_FILE)
    }

    fn public_keys(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key_pair.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": DEV_ISSUER, "x": x}]})
    }

    /// Returns the settings with which a gateway accepts tokens that these keys sign.
    pub fn auth_args(&self) -> AuthArgs {
        AuthArgs::from_key_file(self.jwks_file(), DEV_ISSUER, DEV_AUDIENCE)
    }

    /// Returns a token with which the user `user` can watch and post, valid for an hour.
    pub fn viewer_token(&self, user: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        self.sign_claims(&token_claims(
            user,
            &[TokenRole::Viewer, TokenRole::Poster],
            Duration::from_hours(1),
            now,
        ))
    }

    fn sign_claims(&self, claims: &Value) -> anyhow::Result<String> {
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": DEV_ISSUER});
        let signed = format!("{}.{}", encode_token_part(&header)?, encode_token_part(claims)?);
        let signature = self.key_pair.sign(signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

fn encode_token_part(value: &Value) -> anyhow::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(value)?))
}

/// Makes a private key that only its owner can read. If another process makes one at the same time, the key that was
/// put in place first stays.
fn make_key(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let pair =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("no random bytes"))?;
    let own = folder.join(format!("{PRIVATE_KEY_FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&own)?;
    file.write_all(pair.as_ref())?;
    file.sync_all()?;
    let linked = fs::hard_link(&own, folder.join(PRIVATE_KEY_FILE));
    fs::remove_file(&own)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

/// The flags that say if, and by which keys, `liverank up` asks viewers for tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Viewers' tokens")]
pub struct UpAuth {
    /// Ask viewers for tokens of keys that are made here; `liverank token user` prints such tokens. For trials.
    #[arg(long, env = "LIVERANK_AUTH_DEV", conflicts_with_all = ["auth_jwks_file", "auth_jwks_url"])]
    auth_dev: bool,
    #[command(flatten)]
    auth: AuthArgs,
}

impl UpAuth {
    /// Checks that these settings do not contradict each other.
    pub fn check(&self) -> anyhow::Result<()> {
        if !self.auth_dev {
            return self.auth.check();
        }
        let others = self.auth.auth_jwks_file.is_some() || self.auth.auth_jwks_url.is_some();
        // The command line's own check of conflicts does not see settings in a file.
        ensure!(!others, "set --auth-dev or the keys of an issuer, not both");
        Ok(())
    }

    /// Returns the gateway's settings for tokens; call [`UpAuth::check`] before. Makes the keys of `--auth-dev` if
    /// there are none.
    pub fn gateway_auth_args(&self, data_dir: &Path) -> anyhow::Result<AuthArgs> {
        if !self.auth_dev {
            return Ok(self.auth.clone());
        }
        let auth_revoked_file = self.auth.auth_revoked_file.clone();
        Ok(AuthArgs { auth_revoked_file, ..DevKeys::in_data_directory(data_dir)?.auth_args() })
    }

    /// Returns true if viewers must show tokens.
    pub const fn is_required(&self) -> bool {
        self.auth_dev || self.auth.auth_jwks_file.is_some() || self.auth.auth_jwks_url.is_some()
    }

    /// Returns true if the accepted tokens are those that `liverank token user` prints.
    pub const fn uses_dev_keys(&self) -> bool {
        self.auth_dev
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_the_private_one_is_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let first = DevKeys::in_data_directory(directory.path()).unwrap();
        let second = DevKeys::in_data_directory(directory.path()).unwrap();
        assert_eq!(first.public_keys(), second.public_keys());
        let mode = fs::metadata(first.folder.join(PRIVATE_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&first.folder).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn a_token_says_who_what_and_until_when() {
        let directory = tempfile::tempdir().unwrap();
        let roles = [TokenRole::Poster, TokenRole::Moderator];
        let claims = token_claims("ann", &roles, Duration::from_hours(2), 1_000);
        assert_eq!((&claims["sub"], &claims["exp"]), (&json!("ann"), &json!(1_000 + 7_200)));
        assert_eq!(claims["roles"], json!(["poster", "moderator"]));
        let token = DevKeys::in_data_directory(directory.path()).unwrap().sign_claims(&claims).unwrap();
        let parts: Vec<Vec<u8>> =
            token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(serde_json::from_slice::<Value>(&parts[1]).unwrap(), claims);
        assert_eq!(parts[2].len(), 64);
    }
}
