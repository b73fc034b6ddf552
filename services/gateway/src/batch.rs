//! `POST /interactions`: many interactions in one request. The answer has a status for each interaction, in the order
//! of the request.

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
use crate::interact::{
    append_interaction, check_can_be_taken_back, is_beacon, parse_interaction, reserve_places_in,
};
use crate::metrics::AppendOutcome;

/// Maximum number of interactions in one request: all of them are in flight in the log at once.
const MAX_ITEMS: usize = 1000;
/// Maximum size of a request in bytes: several times the size of a thousand usual interactions.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// Minimum number of bytes that a batch counts against the limit of batches in flight, because its answer and its
/// buffers take memory too.
const MIN_COUNTED_BYTES: usize = 4 * 1024;
/// Number of interactions that are processed before other tasks of the runtime's thread have their turn: half a
/// millisecond of work. Processing a thousand interactions at once took tens of milliseconds, in which no other request
/// was answered.
const ITEMS_A_TURN: usize = 32;

/// The format of the interactions in the request, and of their outcomes in the answer.
#[derive(Clone, Copy)]
enum BatchFormat {
    /// A JSON array.
    Array,
    /// JSON objects, one a line.
    Lines,
}

/// The outcome of one interaction of a batch, as the answer shows it.
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

/// Answers `POST /interactions`.
pub(crate) async fn post_batch(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let format =
        if is_beacon(&gateway, &parts.headers) { BatchFormat::Array } else { parse_format(&parts.headers)? };
    let body = body::read_body(&parts.headers, body, MAX_BYTES).await?;
    // The batch claims its memory only once its body is whole, so that a slow sender does not keep others waiting. The
    // bytes of the body are counted elsewhere as they arrive.
    reserve_places_in(&gateway.batch_room, &exchange, body.len().max(MIN_COUNTED_BYTES))?;
    let items = split_items(format, &body)?;
    gateway.limits.count_events(&caller, &exchange, items.len())?;
    let outcomes: Vec<ItemOutcome> = yielding_stream(items)
        .map(|item| append_item(&gateway, &caller, &exchange, item))
        .buffered(MAX_ITEMS)
        .collect()
        .await;
    Ok(batch_response(format, &outcomes))
}

/// Returns a stream of the items in order, which yields to other tasks after every [`ITEMS_A_TURN`] items.
fn yielding_stream<T>(items: Vec<T>) -> impl Stream<Item = T> {
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

/// Splits the request into the texts of its items. The items are not parsed yet: parsing is most of the work, and is
/// neither done for a request with too many items, nor for all items at once.
fn split_items(format: BatchFormat, text: &Bytes) -> Result<Vec<Bytes>, Problem> {
    let items: Vec<&[u8]> = match format {
        BatchFormat::Array => {
            let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(text) else {
                // The body is not valid JSON, in which case the error tells the place; or it is not an array.
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

async fn append_item(
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
    match json::parse(&item).and_then(parse_interaction) {
        Err(invalid) => {
            gateway.metrics.count_interaction(AppendOutcome::Invalid);
            failed(StatusCode::BAD_REQUEST, Some(invalid.field), invalid.to_string())
        }
        Ok(mut event) => {
            if let Err(problem) = caller.check_event(&mut event) {
                return failed(problem.status(), Some("user_id"), problem.detail().to_owned());
            }
            if let Err(invalid) = check_can_be_taken_back(gateway, &event).await {
                gateway.metrics.count_interaction(AppendOutcome::Invalid);
                return failed(StatusCode::BAD_REQUEST, Some(invalid.field), invalid.to_string());
            }
            if let Err(problem) =
                gateway.new_video_limits.admit(gateway, caller, exchange, &event.video_id).await
            {
                return failed(problem.status(), Some("video_id"), problem.detail().to_owned());
            }
            match append_interaction(gateway, &event).await {
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
        let mut items = std::pin::pin!(yielding_stream((0..1000).collect::<Vec<_>>()));
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
