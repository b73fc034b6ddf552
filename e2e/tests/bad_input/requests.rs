//! Bad requests other than JSON objects: paths, parameters, web sockets, batches, heartbeats, and bytes that are no
//! HTTP.

use std::fmt::Write;

use liverank_e2e::raw::{handshake, request};
use liverank_e2e::up::PublicPort;
use liverank_e2e::up::PublicPort::{Comment, Gateway, Manager, Reader, Statistics, Websocket};

use crate::case::{Case, LONG, get_case, json_case};

/// Returns all cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    add_path_cases(&mut cases);
    add_parameter_cases(&mut cases);
    add_path_id_cases(&mut cases);
    add_connect_cases(&mut cases);
    add_websocket_cases(&mut cases);
    add_list_cases(&mut cases);
    add_heartbeat_cases(&mut cases);
    add_not_http_cases(&mut cases);
    cases
}

fn add_path_cases(cases: &mut Vec<Case>) {
    let long = format!("/{}", "a".repeat(8000));
    let paths = [
        "/nothing",
        "//",
        "/interact/",
        "/videos/a/b",
        "/connect/x",
        "/%2e%2e/etc/passwd",
        "/../x",
        "/wp-login.php",
        &long,
    ];
    for door in PublicPort::ALL {
        for path in paths {
            cases.push(get_case(door, path, 404, None));
        }
        cases.push(json_case(door, "/nothing", b"{}", 404, None));
        let posted = Case::new(door, "POST /health", request("POST", "/health", &[], b"{}"), 405, None);
        cases.push(posted.allowing("GET,HEAD"));
    }
}

fn add_parameter_cases(cases: &mut Vec<Case>) {
    let numbers = ["0", "-1", "1.5", "ten", "", "1e2", "%31%00", "99999999999999999999", "NaN", "%ff"];
    for value in numbers.into_iter().chain(["1001"]) {
        cases.push(get_case(Gateway, &format!("/videos?limit={value}"), 400, Some("limit")));
        for door in [Gateway, Comment] {
            cases.push(get_case(door, &format!("/comments/v?limit={value}"), 400, Some("limit")));
        }
    }
    for value in numbers.into_iter().chain(["9007199254740992"]) {
        for door in [Gateway, Comment] {
            cases.push(get_case(door, &format!("/comments/v?before={value}"), 400, Some("before")));
        }
    }
    for value in ["best", "GLOBAL", "", "%00", "%ff"] {
        cases.push(get_case(Gateway, &format!("/videos?board={value}"), 400, Some("board")));
        for door in [Gateway, Statistics] {
            cases.push(get_case(door, &format!("/statistics?full=x{value}"), 400, Some("full")));
        }
    }
    for value in ["-1", "1.5", "ten", "", "%ff", "9007199254740992"] {
        for door in [Gateway, Comment] {
            cases.push(get_case(door, &format!("/comments/v?after={value}"), 400, Some("after")));
        }
    }
    for value in ["", "%00", "%ff", &"v".repeat(LONG)] {
        cases.push(get_case(Gateway, &format!("/videos?around={value}"), 400, Some("around")));
        for door in [Gateway, Comment] {
            cases.push(get_case(door, &format!("/comments/v?around={value}"), 400, Some("around")));
        }
    }
    cases.push(get_case(Gateway, "/videos?around=nobody-has-seen-it", 404, Some("around")));
    for value in ["views", "viewers;", "%00", "%ff"] {
        cases.push(get_case(Gateway, &format!("/videos?fields={value}"), 400, Some("fields")));
        for door in [Gateway, Reader] {
            let path = format!("/connect?userid=u&videoid=v&events={value}");
            cases.push(get_case(door, &path, 400, Some("events")));
        }
    }
    let long = "0".repeat(2000);
    for value in ["zz", "00", "4008000000000000", "-", "%00", "", &long] {
        cases.push(get_case(Gateway, &format!("/videos?cursor={value}"), 400, Some("cursor")));
    }
    // If a parameter is repeated, its first value counts; an unknown one is refused by its name.
    cases.push(get_case(Gateway, "/videos?limit=5&limit=0&&", 200, None));
    cases.push(get_case(Gateway, "/videos?limit=5&x=%ff&&=&y", 400, Some("x")));
    cases.push(get_case(Gateway, "/videos?limit=0&limit=5", 400, Some("limit")));
}

fn add_path_id_cases(cases: &mut Vec<Case>) {
    let long = "v".repeat(LONG);
    for id in ["%00", "a%0ab", "%7f", "%c2%85", "%ff", "%c3%28", &long] {
        cases.push(get_case(Gateway, &format!("/videos/{id}"), 400, Some("video_id")));
        for (door, path) in [
            (Gateway, "/comments"),
            (Comment, "/comments"),
            (Gateway, "/resolve"),
            (Manager, "/resolve"),
            (Manager, "/viewers"),
        ] {
            cases.push(get_case(door, &format!("{path}/{id}"), 400, Some("videoid")));
        }
    }
    cases.push(get_case(Gateway, "/videos/nobody-has-seen-it", 404, None));
    for door in [Gateway, Manager] {
        cases.push(get_case(door, "/resolve/nobody-has-asked-for-it", 404, None));
    }
}

fn add_connect_cases(cases: &mut Vec<Case>) {
    let long = "u".repeat(LONG);
    for door in [Gateway, Reader] {
        cases.push(get_case(door, "/connect", 400, Some("userid")));
        cases.push(get_case(door, "/connect?userid=u", 400, Some("videoid")));
        cases.push(get_case(door, "/connect?videoid=v", 400, Some("userid")));
        for id in ["", "%00", "a%0a", &long] {
            cases.push(get_case(door, &format!("/connect?userid={id}&videoid=v"), 400, Some("userid")));
            cases.push(get_case(door, &format!("/connect?userid=u&videoid={id}"), 400, Some("videoid")));
        }
        // An invalid event id is answered with a stream, because a browser would not reconnect after any other answer.
        for id in ["nonsense", "-", "x-", "x-99999999999999999999", "x-1%0d%0aevil:%201", "%ff", &long] {
            let path = format!("/connect?userid=u&videoid=v&last_event_id={id}");
            cases.push(get_case(door, &path, 200, None));
        }
        let header = format!("Last-Event-ID: {}", "9".repeat(5000));
        let bytes = request("GET", "/connect?userid=u&videoid=v", &[&header], b"");
        cases.push(Case::new(door, "GET /connect with a header of nonsense", bytes, 200, None));
    }
}

fn add_websocket_cases(cases: &mut Vec<Case>) {
    let long = format!("/ws/user/{}", "u".repeat(LONG));
    let wrong = [
        ("/ws/videos?limit=0", "limit"),
        ("/ws/videos?limit=ALL", "limit"),
        ("/ws/videos?limit=1000001", "limit"),
        ("/ws/videos?board=best", "board"),
        ("/ws/videos?mode=fast", "mode"),
        ("/ws/videos?around=", "around"),
        ("/ws/videos?around=v&mode=delta", "around"),
        ("/ws/videos?around=v&limit=101", "limit"),
        ("/ws/user/u?limit=-1", "limit"),
        ("/ws/user/%00", "user_id"),
        ("/ws/user/%ff", "user_id"),
        (&long, "user_id"),
    ];
    for door in [Gateway, Websocket] {
        for (path, field) in wrong {
            cases.push(Case::new(
                door,
                &format!("a WebSocket at {path:.40}"),
                handshake(path),
                400,
                Some(field),
            ));
        }
        cases.push(get_case(door, "/ws/videos", 426, None));
        cases.push(get_case(door, "/ws/user/u", 426, None));
        let without = |line: &str| {
            let text = String::from_utf8(handshake("/ws/videos")).expect("it is text");
            text.replace(line, "X: y\r\n").into_bytes()
        };
        let version = without("Sec-WebSocket-Version: 13\r\n");
        cases.push(Case::new(door, "a handshake without a version", version, 426, None));
        let key = without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        cases.push(Case::new(door, "a handshake without a key", key, 400, Some("Sec-WebSocket-Key")));
    }
}

fn add_list_cases(cases: &mut Vec<Case>) {
    let json = "Content-Type: application/json";
    let ndjson = "Content-Type: application/x-ndjson";
    let post = |what: &str, header: &str, body: &[u8], status, field| {
        let bytes = request("POST", "/interactions", &[header], body);
        Case::new(Gateway, &format!("POST /interactions {what}"), bytes, status, field)
    };
    for text in ["", "{", "{}", "null", "[", "[NaN]", "[{}]x"] {
        cases.push(post(text, json, text.as_bytes(), 400, Some("body")));
    }
    let many = |separator: &str| vec!["{}"; 1001].join(separator);
    cases.push(post("of 1,001", json, format!("[{}]", many(",")).as_bytes(), 413, None));
    cases.push(post("of 1,001 lines", ndjson, many("\n").as_bytes(), 413, None));
    cases.push(post("of more than 1 MiB", ndjson, &vec![b' '; 1024 * 1024 + 1], 413, None));
    cases.push(post("as a form", "Content-Type: application/x-www-form-urlencoded", b"[]", 415, None));
    // Each item of a batch is accepted or refused by itself.
    cases.push(post("of nothing good", json, br#"[1,null,{},[],"x",{"type":"view"}]"#, 200, None));
    cases.push(post("of bad lines", ndjson, b"nope\n\xff\xfe\n\n{\n", 200, None));
}

fn add_heartbeat_cases(cases: &mut Vec<Case>) {
    let post = |body: &str, field| json_case(Manager, "/heartbeat", body.as_bytes(), 400, Some(field));
    for text in ["", "{", "[]", "{}", "null", r#"{"id":"x"}"#] {
        cases.push(post(text, "body"));
    }
    let record = |id: &str, url: &str, epoch: &str, videos: &str| {
        format!(
            r#"{{"id":{id},"public_url":{url},"internal_url":{url},"beat":1,"capacity":1,"viewers":0,"draining":false,"highest_epoch":{epoch},"videos":{videos},"messages_sent":0}}"#
        )
    };
    let here = r#""http://127.0.0.1:9""#;
    cases.push(post(&record("\"\"", here, "0", "[]"), "body"));
    cases.push(post(&record("\"r\"", here, "-1", "[]"), "body"));
    cases.push(post(&record("\"r\"", here, "0", "[[\"\",1]]"), "body"));
    cases.push(post(&record("\"r\"", here, "18446744073709551615", "[]"), "highest_epoch"));
    cases.push(post(&record("\"r\"", r#""ftp://127.0.0.1""#, "0", "[]"), "public_url"));
    cases.push(post(&record("\"r\"", r#""nowhere""#, "0", "[]"), "public_url"));
    let long = format!("\"http://127.0.0.1/{}\"", "a".repeat(2048));
    cases.push(post(&record("\"r\"", &long, "0", "[]"), "public_url"));
}

/// Adds requests that the HTTP library answers by itself, without a body.
fn add_not_http_cases(cases: &mut Vec<Case>) {
    let mut headers = String::from("GET /health HTTP/1.1\r\n");
    for number in 0..200 {
        write!(headers, "X-{number}: y\r\n").expect("writing to a string cannot fail");
    }
    headers.push_str("\r\n");
    let large = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(300 * 1024));
    let texts: [(&[u8], u16); 11] = [
        (b"\0\x01\x02\x03\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\n\r\n", 400),
        (b"GET /he alth HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nX: a\0b\r\n\r\n", 400),
        (b"POST /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (headers.as_bytes(), 431),
        (large.as_bytes(), 431),
    ];
    for door in PublicPort::ALL {
        for (text, status) in texts {
            let what = format!("{:?}", String::from_utf8_lossy(&text[..text.len().min(40)]));
            cases.push(Case::new(door, &what, text.to_vec(), status, None).bare());
        }
        let old = b"GET /health HTTP/1.0\r\n\r\n".to_vec();
        cases.push(Case::new(door, "HTTP/1.0", old, 200, None));
    }
}
