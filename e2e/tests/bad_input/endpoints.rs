//! Every endpoint that takes a body, and what is wrong with a body in general and member by member.

use liverank_e2e::raw::{head, request};
use liverank_e2e::up::Door;
use liverank_e2e::up::Door::{Comment, Gateway, Manager, Reader, Statistics};

use crate::case::{BadInputCase, TOO_LONG_ID_BYTES, json_case};

/// What may be wrong with a member.
#[derive(Clone, Copy)]
pub enum BodyMember {
    /// An identifier; where it is absent the request is wrong.
    Id,
    /// An identifier that may be absent.
    OptionalId,
    /// A comment's text.
    Text,
    /// The kind of an interaction.
    Kind,
    /// Seconds watched.
    WatchTime,
    /// When.
    Time,
    /// A name in a report; it may be a number.
    Name,
    /// A count in a report.
    Count,
    /// Names in a report.
    Names,
}

impl BodyMember {
    /// Values that are wrong, as they are written.
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
                texts
                    .map(str::to_owned)
                    .into_iter()
                    .chain([long("v", TOO_LONG_ID_BYTES), long("ü", 129)])
                    .collect()
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

/// An endpoint that takes a JSON object.
pub struct JsonEndpoint {
    /// Who answers it.
    pub doors: &'static [Door],
    /// Where.
    pub path: &'static str,
    /// What makes a good request.
    pub good: &'static [(&'static str, &'static str)],
    /// What answers a good request.
    pub status: u16,
    /// Its members.
    pub members: &'static [(&'static str, BodyMember)],
    /// Bytes that are taken.
    pub limit: usize,
    /// What a 405 allows.
    pub allow: &'static str,
}

const KIB_BYTES: usize = 1024;

/// All of them.
pub const JSON_ENDPOINTS: [JsonEndpoint; 6] = [
    JsonEndpoint {
        doors: &[Gateway],
        path: "/interact",
        good: &[("video_id", r#""v""#), ("user_id", r#""u""#), ("type", r#""view""#)],
        status: 202,
        members: &[
            ("video_id", BodyMember::Id),
            ("user_id", BodyMember::Id),
            ("type", BodyMember::Kind),
            ("watch_time", BodyMember::WatchTime),
            ("timestamp", BodyMember::Time),
            ("event_id", BodyMember::OptionalId),
            ("owner_id", BodyMember::OptionalId),
        ],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    JsonEndpoint {
        doors: &[Comment, Gateway],
        path: "/comment",
        good: &[("userid", r#""u""#), ("videoid", r#""v""#), ("comment", r#""hello""#)],
        status: 201,
        members: &[
            ("userid", BodyMember::Id),
            ("videoid", BodyMember::Id),
            ("comment", BodyMember::Text),
            ("idempotency_key", BodyMember::OptionalId),
        ],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    JsonEndpoint {
        doors: &[Manager, Gateway],
        path: "/register",
        good: &[("videoid", r#""v""#)],
        status: 200,
        members: &[("videoid", BodyMember::Id)],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    JsonEndpoint {
        doors: &[Manager],
        path: "/route",
        good: &[("videoid", r#""v""#)],
        status: 200,
        members: &[("videoid", BodyMember::Id)],
        limit: 64 * KIB_BYTES,
        allow: "POST",
    },
    JsonEndpoint {
        doors: &[Reader, Gateway],
        path: "/connect",
        good: &[("userid", r#""u""#), ("videoid", r#""v""#)],
        status: 200,
        members: &[("userid", BodyMember::Id), ("videoid", BodyMember::Id)],
        limit: 64 * KIB_BYTES,
        allow: "GET,HEAD,POST",
    },
    JsonEndpoint {
        doors: &[Statistics, Gateway],
        path: "/client-statistics",
        good: &[("clientId", r#""c""#)],
        status: 200,
        members: &[
            ("clientId", BodyMember::Name),
            ("commentsGenerated", BodyMember::Count),
            ("commentsConsumed", BodyMember::Count),
            ("subscribedTopics", BodyMember::Names),
        ],
        limit: 2 * KIB_BYTES * KIB_BYTES,
        allow: "POST",
    },
];

/// Every case of every endpoint.
pub fn cases() -> Vec<BadInputCase> {
    let mut cases = Vec::new();
    for endpoint in &JSON_ENDPOINTS {
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

impl JsonEndpoint {
    /// A good body, with one member written otherwise, or left out.
    fn body_with(&self, other: Option<(&str, Option<&str>)>) -> String {
        let kept = self.good.iter().filter(|(name, _)| other.is_none_or(|(changed, _)| changed != *name));
        let mut members: Vec<String> = kept.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        if let Some((name, Some(value))) = other {
            members.push(format!("\"{name}\":{value}"));
        }
        format!("{{{}}}", members.join(","))
    }
}

fn add_member_cases(endpoint: &JsonEndpoint, door: Door, cases: &mut Vec<BadInputCase>) {
    for (name, member) in endpoint.members {
        for value in member.wrong() {
            let body = endpoint.body(Some((name, Some(&value))));
            cases.push(json_case(door, endpoint.path, body.as_bytes(), 400, Some(name)));
        }
    }
    for (name, _) in endpoint.good {
        let body = endpoint.body(Some((name, None)));
        cases.push(json_case(door, endpoint.path, body.as_bytes(), 400, Some(name)));
    }
    // Of a repeated member the last counts.
    let (name, good) = endpoint.good[0];
    let first = endpoint.body(None).replacen('{', &format!("{{\"{name}\":true,"), 1);
    cases.push(json_case(door, endpoint.path, first.as_bytes(), endpoint.status, None));
    let last = format!("{{\"{name}\":{good},{}", &endpoint.body(Some((name, Some("true"))))[1..]);
    cases.push(json_case(door, endpoint.path, last.as_bytes(), 400, Some(name)));
    // What nobody asked for is passed over, and null is nothing.
    let more = endpoint.body(Some(("unheard_of", Some(r#"{"a":[1,null]}"#))));
    cases.push(json_case(door, endpoint.path, more.as_bytes(), endpoint.status, None));
}

fn add_body_cases(endpoint: &JsonEndpoint, door: Door, cases: &mut Vec<BadInputCase>) {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let good = endpoint.body(None);
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

fn add_content_type_cases(endpoint: &JsonEndpoint, door: Door, cases: &mut Vec<BadInputCase>) {
    let body = endpoint.body(None);
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
        cases.push(BadInputCase::new(
            door,
            &format!("POST {} as {content_type:?}", endpoint.path),
            bytes,
            status,
            None,
        ));
    }
    let bytes = request("POST", endpoint.path, &[], body.as_bytes());
    cases.push(BadInputCase::new(
        door,
        &format!("POST {} as nothing", endpoint.path),
        bytes,
        endpoint.status,
        None,
    ));
}

fn add_size_cases(endpoint: &JsonEndpoint, door: Door, cases: &mut Vec<BadInputCase>) {
    let json = "Content-Type: application/json";
    let mut large = endpoint.body(None).into_bytes();
    large.resize(endpoint.limit, b' ');
    let case = |what: &str, bytes, status| {
        BadInputCase::new(door, &format!("POST {} {what}", endpoint.path), bytes, status, None)
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
    let good = endpoint.body(None);
    let (start, rest) = good.split_at(5);
    let mut pieces = chunked_head(endpoint.path);
    pieces.extend(format!("5;x=y\r\n{start}\r\n{:X}\r\n{rest}\r\n0\r\n\r\n", rest.len()).into_bytes());
    cases.push(case("in chunks", pieces, endpoint.status));
    let mut broken = chunked_head(endpoint.path);
    broken.extend(b"zz\r\n{}\r\n0\r\n\r\n");
    cases.push(case("in chunks of no size", broken, 400).with_field("body"));
    // Cut off by its own length: the rest is no second request, for the connection ends with the first.
    let mut short = head("POST", endpoint.path, &[json], good.len() - 1);
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

fn add_method_cases(endpoint: &JsonEndpoint, door: Door, cases: &mut Vec<BadInputCase>) {
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        if endpoint.allow.split(',').any(|allowed| allowed == method) {
            continue;
        }
        let bytes = request(method, endpoint.path, &[], b"");
        let case = BadInputCase::new(door, &format!("{method} {}", endpoint.path), bytes, 405, None);
        cases.push(case.with_allow_header(endpoint.allow));
    }
}
