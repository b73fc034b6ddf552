//! Parses a stream of server-sent events over HTTP/1.1 from bytes to events: no I/O, and no more memory than one event
//! takes.

/// The longest line of a head, chunk size or event, in bytes: several times a comment of 4,096 characters, escaped.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The error of a response that is no stream of server-sent events, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GarbledStream(pub &'static str);

/// One event, or one comment line, of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// The type of the event; empty for an ordinary message.
    pub event_type: String,
    /// The id that this event sets; `None` if it sets none.
    pub id: Option<String>,
    /// The data of the event.
    pub data: String,
    /// The time after which the client is asked to reconnect, in milliseconds; `None` if the event does not say.
    pub retry: Option<u64>,
    /// The text of a comment line. Here a comment line is an event of its own, because readers report gaps to clients
    /// that use POST in comment lines.
    pub comment_line: Option<String>,
}

/// The state of the parser within the HTTP response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyFraming {
    /// In the head of the response, so that the framing is not known yet.
    Head,
    /// The parser is before a chunk, whose size comes next.
    ChunkSize,
    /// Within a chunk; the number of its bytes that are still to come.
    Chunk(u64),
    /// After the data of a chunk: an empty line comes next.
    ChunkEnd,
    /// Within a body that ends with the connection.
    UntilClose,
    /// The parser is after the last chunk: the response is over.
    Over,
}

/// The parser of one response and the stream in it.
#[derive(Debug)]
pub struct EventStream {
    framing: BodyFraming,
    is_chunked: bool,
    status: u16,
    /// The incomplete line of the head or of a chunk size.
    frame_line: Vec<u8>,
    event_line: Vec<u8>,
    event: ServerSentEvent,
    has_data: bool,
    /// The header `Location`, the address to which a redirect leads.
    pub location: Option<String>,
}

impl Default for EventStream {
    fn default() -> Self {
        Self {
            framing: BodyFraming::Head,
            is_chunked: false,
            status: 0,
            frame_line: Vec::new(),
            event_line: Vec::new(),
            event: ServerSentEvent::default(),
            has_data: false,
            location: None,
        }
    }
}

impl EventStream {
    /// Returns the response's status; `None` before the head is complete.
    pub fn status(&self) -> Option<u16> {
        (self.framing != BodyFraming::Head).then_some(self.status)
    }

    /// Returns true if the response ended with its last chunk.
    pub fn is_over(&self) -> bool {
        self.framing == BodyFraming::Over
    }

    /// Parses the next bytes, and calls `each` with every event that is complete.
    pub fn push_bytes(
        &mut self,
        mut bytes: &[u8],
        each: &mut impl FnMut(ServerSentEvent),
    ) -> Result<(), GarbledStream> {
        while !bytes.is_empty() {
            match self.framing {
                BodyFraming::Head | BodyFraming::ChunkSize | BodyFraming::ChunkEnd => {
                    let Some(rest) = append_to_line(&mut self.frame_line, bytes)? else { return Ok(()) };
                    bytes = rest;
                    let line = std::mem::take(&mut self.frame_line);
                    self.handle_frame_line(&String::from_utf8_lossy(&line))?;
                }
                BodyFraming::Chunk(left) => {
                    let some = left.min(bytes.len() as u64) as usize;
                    self.feed_event_bytes(&bytes[..some], each)?;
                    bytes = &bytes[some..];
                    let left = left - some as u64;
                    self.framing = if left == 0 { BodyFraming::ChunkEnd } else { BodyFraming::Chunk(left) };
                }
                BodyFraming::UntilClose => {
                    self.feed_event_bytes(bytes, each)?;
                    return Ok(());
                }
                BodyFraming::Over => return Ok(()),
            }
        }
        Ok(())
    }

    /// Handles a complete line of the head, or between two chunks.
    fn handle_frame_line(&mut self, line: &str) -> Result<(), GarbledStream> {
        match self.framing {
            BodyFraming::Head => self.handle_head_line(line),
            BodyFraming::ChunkSize => {
                let size = line.split(';').next().unwrap_or_default().trim();
                let size =
                    u64::from_str_radix(size, 16).map_err(|_| GarbledStream("a chunk without a size"))?;
                self.framing = if size == 0 { BodyFraming::Over } else { BodyFraming::Chunk(size) };
                Ok(())
            }
            _ if line.is_empty() => {
                self.framing = BodyFraming::ChunkSize;
                Ok(())
            }
            _ => Err(GarbledStream("a chunk longer than its size")),
        }
    }

    fn handle_head_line(&mut self, line: &str) -> Result<(), GarbledStream> {
        if self.status == 0 {
            let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
            self.status =
                status.and_then(|text| text.parse().ok()).ok_or(GarbledStream("no HTTP/1 response"))?;
        } else if line.is_empty() {
            self.framing = if self.is_chunked { BodyFraming::ChunkSize } else { BodyFraming::UntilClose };
        } else if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("transfer-encoding") {
                self.is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("location") {
                self.location = Some(value.trim().to_owned());
            }
        }
        Ok(())
    }

    fn feed_event_bytes(
        &mut self,
        mut bytes: &[u8],
        each: &mut impl FnMut(ServerSentEvent),
    ) -> Result<(), GarbledStream> {
        while let Some(rest) = append_to_line(&mut self.event_line, bytes)? {
            bytes = rest;
            let line = std::mem::take(&mut self.event_line);
            self.handle_event_line(&String::from_utf8_lossy(&line), each);
        }
        Ok(())
    }

    fn handle_event_line(&mut self, line: &str, each: &mut impl FnMut(ServerSentEvent)) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // By the specification there is no event without data, but an id or a time to reconnect alone still matters
            // here.
            if std::mem::take(&mut self.has_data) || event.id.is_some() || event.retry.is_some() {
                each(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => {
                each(ServerSentEvent { comment_line: Some(value.to_owned()), ..ServerSentEvent::default() });
            }
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.event_type),
            "retry" => self.event.retry = value.parse().ok(),
            _ => {}
        }
    }
}

/// Appends bytes to `line` up to the end of the line. Returns the bytes after the line, and `line` without its line
/// break; `None` if the line is not complete yet.
fn append_to_line<'a>(line: &mut Vec<u8>, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, GarbledStream> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        line.extend_from_slice(bytes);
        return if line.len() > MAX_LINE_BYTES {
            Err(GarbledStream("a line without an end"))
        } else {
            Ok(None)
        };
    };
    line.extend_from_slice(&bytes[..end]);
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(&bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE_HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    const EXAMPLE_EVENTS: &str = "retry: 1500\nid: n-0\ndata: {\"type\":\"connected\"}\n\n:\n\nid: n-1\ndata: {\"a\":\ndata: \"ü\"}\n\nevent: gap\nid: n-9\ndata: {}\n\n: gap from=3 to=9\n\n";

    fn chunked_example(cuts: usize) -> Vec<u8> {
        let mut bytes = EXAMPLE_HEAD.as_bytes().to_vec();
        for chunk in EXAMPLE_EVENTS.as_bytes().chunks(cuts) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    fn read_in_pieces(bytes: &[u8], pieces: usize) -> (EventStream, Vec<ServerSentEvent>) {
        let (mut stream, mut events) = (EventStream::default(), Vec::new());
        for piece in bytes.chunks(pieces) {
            stream.push_bytes(piece, &mut |event| events.push(event)).unwrap();
        }
        (stream, events)
    }

    fn expected_events() -> Vec<ServerSentEvent> {
        let id = |id: &str| Some(id.to_owned());
        let remark =
            |text: &str| ServerSentEvent { comment_line: Some(text.into()), ..ServerSentEvent::default() };
        vec![
            ServerSentEvent {
                id: id("n-0"),
                data: "{\"type\":\"connected\"}".into(),
                retry: Some(1500),
                ..ServerSentEvent::default()
            },
            remark(""),
            ServerSentEvent { id: id("n-1"), data: "{\"a\":\n\"ü\"}".into(), ..ServerSentEvent::default() },
            ServerSentEvent {
                event_type: "gap".into(),
                id: id("n-9"),
                data: "{}".into(),
                ..ServerSentEvent::default()
            },
            remark("gap from=3 to=9"),
        ]
    }

    proptest! {
        #[test]
        fn events_are_parsed_however_the_bytes_are_cut(cuts in 1usize..200, pieces in 1usize..300) {
            let (stream, events) = read_in_pieces(&chunked_example(cuts), pieces);
            prop_assert_eq!(events, expected_events());
            prop_assert_eq!((stream.status(), stream.is_over()), (Some(200), true));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut stream = EventStream::default();
            let _ = stream.push_bytes(EXAMPLE_HEAD.as_bytes(), &mut |_| ());
            let _ = stream.push_bytes(&bytes, &mut |_| ());
        }
    }

    #[test]
    fn a_plain_body_goes_to_the_end_of_the_connection() {
        let bytes = [b"HTTP/1.1 200 OK\r\n\r\n", EXAMPLE_EVENTS.as_bytes()].concat();
        let (stream, events) = read_in_pieces(&bytes, 7);
        assert_eq!(events, expected_events());
        assert!(!stream.is_over());
    }

    #[test]
    fn a_redirect_says_where_to() {
        let (stream, _) =
            read_in_pieces(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://r2/connect\r\n\r\n", 5);
        assert_eq!((stream.status(), stream.location.as_deref()), (Some(307), Some("http://r2/connect")));
    }

    #[test]
    fn a_garbled_stream_is_an_error() {
        let feed = |bytes: &[u8]| EventStream::default().push_bytes(bytes, &mut |_| ());
        assert!(feed(b"SSH-2.0\r\n").is_err());
        assert!(feed(&[EXAMPLE_HEAD.as_bytes(), b"zz\r\n"].concat()).is_err());
        assert!(feed(&[EXAMPLE_HEAD.as_bytes(), b"1\r\nabc\r\n"].concat()).is_err());
        assert!(feed(&vec![b'x'; MAX_LINE_BYTES + 1]).is_err());
    }
}
