//! The pages that are built into the binary: the console, the page of the API, the client that both use, and the
//! library that draws the console's chart (uPlot, MIT; its licence is served beside it).

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

const HTML_TYPE: &str = "text/html; charset=utf-8";
const SCRIPT_TYPE: &str = "text/javascript; charset=utf-8";
const STYLE_TYPE: &str = "text/css; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
const IMAGE_TYPE: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $file:literal, $content_type:expr) => {
        PageFile {
            path: $path,
            content_type: $content_type,
            content: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/", $file)),
        }
    };
}

/// A file of the pages, with its path and content type.
pub(crate) struct PageFile {
    /// The path at which the file is served.
    pub(crate) path: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

/// The files of the gateway's web pages.
pub(crate) static ASSETS: [PageFile; 38] = [
    asset!("/", "index.html", HTML_TYPE),
    asset!("/console.js", "console.js", SCRIPT_TYPE),
    asset!("/console-comments.js", "console-comments.js", SCRIPT_TYPE),
    asset!("/console-history.js", "console-history.js", SCRIPT_TYPE),
    asset!("/console-boards.js", "console-boards.js", SCRIPT_TYPE),
    asset!("/console-find.js", "console-find.js", SCRIPT_TYPE),
    asset!("/console-rank.js", "console-rank.js", SCRIPT_TYPE),
    asset!("/console-theme.js", "console-theme.js", SCRIPT_TYPE),
    asset!("/console-depth.js", "console-depth.js", SCRIPT_TYPE),
    asset!("/console-row.js", "console-row.js", SCRIPT_TYPE),
    asset!("/console-window.js", "console-window.js", SCRIPT_TYPE),
    asset!("/console-ranking.js", "console-ranking.js", SCRIPT_TYPE),
    asset!("/console-readers.js", "console-readers.js", SCRIPT_TYPE),
    asset!("/console-sample.js", "console-sample.js", SCRIPT_TYPE),
    asset!("/console-state.js", "console-state.js", SCRIPT_TYPE),
    asset!("/liverank.js", "liverank.js", SCRIPT_TYPE),
    asset!("/console-session.js", "console-session.js", SCRIPT_TYPE),
    asset!("/console-format.js", "console-format.js", SCRIPT_TYPE),
    asset!("/console-moderation.js", "console-moderation.js", SCRIPT_TYPE),
    asset!("/console-reports.js", "console-reports.js", SCRIPT_TYPE),
    asset!("/console-held.js", "console-held.js", SCRIPT_TYPE),
    asset!("/console-audit.js", "console-audit.js", SCRIPT_TYPE),
    asset!("/console-paged.js", "console-paged.js", SCRIPT_TYPE),
    asset!("/console-pins.js", "console-pins.js", SCRIPT_TYPE),
    asset!("/console-reply.js", "console-reply.js", SCRIPT_TYPE),
    asset!("/console-operate.js", "console-operate.js", SCRIPT_TYPE),
    asset!("/console-operate-chart.js", "console-operate-chart.js", SCRIPT_TYPE),
    asset!("/console-operate-moves.js", "console-operate-moves.js", SCRIPT_TYPE),
    asset!("/console-operate-what-if.js", "console-operate-what-if.js", SCRIPT_TYPE),
    asset!("/console-operate.css", "console-operate.css", STYLE_TYPE),
    asset!("/vendor/uplot.js", "vendor/uplot.js", SCRIPT_TYPE),
    asset!("/vendor/uplot.css", "vendor/uplot.css", STYLE_TYPE),
    asset!("/vendor/uplot.LICENSE", "vendor/uplot.LICENSE", TEXT_TYPE),
    asset!("/docs", "docs.html", HTML_TYPE),
    asset!("/docs.js", "docs.js", SCRIPT_TYPE),
    asset!("/docs.css", "docs.css", STYLE_TYPE),
    asset!("/console.css", "console.css", STYLE_TYPE),
    asset!("/favicon.svg", "favicon.svg", IMAGE_TYPE),
];

/// The content security policy of the pages: they may load and connect to their own origin only, and have no inline
/// scripts.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

impl PageFile {
    /// Returns the route that serves the file.
    pub(crate) fn route<S: Clone + Send + Sync + 'static>(&'static self) -> MethodRouter<S> {
        let mut hash = DefaultHasher::new();
        self.content.hash(&mut hash);
        let tag = HeaderValue::from_str(&format!("\"{:016x}\"", hash.finish()))
            .expect("hexadecimal digits make a header value");
        get(move |headers: HeaderMap| std::future::ready(self.asset_response(&tag, &headers)))
    }

    fn asset_response(&'static self, tag: &HeaderValue, request: &HeaderMap) -> Response {
        let mut response = if client_has_version(request, tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.content_type)], self.content).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag.clone());
        // A new release is shown at the next load of the page; until then, each load costs a 304.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// Returns true if the client has this version of the file already (`If-None-Match`).
fn client_has_version(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = tag.as_bytes();
    request.get_all(header::IF_NONE_MATCH).iter().any(|given| {
        let mut candidates = given.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        candidates.any(|given| given == b"*" || given.strip_prefix(b"W/").unwrap_or(given) == tag)
    })
}
