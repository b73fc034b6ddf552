//! Bad requests to every endpoint that accepts a JSON body: errors of the body as a whole, and of each member.

use liverank_e2e::raw::{request, request_head};
use liverank_e2e::up::PublicPort;
use liverank_e2e::up::PublicPort::{Comment, Gateway, Manager, Reader, Statistics};
use liverank_protocol::access::{self, CalledService};

use crate::case::{Case, LONG, json_case};

/// The type of a JSON member, which determines its wrong values.
#[derive(Clone, Copy)]
pub enum Member {
    /// An identifier that must be present.
    Id,
    /// An identifier that may be absent.
    OptionalId,
    /// A comment's text.
    Text,
    /// The type of an interaction (`view`, `like`, …).
    Kind,
    /// The seconds watched.
    WatchTime,
    /// A timestamp.
    Time,
    /// A name in a client's statistics report, which may also be a number.
    Name,
    /// A count in a client's statistics report.
    Count,
    /// A list of names in a client's statistics report.
    Names,
}

impl Member {
    /// Returns wrong values of the member, in JSON.
    fn wrong_values(self) -> Vec<String> {
        let long = |unit: &str, count: usize| format!("\"{}\"", unit.repeat(count));
        let mut wrong: Vec<String> = match self {
            Self::Id | Self::OptionalId => {
                let texts = [
                    r#""""#,
                    r#""a\u0000b""#,
                    r#""a\nb""#,
                    r#""\u007f""#,
                    r#""\u0085""#,
                    "7",
                    "true",
                    "[]",
                    "{}",
                    "1.5",
                ];
                texts.map(str::to_owned).into_iter().chain([long("v", LONG), long("ü", 129)]).collect()
            }
            Self::Text => vec![
                r#""""#.into(),
                "7".into(),
                r#"["x"]"#.into(),
                "{}".into(),
                long("x", 4097),
                long("ü", 4097),
            ],
            Self::Kind => {
                [r#""dislike""#, r#""VIEW""#, r#""""#, "5", "[]", r#""view ""#].map(str::to_owned).to_vec()
            }
            Self::WatchTime => {
                let wrong =
                    [r#""NaN""#, "-1", "-0.001", "86400.001", "1e308", "-1e308", r#""5""#, "[]", "true"];
                wrong.map(str::to_owned).to_vec()
            }
            Self::Time => {
                let wrong = [
                    r#""yesterday""#,
                    "-1",
                    "1e300",
                    "253402300800",
                    "[]",
                    "true",
                    r#""2025-13-01T00:00:00Z""#,
                ];
                wrong.map(str::to_owned).to_vec()
            }
            Self::Name => vec!["true".into(), "[]".into(), "{}".into(), r#""""#.into(), long("n", 513)],
            Self::Count => ["-1", "1.5", r#""many""#, "[]", "1e300"].map(str::to_owned).to_vec(),
            Self::Names => vec!["{}".into(), "7".into(), "[true]".into(), format!("[{}]", long("n", 513))],
        };
        if matches!(self, Self::Id | Self::Text | Self::Kind) {
            wrong.push("null".into());
        }
        wrong
    }
}

/// An endpoint that accepts a JSON object.
pub struct Endpoint {
    /// The public ports that serve the endpoint.
    pub doors: &'static [PublicPort],
    /// The path of the endpoint.
    pub path: &'static str,
    /// The members of a valid request, with their values in JSON.
    pub good: &'static [(&'static str, &'static str)],
    /// The status code of the answer to a valid request.
    pub status: u16,
    /// All members that the endpoint knows, with their types.
    pub members: &'static [(&'static str, Member)],
    /// The greatest size of a body that is accepted, in bytes.
    pub limit: usize,
    /// The `Allow` header of an answer 405.
    pub allow: &'static str,
}

const KIB_BYTES: usize = 1024;

/// All endpoints that accept a JSON object.
pub const ENDPOINTS: [Endpoint; 6] = [
    Endpoint {
        doors: &[Gateway],
        path: "/interact",
        good: &[("video_id", r#""v""#), ("user_id", r#""u""#), ("type", r#""view""#)],
        status: 202,
        members: &[
            ("video_id", Member::Id),
            ("user_id", Member::Id),
            ("type", Member::Kind),
            ("watch_time", Member::WatchTime),
            ("timestamp", Member::Time),
            ("event_id", Member::OptionalId),
            ("owner_id", Member::OptionalId),
        ],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    Endpoint {
        doors: &[Comment, Gateway],
        path: "/comment",
        good: &[("userid", r#""u""#), ("videoid", r#""v""#), ("comment", r#""hello""#)],
        status: 201,
        members: &[
            ("userid", Member::Id),
            ("videoid", Member::Id),
            ("comment", Member::Text),
            ("idempotency_key", Member::OptionalId),
        ],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    Endpoint {
        doors: &[Manager, Gateway],
        path: "/register",
        good: &[("videoid", r#""v""#)],
        status: 200,
        members: &[("videoid", Member::Id)],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    Endpoint {
        doors: &[Manager],
        path: "/route",
        good: &[("videoid", r#""v""#)],
        status: 200,
        members: &[("videoid", Member::Id)],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    Endpoint {
        doors: &[Reader, Gateway],
        path: "/connect",
        good: &[("userid", r#""u""#), ("videoid", r#""v""#)],
        status: 200,
        members: &[("userid", Member::Id), ("videoid", Member::Id)],
        limit: 64 * KIB_BYTES,
        allow: "GET,HEAD,POST",
    },
    Endpoint {
        doors: &[Statistics, Gateway],
        path: "/client-statistics",
        good: &[("clientId", r#""c""#)],
        status: 200,
        members: &[
            ("clientId", Member::Name),
            ("commentsGenerated", Member::Count),
            ("commentsConsumed", Member::Count),
            ("subscribedTopics", Member::Names),
        ],
        limit: 2 * KIB_BYTES * KIB_BYTES,
        allow: "POST",
    },
];

/// Endpoints of the gateway that accept a body and are not in [`ENDPOINTS`], with the tests that send them bad ones.
const BODIES_TESTED_ELSEWHERE: [(&str, &str); 13] = [
    ("/interactions", "services/gateway/tests/api/bad_input.rs"),
    ("/videos/{video_id}", "services/gateway/tests/api/moderation.rs"),
    ("/comments/{videoid}/{id}/reports", "services/gateway/tests/api/reports.rs"),
    ("/moderation/bans", "services/gateway/tests/api/moderation.rs"),
    ("/moderation/held", "services/gateway/tests/api/comment_rules.rs"),
    ("/moderation/pins", "services/gateway/tests/api/comment_rules.rs"),
    ("/moderation/reports", "services/gateway/tests/api/reports.rs"),
    ("/moderation/revocations", "services/gateway/tests/api/sessions.rs"),
    ("/moderation/rules", "services/gateway/tests/api/comment_rules.rs"),
    ("/operate/what-if", "services/gateway/tests/api/operate.rs"),
    ("/comment-api-statistics", "services/statistics/tests/api.rs"),
    ("/reader-api-statistics", "services/statistics/tests/api.rs"),
    ("/reader-api-manager-statistics", "services/statistics/tests/api.rs"),
];

/// Endpoints of the gateway whose requests have no body.
const WITHOUT_BODY: [&str; 1] = ["/operate/demo"];

#[test]
fn every_body_that_a_stranger_may_send_is_tested() {
    let with_body =
        access::endpoints_of(CalledService::Gateway).filter(|row| ["POST", "PUT"].contains(&row.method));
    for row in with_body.filter(|row| !WITHOUT_BODY.contains(&row.path)) {
        let is_here = ENDPOINTS
            .iter()
            .any(|it| it.path == row.path && it.doors.iter().any(|door| matches!(door, Gateway)));
        let is_elsewhere = BODIES_TESTED_ELSEWHERE.iter().any(|(path, _)| *path == row.path);
        assert!(
            is_here || is_elsewhere,
            "{} {}: ENDPOINTS in e2e/tests/bad_input/endpoints.rs has no bad bodies for it",
            row.method,
            row.path
        );
    }
}

/// Returns all cases of all endpoints, at every port that serves them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for endpoint in &ENDPOINTS {
        for door in endpoint.doors {
            add_member_cases(endpoint, *door, &mut cases);
            add_body_cases(endpoint, *door, &mut cases);
            add_content_type_cases(endpoint, *door, &mut cases);
            add_size_cases(endpoint, *door, &mut cases);
            add_method_cases(endpoint, *door, &mut cases);
        }
    }
    cases
}

impl Endpoint {
    /// Returns a valid body in which one member has another value, or is left out.
    fn body_with(&self, other: Option<(&str, Option<&str>)>) -> String {
        let kept = self.good.iter().filter(|(name, _)| other.is_none_or(|(changed, _)| changed != *name));
        let mut members: Vec<String> = kept.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        if let Some((name, Some(value))) = other {
            members.push(format!("\"{name}\":{value}"));
        }
        format!("{{{}}}", members.join(","))
    }
}

fn add_member_cases(endpoint: &Endpoint, door: PublicPort, cases: &mut Vec<Case>) {
    for (name, member) in endpoint.members {
        for value in member.wrong_values() {
            let body = endpoint.body_with(Some((name, Some(&value))));
            cases.push(json_case(door, endpoint.path, body.as_bytes(), 400, Some(name)));
        }
    }
    for (name, _) in endpoint.good {
        let body = endpoint.body_with(Some((name, None)));
        cases.push(json_case(door, endpoint.path, body.as_bytes(), 400, Some(name)));
    }
    // If a member is repeated, its last value counts.
    let (name, good) = endpoint.good[0];
    let first = endpoint.body_with(None).replacen('{', &format!("{{\"{name}\":true,"), 1);
    cases.push(json_case(door, endpoint.path, first.as_bytes(), endpoint.status, None));
    let last = format!("{{\"{name}\":{good},{}", &endpoint.body_with(Some((name, Some("true"))))[1..]);
    cases.push(json_case(door, endpoint.path, last.as_bytes(), 400, Some(name)));
    // Unknown members are ignored, and null counts as absent.
    let more = endpoint.body_with(Some(("unheard_of", Some(r#"{"a":[1,null]}"#))));
    cases.push(json_case(door, endpoint.path, more.as_bytes(), endpoint.status, None));
}

fn add_body_cases(endpoint: &Endpoint, door: PublicPort, cases: &mut Vec<Case>) {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let good = endpoint.body_with(None);
    let mut invalid_utf8 = good.clone().into_bytes();
    let quote = invalid_utf8.len() - 2;
    invalid_utf8.insert(quote, 0xff);
    let surrogate = good.replacen('{', "{\"x\":\"\\ud800\",", 1);
    let texts: [&[u8]; 20] = [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\"x\"",
        b"{'a':1}",
        b"{\"a\":NaN}",
        b"{\"a\":Infinity}",
        b"{\"a\":1e999}",
        b"{\"a\":01}",
        b"{\"a\":1,}",
        b"\0\0\0\0",
        b"\x1f\x8b\x08\0\0\0\0\0",
        &invalid_utf8,
        surrogate.as_bytes(),
        deep.as_bytes(),
        &[&b"\xef\xbb\xbf"[..], good.as_bytes()].concat(),
        &[good.as_bytes(), b"x"].concat(),
    ];
    for text in texts {
        cases.push(json_case(door, endpoint.path, text, 400, Some("body")));
    }
}

fn add_content_type_cases(endpoint: &Endpoint, door: PublicPort, cases: &mut Vec<Case>) {
    let body = endpoint.body_with(None);
    let types = [
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/problem+json", 415),
        ("application/jsonx", 415),
        ("\u{fc}\u{fc}", 415),
        ("Application/JSON ; charset=utf-8", endpoint.status),
        ("", endpoint.status),
    ];
    for (content_type, status) in types {
        let header = format!("Content-Type: {content_type}");
        let bytes = request("POST", endpoint.path, &[&header], body.as_bytes());
        cases.push(Case::new(
            door,
            &format!("POST {} as {content_type:?}", endpoint.path),
            bytes,
            status,
            None,
        ));
    }
    let bytes = request("POST", endpoint.path, &[], body.as_bytes());
    cases.push(Case::new(door, &format!("POST {} as nothing", endpoint.path), bytes, endpoint.status, None));
}

fn add_size_cases(endpoint: &Endpoint, door: PublicPort, cases: &mut Vec<Case>) {
    let json = "Content-Type: application/json";
    let mut large = endpoint.body_with(None).into_bytes();
    large.resize(endpoint.limit, b' ');
    let case = |what: &str, bytes, status| {
        Case::new(door, &format!("POST {} {what}", endpoint.path), bytes, status, None)
    };
    cases.push(case(
        "as large as it may be",
        request("POST", endpoint.path, &[json], &large),
        endpoint.status,
    ));
    large.push(b' ');
    cases.push(case("a byte too large", request("POST", endpoint.path, &[json], &large), 413));
    let text = format!("{:x}\r\n", large.len());
    let mut chunked = chunked_head(endpoint.path);
    chunked.extend([text.as_bytes(), &large, b"\r\n0\r\n\r\n"].concat());
    cases.push(case("a byte too large, in one chunk", chunked, 413));
    let good = endpoint.body_with(None);
    let (start, rest) = good.split_at(5);
    let mut pieces = chunked_head(endpoint.path);
    pieces.extend(format!("5;x=y\r\n{start}\r\n{:X}\r\n{rest}\r\n0\r\n\r\n", rest.len()).into_bytes());
    cases.push(case("in chunks", pieces, endpoint.status));
    let mut broken = chunked_head(endpoint.path);
    broken.extend(b"zz\r\n{}\r\n0\r\n\r\n");
    cases.push(case("in chunks of no size", broken, 400).with_field("body"));
    // The body is cut off by its own length. The rest is not read as a second request, because the connection ends
    // with the first.
    let mut short = request_head("POST", endpoint.path, &[json], good.len() - 1);
    short.extend_from_slice(good.as_bytes());
    cases.push(case("with more than its length", short, 400).with_field("body"));
}

fn chunked_head(path: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: liverank\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

fn add_method_cases(endpoint: &Endpoint, door: PublicPort, cases: &mut Vec<Case>) {
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        if endpoint.allow.split(',').any(|allowed| allowed == method) {
            continue;
        }
        let bytes = request(method, endpoint.path, &[], b"");
        let case = Case::new(door, &format!("{method} {}", endpoint.path), bytes, 405, None);
        cases.push(case.allowing(endpoint.allow));
    }
}
