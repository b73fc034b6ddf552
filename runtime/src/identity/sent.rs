//! Requests that a gateway sends on behalf of a viewer, where viewers must show tokens: how a gateway names the viewer,
//! and how the service behind it checks that a gateway did. So nobody is accepted as a viewer merely by reaching a
//! service directly.
//!
//! A comment or WebSocket service is at a configured address. The gateway shows that service a gateway's token, and
//! names the viewer and the viewer's roles in two headers. A reader is at an address that the reader itself reported,
//! so a gateway sends it nothing that would be valid elsewhere. A reader gets a *pass* for one viewer of one video,
//! valid for a minute and at that reader only. The key of the passes is derived from the reader's ticket; managers send
//! the key to gateways.

use std::fmt::Write;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use liverank_core::secret::Secret;
use liverank_core::viewer_role::{ViewerRole, ViewerRoles};
use liverank_core::{UserId, VideoId};
use ring::hmac;

use crate::Problem;

/// The header that names the user for whom a gateway sends a request.
pub const USER_HEADER: HeaderName = HeaderName::from_static("liverank-user");
/// The header with the roles of the user in `USER_HEADER`, as [`ViewerRoles`] are written.
pub const ROLES_HEADER: HeaderName = HeaderName::from_static("liverank-roles");
/// The header with the pass that a gateway makes for a viewer at a reader.
pub const PASS_HEADER: HeaderName = HeaderName::from_static("liverank-pass");

/// The message from which the key of the passes is derived. The number in this message changes when the format of
/// passes changes.
const PASS_KEY_PURPOSE: &[u8] = b"liverank pass 1";
/// The time in seconds for which a pass is valid. A minute is plenty: a viewer connects to the reader within moments.
const PASS_LIFE_SECONDS: u64 = 60;
/// The largest difference, in seconds, between the clocks of a gateway and a reader that is tolerated.
const LEEWAY_SECONDS: u64 = 30;

/// An extractor: the user for whom a gateway sent the request. Empty if the request did not come from a gateway, where
/// that is allowed.
#[derive(Debug, Clone, Default)]
pub struct ForwardedUser(Option<OnBehalfOfUser>);

#[derive(Debug, Clone)]
struct OnBehalfOfUser {
    user: Option<UserId>,
    roles: ViewerRoles,
}

impl ForwardedUser {
    /// Reads the user and the roles from the headers that a gateway has set.
    pub(super) fn from_gateway_headers(headers: &HeaderMap) -> Self {
        let text =
            |name| headers.get(name).and_then(|value: &HeaderValue| str::from_utf8(value.as_bytes()).ok());
        let user = text(USER_HEADER).and_then(|user| UserId::parse(user).ok());
        let roles = text(ROLES_HEADER).map(ViewerRoles::of_names).unwrap_or_default();
        Self(Some(OnBehalfOfUser { user, roles }))
    }

    /// Refuses with 403 if the sender may not post as `user`. `field` is the name of the request's member that holds
    /// `user`.
    ///
    /// # Errors
    /// The problem with which the request is answered.
    pub fn check_may_post_as(&self, field: &'static str, user: &UserId) -> Result<(), Problem> {
        let Some(sent) = &self.0 else { return Ok(()) };
        let is_allowed = sent.user.as_ref() == Some(user) || self.has_role(ViewerRole::Service);
        if is_allowed && self.has_role(ViewerRole::Poster) {
            return Ok(());
        }
        let detail = format!("{field} must be the user that the gateway speaks for");
        Err(Problem::new(StatusCode::FORBIDDEN, detail).with_member("field", field))
    }

    /// Returns the user for whom a gateway sent the request; `None` if no gateway sent it or it named none.
    pub fn user(&self) -> Option<&UserId> {
        self.0.as_ref()?.user.as_ref()
    }

    /// Returns true if a gateway sent the request.
    pub const fn is_from_gateway(&self) -> bool {
        self.0.is_some()
    }

    /// Returns true if the user has this role. A request without a user has no role.
    pub fn has_role(&self, role: ViewerRole) -> bool {
        self.0.as_ref().is_some_and(|sent| sent.user.is_some() && sent.roles.contains(role))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ForwardedUser {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Removes the headers that only a gateway may set from a client's request.
pub fn strip_gateway_headers(headers: &mut HeaderMap) {
    for name in [USER_HEADER, ROLES_HEADER, PASS_HEADER] {
        headers.remove(name);
    }
}

/// Sets the headers that name the user for whom a gateway sends the request. Sets neither if no header can carry the
/// user's id.
pub fn set_user_headers(headers: &mut HeaderMap, user: &str, roles: ViewerRoles) {
    let roles = HeaderValue::try_from(roles.to_string());
    if let (Ok(user), Ok(roles)) = (HeaderValue::from_bytes(user.as_bytes()), roles) {
        headers.insert(USER_HEADER, user);
        headers.insert(ROLES_HEADER, roles);
    }
}

/// Returns the key of the passes of the reader with this ticket. Whoever has the key can make passes for that reader,
/// and cannot compute the ticket from it.
pub fn pass_key(ticket: &Secret) -> Secret {
    let key = hmac::Key::new(hmac::HMAC_SHA256, ticket.expose().as_bytes());
    Secret::new(to_hex(hmac::sign(&key, PASS_KEY_PURPOSE).as_ref()))
}

/// Returns a pass for `user` to `video`, made at `now` in seconds since 1970.
pub fn make_pass(key: &Secret, user: &UserId, video: &VideoId, now: u64) -> HeaderValue {
    let until = now + PASS_LIFE_SECONDS;
    let signature = to_hex(hmac::sign(&hmac_key(key), &pass_message(until, user, video)).as_ref());
    let mut value = HeaderValue::try_from(format!("{until}.{signature}")).expect("digits, a dot and letters");
    value.set_sensitive(true);
    value
}

/// Checks that the headers carry a valid pass that was made with `key` for `user` to `video`.
///
/// # Errors
/// A problem with status 401 if the headers carry no valid pass.
pub fn check_pass(
    key: &Secret,
    headers: &HeaderMap,
    user: &UserId,
    video: &VideoId,
    now: u64,
) -> Result<(), Problem> {
    let shown = headers.get(PASS_HEADER).and_then(|value| value.to_str().ok());
    let read = shown.and_then(|shown| {
        let (until, signature) = shown.split_once('.')?;
        Some((until.parse::<u64>().ok()?, from_hex(signature)?))
    });
    let is_good = read.is_some_and(|(until, signature)| {
        // The gateway's clock may be ahead or behind, and it made the pass for `PASS_LIFE_SECONDS` and no more.
        let is_now =
            now <= until.saturating_add(LEEWAY_SECONDS) && until <= now + PASS_LIFE_SECONDS + LEEWAY_SECONDS;
        is_now && hmac::verify(&hmac_key(key), &pass_message(until, user, video), &signature).is_ok()
    });
    if is_good { Ok(()) } else { Err(missing_pass_problem()) }
}

/// Returns the answer for a client that connects to a reader directly where only gateways may send viewers: 401.
pub(super) fn missing_pass_problem() -> Problem {
    let detail = "viewers are asked for tokens here, at the front door: connect to a gateway";
    Problem::new(StatusCode::UNAUTHORIZED, detail).with_challenge("Bearer")
}

fn hmac_key(key: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())
}

/// Returns the text over which a gateway signs a pass, by which a reader accepts one viewer of one video: the end of its
/// validity, the video and the user. No id has a line break in it, so the parts cannot run into each other.
fn pass_message(until: u64, user: &UserId, video: &VideoId) -> Vec<u8> {
    format!("{until}\n{video}\n{user}").into_bytes()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_760_000_000;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn video(id: &str) -> VideoId {
        VideoId::parse(id).unwrap()
    }

    #[test]
    fn a_pass_is_for_one_viewer_of_one_video_at_one_reader_for_a_minute() {
        let (key, other) = (pass_key(&Secret::new("a")), pass_key(&Secret::new("b")));
        let shown = HeaderMap::from_iter([(PASS_HEADER, make_pass(&key, &user("ana"), &video("cat"), NOW))]);
        let taken = |key: &Secret, by: &str, of: &str, now| {
            check_pass(key, &shown, &user(by), &video(of), now).is_ok()
        };
        assert!(
            taken(&key, "ana", "cat", NOW)
                && taken(&key, "ana", "cat", NOW + PASS_LIFE_SECONDS + LEEWAY_SECONDS)
        );
        assert!(taken(&key, "ana", "cat", NOW - LEEWAY_SECONDS), "the gateway's clock is ahead");
        assert!(!taken(&key, "ana", "cat", NOW + PASS_LIFE_SECONDS + LEEWAY_SECONDS + 1), "it is over");
        assert!(!taken(&key, "ana", "cat", NOW - LEEWAY_SECONDS - 1), "nobody makes one for later");
        assert!(!taken(&other, "ana", "cat", NOW) && !taken(&Secret::new("a"), "ana", "cat", NOW));
        assert!(!taken(&key, "ben", "cat", NOW) && !taken(&key, "ana", "dog", NOW));
    }

    #[test]
    fn a_malformed_pass_is_refused() {
        let key = pass_key(&Secret::new("a"));
        let good = make_pass(&key, &user("ana"), &video("cat"), NOW);
        let good = good.to_str().unwrap();
        let (until, signature) = good.split_once('.').unwrap();
        for wrong in [
            String::new(),
            ".".to_owned(),
            until.to_owned(),
            format!("{until}."),
            format!("{}.{signature}", NOW + 1),
            format!("{}.{signature}", u64::MAX),
            format!("{until}.{}", &signature[1..]),
            format!("{until}.{}", &signature[2..]),
            format!("{until}.+{}", &signature[1..]),
            format!("-1.{signature}"),
        ] {
            let shown = HeaderMap::from_iter([(PASS_HEADER, HeaderValue::try_from(&wrong).unwrap())]);
            assert!(check_pass(&key, &shown, &user("ana"), &video("cat"), NOW).is_err(), "{wrong:?}");
        }
        assert!(check_pass(&key, &HeaderMap::new(), &user("ana"), &video("cat"), NOW).is_err());
    }

    #[test]
    fn a_gateway_speaks_for_its_user_alone() {
        let sent = |name: &str, roles: &str| {
            let mut headers = HeaderMap::new();
            set_user_headers(&mut headers, name, ViewerRoles::of_names(roles));
            ForwardedUser::from_gateway_headers(&headers)
        };
        let may =
            |sent: &ForwardedUser, as_user: &str| sent.check_may_post_as("userid", &user(as_user)).is_ok();
        assert!(may(&sent("änne", "poster"), "änne") && !may(&sent("änne", "poster"), "ben"));
        assert!(!may(&sent("ana", "viewer"), "ana"));
        assert!(may(&sent("app", "service"), "ben") && !may(&sent("app", "moderator"), "ben"));
        let nobody = ForwardedUser::from_gateway_headers(&HeaderMap::new());
        assert!(!may(&nobody, "ana") && !nobody.has_role(ViewerRole::Viewer));
        assert!(may(&ForwardedUser::default(), "ana"), "where nobody is asked for a token");
        assert!(!may(&sent("a\nb", "service"), "ana"), "what no header can carry");
    }
}
