//! The PROXY protocol, versions 1 and 2: the header by which a TCP balancer names the client, before any other byte.
//!
//! The header is expected on connections from configured balancers (`--proxy-protocol-from`), and must be there. On all
//! other connections it is refused as invalid HTTP, so nobody else can forge the address of a client.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The twelve bytes with which a header of version 2 begins. Twelve bytes are read first for version 1, too, whose
/// shortest header has 15 bytes.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1 with its line break, in bytes, by the specification.
const MAX_V1_HEADER_BYTES: usize = 107;
/// The longest part of variable length in a header of version 2, in bytes: the addresses, and what balancers add (TLS,
/// the name of an endpoint), take some hundred bytes.
const MAX_V2_VARIABLE_PART_BYTES: usize = 4096;

/// The client that a balancer's header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxiedSource {
    /// The address of the client for which the balancer opened the connection.
    Client(SocketAddr),
    /// No client: the balancer checks the port itself, or does not know the client's address.
    Unknown,
}

/// Reads a header, and no byte after it.
///
/// # Errors
/// The connection does not begin with a header, or the header is malformed.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<ProxiedSource> {
    let mut start = [0; V2_SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == V2_SIGNATURE {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if length > MAX_V2_VARIABLE_PART_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return parse_v2(head[0], head[1], &rest).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_V1_HEADER_BYTES || !line.starts_with(b"PROXY ") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // One byte at a time, because the next byte may be the client's.
        line.push(stream.read_u8().await?);
    }
    parse_v1(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Parses a header of version 1 with its line break. Returns `None` if the line is no such header.
fn parse_v1(line: &[u8]) -> Option<ProxiedSource> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    let (is_v4, words) = match words.next()? {
        // The specification allows any text after `UNKNOWN`.
        "UNKNOWN" => return Some(ProxiedSource::Unknown),
        "TCP4" => (true, words),
        "TCP6" => (false, words),
        _ => return None,
    };
    let words: Vec<&str> = words.collect();
    let [source, destination, port, to_port] = words[..] else { return None };
    let address = |text: &str| text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == is_v4);
    address(destination)?;
    to_port.parse::<u16>().ok()?;
    Some(ProxiedSource::Client(SocketAddr::new(address(source)?, port.parse().ok()?)))
}

/// Parses the part of a version 2 header after the signature. Returns `None` if that part is malformed.
fn parse_v2(version_and_command: u8, family: u8, rest: &[u8]) -> Option<ProxiedSource> {
    match version_and_command {
        // A connection that the balancer opened for itself (`LOCAL`).
        0x20 => return Some(ProxiedSource::Unknown),
        0x21 => {}
        _ => return None,
    }
    match family {
        0x11 => {
            let (source, rest) = rest.split_first_chunk::<4>()?;
            let (_, ports) = rest.split_first_chunk::<4>()?;
            Some(ProxiedSource::Client(SocketAddr::new(Ipv4Addr::from(*source).into(), source_port(ports)?)))
        }
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>()?;
            let (_, ports) = rest.split_first_chunk::<16>()?;
            Some(ProxiedSource::Client(SocketAddr::new(Ipv6Addr::from(*source).into(), source_port(ports)?)))
        }
        // Another transport than TCP, or a source without an address.
        _ => Some(ProxiedSource::Unknown),
    }
}

/// Returns the source's port from the ports of a version 2 header, where the destination's port follows.
fn source_port(ports: &[u8]) -> Option<u16> {
    let ([high, low, _, _], _) = ports.split_first_chunk()?;
    Some(u16::from_be_bytes([*high, *low]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use liverank_protocol::access::CalledService;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::server::RequestExchange;
    use crate::{HttpSettings, ServiceContext, server};

    /// Returns the result of reading a header from these bytes, and the number of bytes left after it.
    fn read_of(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read_header(&mut rest));
        let read = read.map(|source| match source {
            ProxiedSource::Client(address) => Some(address.to_string()),
            ProxiedSource::Unknown => None,
        });
        (read.map_err(|error| error.kind()), rest.len())
    }

    fn concat_bytes(head: &[u8], rest: &[u8]) -> Vec<u8> {
        [&V2_SIGNATURE, head, &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn both_proxy_protocol_versions_are_read_and_nothing_beyond() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80, 3, 0, 4, 1, 2, 3, 4];
        let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 9, 0, 80]]
            .concat();
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(), Some("192.0.2.7:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 9 80\r\n".to_vec(), Some("[2001:db8::1]:9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (concat_bytes(&[0x21, 0x11], &v4), Some("192.0.2.7:4660")),
            (concat_bytes(&[0x21, 0x21], &v6), Some("[2001:db8::1]:9")),
            (concat_bytes(&[0x20, 0x00], &[]), None),
            (concat_bytes(&[0x21, 0x31], &[7; 216]), None),
        ] {
            let request = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read_of(&request), (Ok(source.map(str::to_owned)), 16), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn an_invalid_proxy_protocol_header_is_refused() {
        for wrong in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 70000 80\r\n".to_vec(),
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 80\r\n".to_vec(),
            b"PROXY TCP9 192.0.2.7 10.0.0.1 1 80\r\n".to_vec(),
            [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
            concat_bytes(&[0x11, 0x11], &[0; 12]),
            concat_bytes(&[0x22, 0x11], &[0; 12]),
            concat_bytes(&[0x21, 0x11], &[0; 11]),
            concat_bytes(&[0x21, 0x21], &[0; 35]),
            concat_bytes(&[0x21, 0x11], &[0; MAX_V2_VARIABLE_PART_BYTES + 1]),
        ] {
            assert_eq!(read_of(&wrong).0, Err(io::ErrorKind::InvalidData), "{}", wrong.escape_ascii());
        }
        for short in
            [&b"PROXY TC"[..], &b"PROXY TCP4 1.2.3"[..], &concat_bytes(&[0x21, 0x11], &[0; 12])[..20]]
        {
            assert_eq!(read_of(short).0, Err(io::ErrorKind::UnexpectedEof));
        }
    }

    /// Returns the answer to these bytes of a server that expects the PROXY protocol from the addresses `believed`.
    async fn server_answer(believed: &str, bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let proxy_protocol_from = Arc::from([believed.parse().unwrap()]);
        let shell = ServiceContext {
            http_settings: HttpSettings { proxy_protocol_from, ..HttpSettings::default() },
            ..ServiceContext::new(Duration::from_secs(5))
        };
        let router = Router::new()
            .route("/me", get(|exchange: RequestExchange| async move { exchange.client().to_string() }));
        let served = shell.clone();
        let serving = tokio::spawn(async move {
            server::serve_until_shutdown(CalledService::Gateway, listener, router, &served).await
        });
        client.write_all(bytes).await.unwrap();
        let mut text = String::new();
        // Bytes that the server did not read turn its close into a reset.
        let _ = client.read_to_string(&mut text).await;
        shell.shutdown.cancel();
        serving.await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn only_listed_balancers_may_name_the_client() {
        const EXAMPLE_REQUEST: &str = "GET /me HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        let told = format!("PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n{EXAMPLE_REQUEST}");
        assert!(server_answer("127.0.0.0/8", told.as_bytes()).await.ends_with("192.0.2.7"));
        let checks = [&concat_bytes(&[0x20, 0x00], &[])[..], EXAMPLE_REQUEST.as_bytes()].concat();
        assert!(server_answer("127.0.0.0/8", &checks).await.ends_with("127.0.0.1"), "the balancer itself");
        assert_eq!(server_answer("127.0.0.0/8", EXAMPLE_REQUEST.as_bytes()).await, "", "it has to be there");
        let stranger = server_answer("10.0.0.0/8", told.as_bytes()).await;
        assert!(stranger.starts_with("HTTP/1.1 400") && !stranger.contains("192.0.2.7"), "{stranger}");
        assert!(server_answer("10.0.0.0/8", EXAMPLE_REQUEST.as_bytes()).await.ends_with("127.0.0.1"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_as_a_header(
            signed in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let start: &[u8] = if signed { &V2_SIGNATURE } else { b"PROXY TCP4 " };
            let _ = read_of(&bytes);
            let _ = read_of(&[start, &bytes].concat());
        }
    }
}
