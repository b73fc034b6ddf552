//! The authentication of viewers: JSON Web Tokens (RFC 7519) of an external issuer whose public keys the gateway
//! knows.
//!
//! | module | does |
//! |---|---|
//! | this one | reads a request's token, and finds the viewer that it names |
//! | `keys` | keeps the issuer's keys up to date |
//! | `moderator` | finds whether the caller may moderate |
//! | `revoked` | knows which tokens were revoked before they expire: by a file |
//! | `revocations` | knows the tokens that moderators and services revoked |
//! | `session` | ends streams when their token is not valid any more |
//!
//! If no keys are configured, nobody needs a token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use jsonwebtoken::{Header, Validation};
use liverank_core::Interaction;
use liverank_core::viewer_role::{ViewerRole, ViewerRoles};
use liverank_runtime::identity::PROXIED_AUTHORIZATION_HEADER;
use liverank_runtime::jwt;
use liverank_runtime::params::QueryParams;
use liverank_runtime::{Health, Problem};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use crate::Gateway;

pub(crate) mod keys;
pub(crate) mod moderator;
mod revocations;
mod revoked;
pub(crate) mod session;

use keys::{KeySource, Keys};
use revoked::TokenRevocations;
pub use revoked::count_entries as read_revoked;

/// The query parameter for the token of clients that cannot send headers: a browser's `EventSource` and `WebSocket`.
const TOKEN_PARAMETER: &str = "access_token";
/// Allowed difference between the issuer's clock and ours, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// The `WWW-Authenticate` challenge for a request without a token (RFC 6750).
const CHALLENGE: &str = "Bearer";
/// The `WWW-Authenticate` challenge for a request whose token is not valid.
const CHALLENGE_INVALID: &str = "Bearer error=\"invalid_token\"";
/// The `WWW-Authenticate` challenge for a request whose token has roles that do not suffice.
const CHALLENGE_INSUFFICIENT_SCOPE: &str = "Bearer error=\"insufficient_scope\"";

/// The flags for the keys by which viewers' tokens are checked.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Viewers' tokens")]
pub struct AuthArgs {
    /// A file with the keys (a JSON Web Key Set) by which viewers' tokens are signed: RS256, ES256 or `EdDSA`.
    ///
    /// With it or --auth-jwks-url, everybody who posts, comments or watches has to show a token, and to act as its user.
    #[arg(long, env = "LIVERANK_AUTH_JWKS_FILE", value_name = "FILE", conflicts_with = "auth_jwks_url")]
    pub auth_jwks_file: Option<PathBuf>,
    /// The URL at which these keys are served, http or https.
    #[arg(long, env = "LIVERANK_AUTH_JWKS_URL", value_name = "URL")]
    pub auth_jwks_url: Option<Url>,
    /// The issuer whose tokens are accepted: their `iss`. Needed with keys, with which others may sign, too.
    #[arg(long, env = "LIVERANK_AUTH_ISSUER")]
    pub auth_issuer: Option<String>,
    /// The audience that tokens must have: one of their `aud`. Needed with keys: a token for another service is not valid here.
    #[arg(long, env = "LIVERANK_AUTH_AUDIENCE")]
    pub auth_audience: Option<String>,
    /// A file that lists revoked tokens: `{"revoked": [{"jti": "…"}, {"sub": "…", "issued_before": 1760000000}]}`.
    ///
    /// It is checked each second, and may be replaced at any time; streams whose token is revoked end then.
    #[arg(long, env = "LIVERANK_AUTH_REVOKED_FILE", value_name = "FILE")]
    pub auth_revoked_file: Option<PathBuf>,
    /// Minimum time between two fetches of the keys because of a token with an unknown key.
    #[arg(skip = keys::REFETCH_INTERVAL)]
    pub ask_again: Duration,
}

impl AuthArgs {
    /// Returns the settings with the keys in `file`, for tokens of this issuer that are meant for this audience.
    pub fn from_key_file(file: PathBuf, issuer: &str, audience: &str) -> Self {
        Self {
            auth_jwks_file: Some(file),
            auth_jwks_url: None,
            auth_issuer: Some(issuer.to_owned()),
            auth_audience: Some(audience.to_owned()),
            auth_revoked_file: None,
            ask_again: keys::REFETCH_INTERVAL,
        }
    }

    /// Checks that these settings fit together. The keys themselves are not read.
    ///
    /// # Errors
    /// Returns an error that names the flags if settings contradict each other, or if a setting lacks another one that
    /// it needs.
    pub fn check(&self) -> anyhow::Result<()> {
        self.clone().key_source_and_issuer().map(drop)
    }

    /// Returns the source of the keys, the issuer whose tokens are accepted, and the audience that tokens must have;
    /// `None` if no keys are configured.
    fn key_source_and_issuer(self) -> anyhow::Result<Option<(KeySource, String, String)>> {
        let source = match (self.auth_jwks_file, self.auth_jwks_url) {
            // Settings in a configuration file are not covered by the command line's own check of conflicts.
            (Some(_), Some(_)) => anyhow::bail!("set --auth-jwks-file or --auth-jwks-url, not both"),
            (Some(file), None) => KeySource::File(file),
            (None, Some(url)) => KeySource::url(url)?,
            (None, None) => {
                let others = [&self.auth_issuer, &self.auth_audience];
                let alone = others.iter().all(|it| it.is_none()) && self.auth_revoked_file.is_none();
                ensure!(
                    alone,
                    "--auth-issuer, --auth-audience and --auth-revoked-file need --auth-jwks-file or --auth-jwks-url"
                );
                return Ok(None);
            }
        };
        let is_set = |text: &String| !text.is_empty();
        let (issuer, audience) = (self.auth_issuer.filter(is_set), self.auth_audience.filter(is_set));
        let (Some(issuer), Some(audience)) = (issuer, audience) else {
            anyhow::bail!(
                "viewers' keys need --auth-issuer and --auth-audience: whose tokens are taken, and for whom"
            );
        };
        Ok(Some((source, issuer, audience)))
    }
}

/// The keys and rules by which viewers' tokens are checked.
pub(crate) struct Auth {
    pub(crate) issuer_keys: Keys,
    pub(crate) revoked_tokens: TokenRevocations,
    issuer: String,
    audience: String,
}

/// The claims of a viewer's token that the gateway reads.
#[derive(Clone, Deserialize)]
struct ViewerClaims {
    sub: String,
    exp: f64,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    roles: Option<Value>,
}

impl Auth {
    /// Creates the authentication of viewers; returns `None` if no keys are configured.
    ///
    /// # Errors
    /// Returns the errors of [`AuthArgs::check`], and an error if the file of revoked tokens cannot be read.
    pub(crate) fn new(args: AuthArgs, health: Health) -> anyhow::Result<Option<Self>> {
        let (ask_again, revoked) = (args.ask_again, args.auth_revoked_file.clone());
        let Some((source, issuer, audience)) = args.key_source_and_issuer()? else { return Ok(None) };
        let revoked = TokenRevocations::new(revoked, health.clone())?;
        let keys = Keys::new(source, ask_again, health);
        Ok(Some(Self { issuer_keys: keys, revoked_tokens: revoked, issuer, audience }))
    }

    /// Returns the viewer that `token` names, with the viewer's roles. Returns 401 if the token is not valid or was
    /// revoked, and 503 if the issuer's keys are not known yet.
    async fn viewer_of_token(&self, token: &str) -> Result<Viewer, Problem> {
        let header = jwt::read_header(token).map_err(|reason| invalid_token_problem(&reason))?;
        let fitting = self.issuer_keys.keys_for(&header).await?;
        let claims = jwt::verified_claims::<ViewerClaims>(token, &fitting, &self.validation_rules(&header));
        let claims = claims.map_err(|reason| invalid_token_problem(&reason))?;
        let viewer = Viewer {
            user_id: claims.sub,
            roles: ViewerRoles::of_claim(claims.roles.as_ref()),
            expires_at: claims.exp as u64,
            token_id: claims.jti,
            issued_at: claims.iat.map(|seconds| seconds as u64),
        };
        if self.revoked_tokens.is_revoked(&viewer) {
            return Err(invalid_token_problem("it was revoked"));
        }
        Ok(viewer)
    }

    fn validation_rules(&self, header: &Header) -> Validation {
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        validation
    }
}

fn invalid_token_problem(reason: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, format!("the token is not valid: {reason}"))
        .with_challenge(CHALLENGE_INVALID)
}

/// The viewer that a valid token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    /// The id of the viewer's user (the claim `sub`).
    pub(crate) user_id: String,
    /// The roles of the viewer.
    pub(crate) roles: ViewerRoles,
    /// The time at which the token expires, in Unix seconds (the claim `exp`).
    expires_at: u64,
    /// The id of the token (the claim `jti`), if it has one.
    token_id: Option<String>,
    /// The time at which the token was issued, in Unix seconds (the claim `iat`), if it says so.
    issued_at: Option<u64>,
}

/// Returns the error 403 for a caller who is known but has no permission.
pub(crate) fn not_allowed_problem(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail).with_challenge(CHALLENGE_INSUFFICIENT_SCOPE)
}

/// The sender of a request, as far as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A sender without a known user, because viewers need no tokens.
    Anyone,
    /// The viewer that the request's token names.
    User(Viewer),
}

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let Some(auth) = &gateway.auth else { return Ok(Self::Anyone) };
        let caller = if let Some(token) = shown_token(parts) {
            auth.viewer_of_token(&token).await.map(Self::User)
        } else {
            let detail = "this takes a token: Authorization: Bearer <token>";
            Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with_challenge(CHALLENGE))
        };
        caller.inspect_err(|_| {
            gateway.metrics.auth_failures.inc();
        })
    }
}

/// Returns the token that a request shows: of the header `Authorization`, or else of the query of a `GET`.
fn shown_token(parts: &Parts) -> Option<String> {
    if let Some(header) = parts.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    // URLs are logged in many places, so a token in the query is accepted only if there is no header, and only for
    // `GET`.
    let params = (parts.method == Method::GET).then(|| QueryParams::from_uri(&parts.uri))?;
    params.lossy_text(TOKEN_PARAMETER).map(ToOwned::to_owned)
}

impl Caller {
    /// Returns the caller of an endpoint that anybody may use: the user of a valid token if one is shown,
    /// `Caller::Anyone` otherwise.
    pub(crate) async fn of_anybody(parts: &Parts, gateway: &Gateway) -> Self {
        let (Some(auth), Some(token)) = (&gateway.auth, shown_token(parts)) else { return Self::Anyone };
        auth.viewer_of_token(&token).await.map_or(Self::Anyone, Self::User)
    }

    /// Checks that the caller may act as `user`, the value of the request's `field`. Returns 403 if its token is for
    /// another user. A service may act as any user.
    pub(crate) fn expect_user(&self, field: &'static str, user: &str) -> Result<(), Problem> {
        match self {
            Self::User(viewer) if viewer.user_id != user && !viewer.roles.contains(ViewerRole::Service) => {
                let detail = format!("{field} must be the user that the token is for, its `sub`");
                Err(not_allowed_problem(detail).with_member("field", field))
            }
            Self::Anyone | Self::User(_) => Ok(()),
        }
    }

    /// Checks that the caller may post. Returns 403 if the roles of its token only let it watch.
    pub(crate) fn expect_poster(&self) -> Result<(), Problem> {
        match self {
            Self::User(viewer) if !viewer.roles.contains(ViewerRole::Poster) => {
                Err(not_allowed_problem("the token's roles let its user watch, not post".to_owned()))
            }
            Self::Anyone | Self::User(_) => Ok(()),
        }
    }

    /// Checks that the caller may send this event. Returns 403 if it may not. Removes the event's owner unless the
    /// caller is a service, because only a service may tell who owns a video.
    pub(crate) fn check_event(&self, event: &mut Interaction) -> Result<(), Problem> {
        self.expect_poster()?;
        self.expect_user("user_id", event.user_id.as_str())?;
        if let Self::User(viewer) = self
            && !viewer.roles.contains(ViewerRole::Service)
        {
            event.owner_id = None;
        }
        Ok(())
    }

    /// Checks, as [`Caller::expect_user`] does, that the caller is the author of a comment on its way to the comment
    /// service. A body that is not a comment passes, because the comment service refuses it; both services parse JSON
    /// alike.
    pub(crate) fn expect_author(&self, body: &[u8]) -> Result<(), Problem> {
        self.expect_poster()?;
        if *self == Self::Anyone {
            return Ok(());
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(members)) => match members.get("userid").and_then(Value::as_str) {
                Some(user) => self.expect_user("userid", user),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Removes the caller's token from the headers and the URI of a request that is passed on to another service: the token
/// was meant for this service only.
pub(crate) fn strip_tokens(headers: &mut HeaderMap, uri: &mut Uri) {
    headers.remove(header::AUTHORIZATION);
    headers.remove(PROXIED_AUTHORIZATION_HEADER);
    if let Some(without) = without_token(uri) {
        *uri = without;
    }
}

/// Returns the path and query of a URI without its token; `None` if the URI has no query.
pub fn without_token(uri: &Uri) -> Option<Uri> {
    let rest: Vec<&str> = uri.query()?.split('&').filter(|pair| !is_token_pair(pair)).collect();
    let path =
        if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    // A path and query that are a part of a valid URI are valid too.
    path.parse::<PathAndQuery>().ok().map(Uri::from)
}

/// Returns true if a `name=value` pair of a query is the token, after percent-decoding: `access%5Ftoken` is the same
/// parameter.
fn is_token_pair(pair: &str) -> bool {
    format!("/?{pair}")
        .parse::<Uri>()
        .is_ok_and(|uri| QueryParams::from_uri(&uri).lossy_text(TOKEN_PARAMETER).is_some())
}

/// Returns a caller that is a viewer with these roles.
#[cfg(test)]
pub(crate) fn user(subject: &str, roles: &str) -> Caller {
    let roles = ViewerRoles::of_names(roles);
    Caller::User(Viewer {
        user_id: subject.to_owned(),
        roles,
        expires_at: 0,
        token_id: None,
        issued_at: None,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn the_token_is_removed_from_forwarded_requests() {
        let strip = |uri: &'static str| {
            let shown = [header::AUTHORIZATION, HeaderName::from_static(PROXIED_AUTHORIZATION_HEADER)];
            let mut headers = shown.map(|name| (name, "Bearer t".parse().unwrap())).into_iter().collect();
            let mut uri = Uri::from_static(uri);
            strip_tokens(&mut headers, &mut uri);
            (uri.to_string(), headers.len())
        };
        for (sent, expected) in [
            ("/ws/videos?access_token=t", "/ws/videos"),
            ("/ws/videos?limit=3&access_token=t&x=%20", "/ws/videos?limit=3&x=%20"),
            ("/ws/videos?access%5Ftoken=t", "/ws/videos"),
            ("/ws/videos?access%5ftoken=t&limit=3&%61ccess_token=t", "/ws/videos?limit=3"),
            ("/ws/videos?limit=3", "/ws/videos?limit=3"),
            ("/ws/user/a%2Fb", "/ws/user/a%2Fb"),
        ] {
            assert_eq!(strip(sent), (expected.to_owned(), 0));
        }
    }

    #[test]
    fn a_viewer_may_not_comment_as_another_user() {
        let (service, watcher, user) = (user("app", "service"), user("ana", "viewer"), user("ana", ""));
        let status = |caller: &Caller, body: &str| {
            caller.expect_author(body.as_bytes()).map_or_else(|problem| problem.status().as_u16(), |()| 0)
        };
        assert_eq!(status(&user, r#"{"userid":"ana"}"#), 0);
        assert_eq!(status(&user, r#"{"userid":"ben"}"#), 403);
        assert_eq!(status(&user, r#"{"userid":"ana","userid":"ben"}"#), 403, "the last one is meant");
        assert_eq!(status(&Caller::Anyone, r#"{"userid":"ben"}"#), 0);
        assert_eq!(status(&service, r#"{"userid":"ben"}"#), 0);
        assert_eq!(status(&watcher, r#"{"userid":"ana"}"#), 403);
        for refused_later in ["", "[]", "{", r#"{"userid":7}"#] {
            assert_eq!(status(&user, refused_later), 0);
        }
    }

    #[test]
    fn only_a_service_may_set_the_owner() {
        let event = serde_json::json!({"video_id": "v", "user_id": "ana", "type": "view", "owner_id": "eve"});
        let judged = |caller: &Caller| {
            let mut event = Interaction::parse(&event, 0).unwrap();
            caller.check_event(&mut event).map(|()| event.owner_id.map(|owner| owner.to_string())).ok()
        };
        let eve = Some(Some("eve".to_owned()));
        assert_eq!([judged(&Caller::Anyone), judged(&user("app", "service"))], [eve.clone(), eve]);
        assert_eq!(judged(&user("ana", "poster")), Some(None));
        assert_eq!([judged(&user("ana", "viewer")), judged(&user("ben", ""))], [None, None]);
    }
}
