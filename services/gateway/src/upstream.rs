//! The HTTP/1 client for requests that are passed on to our services byte for byte: it changes neither path nor query.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use liverank_runtime::PeerTls;
use liverank_runtime::client::{ConnectionSettings, https_connector};
use liverank_runtime::peer::CONNECT_TIMEOUT;
use reqwest::Url;

/// The HTTP client: its connections are kept open and shared by all requests.
pub(crate) type Client = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Time for which an idle connection is kept: a little shorter than our servers keep it, so that the server does not
/// close it while it is being used.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// Interval of TCP keep-alive probes, which find out that a peer is gone also on silent streams.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

pub(crate) fn upstream_client(tls: &PeerTls) -> Client {
    let connections = ConnectionSettings {
        connect_timeout: Some(CONNECT_TIMEOUT),
        idle_timeout: Some(IDLE_TIMEOUT),
        keep_alive: Some(KEEPALIVE_EVERY),
    };
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(https_connector(tls, connections))
}

/// Returns `base` followed by a request's path and query exactly as they came. (`Url` would resolve a video called
/// `..`.)
pub(crate) fn join_target(base: &Url, path_and_query: &str) -> Result<Uri, http::Error> {
    let host = base.host_str().unwrap_or_default();
    let authority = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let prefix = base.path().trim_end_matches('/');
    Uri::builder()
        .scheme(base.scheme())
        .authority(authority)
        .path_and_query(format!("{prefix}{path_and_query}"))
        .build()
}

/// Headers that belong to one connection only; the headers that `Connection` names do as well.
const HOP_BY_HOP_HEADERS: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Removes the headers that belong only to the connection by which the message came.
pub(crate) fn strip_hop_by_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP_HEADERS.into_iter().chain(named.iter().map(HeaderName::as_str)) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_paths_are_forwarded_unchanged() {
        let to = |base: &str, path: &str| join_target(&base.parse().unwrap(), path).unwrap().to_string();
        assert_eq!(to("http://m:6000", "/resolve/%2e%2e"), "http://m:6000/resolve/%2e%2e");
        assert_eq!(to("http://m:6000/", "/a?b=c%20d"), "http://m:6000/a?b=c%20d");
        assert_eq!(to("http://[::1]:6000/in/", "/a"), "http://[::1]:6000/in/a");
        assert_eq!(to("http://m", "/a"), "http://m/a");
    }

    #[test]
    fn hop_by_hop_headers_are_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Hop"), ("x-hop", "1"), ("keep-alive", "5"), ("content-type", "a/b")]
        {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop_headers(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    }
}
