//! Requests and streams of clients that come back: what a part that is away for a moment answers (503) is asked for
//! again, and a stream that ends is opened again where it stopped.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::wait;

/// The time limit of what normally takes a moment, on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Sends the request until it is answered with another status than 503, and returns that answer; panics after a minute.
/// The request is sent again as it is, so a post needs an id of its own to count once.
pub async fn answer_of(request: RequestBuilder) -> Response {
    wait::until("an answer other than 503", TIMEOUT, || async {
        let answer = request.try_clone().expect("a body in memory").send().await.ok()?;
        (answer.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await
}

/// Posts a comment at a gateway or a comment service, with a key by which it is accepted once; returns the status code
/// and the JSON of the answer.
pub async fn post_comment(
    client: &Client,
    url: &str,
    user: &str,
    video: &str,
    text: &str,
) -> (StatusCode, Value) {
    let key = format!("{:032x}", rand::random::<u128>());
    let body = json!({"userid": user, "videoid": video, "comment": text, "idempotency_key": key});
    let answer = answer_of(client.post(format!("{url}/comment")).json(&body)).await;
    (answer.status(), answer.json().await.expect("JSON"))
}

/// A stream of comments, read as text by a viewer who comes back.
pub struct TextStream {
    client: Client,
    /// The URL with which the viewer came first.
    url: String,
    response: Response,
    /// All whole events so far, and the part of the last one that has arrived.
    pub text: String,
}

impl TextStream {
    /// Opens the stream at `url`, whose query names the viewer and the video, and reads it until the viewer is greeted.
    /// Just after a start there may be no reader yet; a client tries again then.
    pub async fn open(client: &Client, url: &str) -> Self {
        let response = open(client, url).await;
        let mut stream = Self { client: client.clone(), url: url.to_owned(), response, text: String::new() };
        stream.read_until("\"connected\"").await;
        stream
    }

    /// Reads the stream until this text has arrived; panics after the time limit.
    pub async fn read_until(&mut self, what: &str) {
        self.read_until_there(what, |text| text.contains(what)).await;
    }

    /// Reads the stream until `is_there` accepts what has arrived; panics with `what` after the time limit.
    pub async fn read_until_there(&mut self, what: &str, is_there: impl Fn(&str) -> bool) {
        while !is_there(&self.text) {
            let read = tokio::time::timeout(TIMEOUT, self.read_on()).await;
            read.unwrap_or_else(|_| panic!("{what} does not come after:\n{}", self.text));
        }
    }

    /// Reads what comes next; opens the stream again if it has ended.
    pub async fn read_on(&mut self) {
        match self.response.chunk().await {
            Ok(Some(chunk)) => self.text.push_str(&String::from_utf8_lossy(&chunk)),
            Ok(None) | Err(_) => self.come_back().await,
        }
    }

    /// Opens the stream again after the last whole event.
    async fn come_back(&mut self) {
        let whole = self.text.rfind("\n\n").map_or(0, |end| end + 2);
        self.text.truncate(whole);
        let url = match last_event_id(&self.text) {
            Some(id) => {
                let from_the_start = self.url.split("&last_event_id=").next().unwrap_or_default();
                format!("{from_the_start}&last_event_id={id}")
            }
            None => self.url.clone(),
        };
        self.response = open(&self.client, &url).await;
    }
}

async fn open(client: &Client, url: &str) -> Response {
    wait::until("a stream", TIMEOUT, || async { client.get(url).send().await.ok()?.error_for_status().ok() })
        .await
}

/// Returns the id after which a stream goes on: that of the last event that is no greeting, or of the first greeting. A
/// later greeting has the id of the newest event, and comes before those that were missed.
fn last_event_id(text: &str) -> Option<&str> {
    let has_id = |event: &str| event.lines().any(|line| line.starts_with("id: "));
    let events: Vec<&str> = text.split("\n\n").filter(|event| has_id(event)).collect();
    let last = events.iter().rev().find(|event| !event.contains("\"type\":\"connected\""));
    let event = last.or(events.first())?;
    event.lines().find_map(|line| line.strip_prefix("id: "))
}

#[cfg(test)]
mod tests {
    use super::last_event_id;

    #[test]
    fn a_stream_goes_on_after_the_last_event_that_is_no_later_greeting() {
        let greeting = |id: u64| format!("retry: 20\nid: n1-{id}\ndata: {{\"type\":\"connected\"}}\n\n");
        let comment = |id: u64| format!("id: n1-{id}\ndata: {{\"comment\":\"hello\"}}\n\n");
        assert_eq!(last_event_id(": keep-alive\n\n"), None);
        assert_eq!(last_event_id(&greeting(3)), Some("n1-3"));
        let cut = [greeting(3), comment(4), greeting(9)].concat();
        assert_eq!(last_event_id(&cut), Some("n1-4"));
        assert_eq!(last_event_id(&[cut, comment(5)].concat()), Some("n1-5"));
    }
}
