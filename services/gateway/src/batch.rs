//! `POST /interactions`: many interactions in one request, each with a status of its own, in order.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use liverank_core::{Invalid, json};
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, body, one_line};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Gateway;
use crate::auth::Caller;
use crate::interact::{append, check_taking_back, is_beacon, read, too_many};
use crate::metrics::AppendOutcome;

/// The most interactions of one request: all of them are in flight in the log at once.
const MAX_ITEMS: usize = 1000;
/// The largest request: a thousand interactions of a usual size, several times over.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// What the smallest batch counts as: its answer and its buffers take up something, too.
const MIN_COUNTED_BYTES: usize = 4 * 1024;
/// Interactions that are begun in one turn of a thread of the runtime: half a millisecond of work. A thousand at once took
/// tens of milliseconds, in which nobody else was answered.
const ITEMS_A_TURN: usize = 32;

/// How the items are written, in the request and in the answer.
#[derive(Clone, Copy)]
enum BatchFormat {
    /// A JSON array.
    Array,
    /// A JSON object a line.
    Lines,
}

/// The outcome of one item of a batch.
#[derive(Debug, Serialize)]
struct ItemOutcome {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// `POST /interactions`.
pub(crate) async fn post_batch(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let format =
        if is_beacon(&gateway, &parts.headers) { BatchFormat::Array } else { parse_format(&parts.headers)? };
    let body = body::read(&parts.headers, body, MAX_BYTES).await?;
    // Not before the body is whole: who sends slowly must not keep others waiting. What it sends is counted as it comes.
    let bytes = body.len().max(MIN_COUNTED_BYTES) as u32;
    let Ok(place) = Arc::clone(&gateway.batches).try_acquire_many_owned(bytes) else {
        return Err(too_many());
    };
    exchange.keep_until_answered(place);
    let items = split_items(format, &body)?;
    gateway.limits.events(&caller, &exchange, items.len())?;
    let outcomes: Vec<ItemOutcome> = in_turns(items)
        .map(|item| take_item(&gateway, &caller, &exchange, item))
        .buffered(MAX_ITEMS)
        .collect()
        .await;
    Ok(batch_response(format, &outcomes))
}

/// The items in order; after every [`ITEMS_A_TURN`] of them whoever waits for the thread comes first.
fn in_turns<T>(items: Vec<T>) -> impl Stream<Item = T> {
    stream::iter(items).enumerate().then(|(at, item)| async move {
        if at > 0 && at.is_multiple_of(ITEMS_A_TURN) {
            tokio::task::yield_now().await;
        }
        item
    })
}

fn parse_format(headers: &HeaderMap) -> Result<BatchFormat, Problem> {
    match body::content_type(headers).as_deref() {
        None | Some("application/json") => Ok(BatchFormat::Array),
        Some("application/x-ndjson") => Ok(BatchFormat::Lines),
        Some(other) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "content type {other:?} is not taken here: send application/json or application/x-ndjson"
            ),
        )),
    }
}

/// The text of each item. What is in them is not looked at yet: that is most of the work, and is not done for who sends too
/// much, nor for all of them at once.
fn split_items(format: BatchFormat, text: &Bytes) -> Result<Vec<Bytes>, Problem> {
    let items: Vec<&[u8]> = match format {
        BatchFormat::Array => {
            let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(text) else {
                // It is no JSON, which says where; or no array.
                body::parse_json_body(text)?;
                return Err(Invalid::new("body", "must be a JSON array").into());
            };
            items.into_iter().map(|item| item.get().as_bytes()).collect()
        }
        BatchFormat::Lines => text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .take(MAX_ITEMS + 1)
            .collect(),
    };
    if items.len() > MAX_ITEMS {
        let detail = format!("more than {MAX_ITEMS} interactions: send them in several requests");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(items.into_iter().map(|item| text.slice_ref(item)).collect())
}

async fn take_item(
    gateway: &Gateway,
    caller: &Caller,
    exchange: &RequestExchange,
    item: Bytes,
) -> ItemOutcome {
    let failed = |status: StatusCode, field, error: String| ItemOutcome {
        status: status.as_u16(),
        event_id: None,
        field,
        error: Some(error),
    };
    match json::parse(&item).and_then(read) {
        Err(invalid) => {
            gateway.metrics.interaction(AppendOutcome::Invalid);
            failed(StatusCode::BAD_REQUEST, Some(invalid.field), invalid.to_string())
        }
        Ok(mut event) => {
            if let Err(problem) = caller.judge(&mut event) {
                return failed(problem.status(), Some("user_id"), problem.detail().to_owned());
            }
            if let Err(invalid) = check_taking_back(gateway, &event).await {
                gateway.metrics.interaction(AppendOutcome::Invalid);
                return failed(StatusCode::BAD_REQUEST, Some(invalid.field), invalid.to_string());
            }
            if let Err(problem) = gateway.new_videos.admit(gateway, caller, exchange, &event.video_id).await {
                return failed(problem.status(), Some("video_id"), problem.detail().to_owned());
            }
            match append(gateway, &event).await {
                Ok(event_id) => {
                    let status = StatusCode::ACCEPTED.as_u16();
                    ItemOutcome { status, event_id: Some(event_id), field: None, error: None }
                }
                Err(problem) => {
                    let field = (problem.status() == StatusCode::CONFLICT).then_some("event_id");
                    failed(problem.status(), field, problem.detail().to_owned())
                }
            }
        }
    }
}

fn batch_response(format: BatchFormat, outcomes: &[ItemOutcome]) -> Response {
    match format {
        BatchFormat::Array => Json(outcomes).into_response(),
        BatchFormat::Lines => {
            let mut text = String::with_capacity(outcomes.len() * 64);
            for outcome in outcomes {
                text.push_str(&one_line::to_json_line(outcome));
                text.push('\n');
            }
            ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[test]
    fn empty_lines_are_skipped_and_an_invalid_line_is_one_bad_item() {
        let found =
            split_items(BatchFormat::Lines, &Bytes::from_static(b"{\"a\":1}\r\n\n nope\n[]")).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(json::parse(&found[1]).unwrap_err().field, "body");
        assert!(split_items(BatchFormat::Lines, &Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn a_batch_may_have_a_thousand_items() {
        let lines = |count: usize| "{}\n".repeat(count);
        assert_eq!(split_items(BatchFormat::Lines, &lines(MAX_ITEMS).into()).unwrap().len(), MAX_ITEMS);
        let refused = split_items(BatchFormat::Lines, &lines(MAX_ITEMS + 1).into()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let array = format!("[{}]", vec!["{}"; MAX_ITEMS + 1].join(","));
        let refused = split_items(BatchFormat::Array, &array.into()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn a_number_beyond_f64_fails_one_item() {
        for (format, text) in [
            (BatchFormat::Array, r#"[{"watch_time":1e400},{}]"#),
            (BatchFormat::Lines, "{\"watch_time\":1e400}\n{}"),
        ] {
            let found = split_items(format, &text.into()).unwrap();
            assert_eq!(json::parse(&found[0]).unwrap_err().field, "watch_time");
            assert!(json::parse(&found[1]).is_ok());
        }
    }

    #[tokio::test]
    async fn others_have_a_turn_between_the_items_of_a_batch() {
        let mut items = std::pin::pin!(in_turns((0..1000).collect::<Vec<_>>()));
        let (mut taken, mut longest, mut in_a_row) = (Vec::new(), 0, 0);
        loop {
            match futures::poll!(items.next()) {
                Poll::Ready(Some(item)) => {
                    taken.push(item);
                    in_a_row += 1;
                    longest = in_a_row.max(longest);
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert_eq!(taken, (0..1000).collect::<Vec<_>>());
        assert_eq!(longest, ITEMS_A_TURN);
    }

    #[test]
    fn a_json_batch_must_be_an_array() {
        assert_eq!(
            split_items(BatchFormat::Array, &Bytes::from_static(b"{}")).unwrap_err().status(),
            StatusCode::BAD_REQUEST
        );
        assert_eq!(
            split_items(BatchFormat::Array, &Bytes::from_static(b"[")).unwrap_err().status(),
            StatusCode::BAD_REQUEST
        );
    }
}
