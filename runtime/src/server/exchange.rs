//! One request and its answer: the client's address, and the resources that are held until the last byte of the answer
//! has been given to the connection.
//!
//! The resources of a request (bytes of its body, a place in a queue, the answer itself) are not free again when its
//! handler returns, because the answer may be long and its reader slow. So everything that is
//! [held](RequestExchange::keep_until_answered) here is released when the whole body of the answer has been given to
//! the connection, or the connection is gone.

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::hijack::Socket;
use crate::free_shares::{CallerShare, CallerUnitPool};
use crate::http_args::HttpSettings;

/// The header in which proxies write the address of their client.
const FORWARDED_HEADER: &str = "x-forwarded-for";

/// One request and its answer. Cheap to clone: all clones are the same request.
#[derive(Clone)]
pub struct RequestExchange(Arc<ExchangeInner>);

struct ExchangeInner {
    client: IpAddr,
    /// The last address of the header of proxies: that of the client, if one of our gateways sent the request.
    named_client: Option<IpAddr>,
    /// Whether one of our gateways sent the request, as its token says.
    is_from_gateway: AtomicBool,
    held_resources: Mutex<HeldResources>,
    socket: Option<Socket>,
}

struct HeldResources {
    upload_share: CallerShare,
    resources: Vec<Box<dyn Any + Send>>,
}

impl RequestExchange {
    pub(super) fn new(
        peer: SocketAddr,
        headers: &HeaderMap,
        settings: &HttpSettings,
        socket: Socket,
    ) -> Self {
        let client = client_behind_proxies(peer.ip(), headers, settings.trusted_proxies);
        Self::from_parts(
            client,
            forwarded_addresses(headers).next().flatten(),
            &settings.upload_room,
            Some(socket),
        )
    }

    fn from_parts(
        client: IpAddr,
        named_client: Option<IpAddr>,
        uploads: &CallerUnitPool,
        socket: Option<Socket>,
    ) -> Self {
        let held = HeldResources { upload_share: uploads.empty_share(client), resources: Vec::new() };
        let (is_from_gateway, held_resources) = (AtomicBool::new(false), Mutex::new(held));
        Self(Arc::new(ExchangeInner { client, named_client, is_from_gateway, held_resources, socket }))
    }

    /// Returns the address of the client, as far as it can be known: see `--trusted-proxies`, and
    /// [`Self::note_sent_by_gateway`].
    pub fn client(&self) -> IpAddr {
        let named = self.0.named_client.filter(|_| self.0.is_from_gateway.load(Ordering::Relaxed));
        named.unwrap_or(self.0.client)
    }

    /// Notes that one of our gateways sent the request, as its token says: the client is then the one that the gateway
    /// names ([`Self::set_forwarded_header`]).
    pub fn note_sent_by_gateway(&self) {
        self.0.is_from_gateway.store(true, Ordering::Relaxed);
    }

    /// Sets `X-Forwarded-For`, in the headers of a request that a gateway sends for this one, to the address of this
    /// request's client only.
    pub fn set_forwarded_header(&self, headers: &mut HeaderMap) {
        headers.remove(FORWARDED_HEADER);
        if let Ok(client) = HeaderValue::try_from(self.client().to_string()) {
            headers.insert(FORWARDED_HEADER, client);
        }
    }

    /// Keeps `place` until the last byte of the answer has been given to the connection, then drops it.
    pub fn keep_until_answered(&self, place: impl Send + 'static) {
        self.lock_held().resources.push(Box::new(place));
    }

    /// Reserves `bytes` more for the request's body; returns `false` if the client already holds its share.
    pub(super) fn reserve_upload_bytes(&self, bytes: usize) -> bool {
        self.lock_held().upload_share.try_take_units(bytes)
    }

    /// Completes when the client has shut down its sending side. The client may be gone, or may still read: only a
    /// write can tell.
    pub async fn client_closed_sending(&self) {
        match &self.0.socket {
            Some(socket) => socket.peer_closed_sending().await,
            None => std::future::pending().await,
        }
    }

    fn lock_held(&self) -> std::sync::MutexGuard<'_, HeldResources> {
        self.0.held_resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exchange of a request that did not come by this server, as in tests: its client is unknown, and held resources
/// are released when the handler returns.
impl Default for RequestExchange {
    fn default() -> Self {
        Self::from_parts(Ipv4Addr::LOCALHOST.into(), None, &HttpSettings::default().upload_room, None)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestExchange {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Returns the address of the client behind `proxies` trusted proxies. Each proxy appends the address of its own client
/// to the list; entries before those can be forged.
fn client_behind_proxies(peer: IpAddr, headers: &HeaderMap, proxies: u8) -> IpAddr {
    let mut addresses = forwarded_addresses(headers);
    let mut client = peer.to_canonical();
    for _ in 0..proxies {
        // If a proxy's entry cannot be parsed, the last known address is the answer.
        match addresses.next().flatten() {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Returns the addresses in the header of proxies, the last one first; `None` for one that cannot be parsed.
fn forwarded_addresses(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lists = headers.get_all(FORWARDED_HEADER).iter().rev().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.rsplit(',')).map(parse_address)
}

/// Parses an address as proxies write it, with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_seen(lists: &[&'static str], proxies: u8) -> String {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_HEADER, list.parse().unwrap());
        }
        client_behind_proxies("10.0.0.9".parse().unwrap(), &headers, proxies).to_string()
    }

    #[test]
    fn only_forwarded_addresses_of_our_proxies_are_trusted() {
        assert_eq!(client_seen(&["6.6.6.6, 1.2.3.4"], 0), "10.0.0.9");
        assert_eq!(client_seen(&["6.6.6.6, 1.2.3.4"], 1), "1.2.3.4");
        assert_eq!(client_seen(&["6.6.6.6", "1.2.3.4,10.0.0.7"], 2), "1.2.3.4");
        assert_eq!(client_seen(&["1.2.3.4"], 3), "1.2.3.4");
        assert_eq!(client_seen(&[], 1), "10.0.0.9");
        assert_eq!(client_seen(&["1.2.3.4, nonsense"], 2), "10.0.0.9");
    }

    #[test]
    fn the_client_that_a_gateway_names_is_believed_of_gateways_only() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_HEADER, "6.6.6.6".parse().unwrap());
        let outside = RequestExchange::from_parts([192, 0, 2, 1].into(), None, &CallerUnitPool::new(1), None);
        outside.set_forwarded_header(&mut headers);
        assert_eq!(
            headers[FORWARDED_HEADER], "192.0.2.1",
            "what a client says of itself ends at the gateway"
        );
        let named = forwarded_addresses(&headers).next().flatten();
        let inside = RequestExchange::from_parts([10, 0, 0, 9].into(), named, &CallerUnitPool::new(1), None);
        assert_eq!(inside.client().to_string(), "10.0.0.9");
        inside.note_sent_by_gateway();
        assert_eq!(inside.client().to_string(), "192.0.2.1");
    }

    #[test]
    fn forwarded_addresses_may_have_ports_and_brackets() {
        for (written, read) in [
            ("1.2.3.4:5", "1.2.3.4"),
            ("[2001:db8::1]:5", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(client_seen(&[written], 1), read);
        }
    }
}
