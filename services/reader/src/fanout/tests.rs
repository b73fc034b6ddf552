use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::{CommentId, ReaderId, UserId, VideoId};
use liverank_runtime::Health;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::Semaphore;

use super::*;
use crate::hub::{ChannelHub, HubSettings};
use crate::metrics::ReaderMetrics;
use crate::sse::StreamForm;
use crate::viewer_zone::ViewerZone;

/// Makes a hub with empty embedded stores.
pub fn hub(ring_length: usize) -> Arc<ChannelHub> {
    let directory = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        id: ReaderId::parse("r").unwrap(),
        capacity: 1000,
        ring_length,
        // Space for as many of the longest comments as any of these tests posts.
        ring_bytes: 64 << 20,
        idle_time: Duration::from_mins(1),
        writes_per_second: None,
    };
    let archive = Arc::new(EmbeddedArchive::open(directory.path()).unwrap());
    ChannelHub::new(
        settings,
        archive,
        Arc::new(EmbeddedBus::new()),
        ReaderMetrics::default(),
        Health::default(),
    )
    .unwrap()
}

fn video() -> VideoId {
    VideoId::parse("v").unwrap()
}

/// Returns both ends of a new connection: the client's and the server's.
fn tcp_pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Joins a new viewer and returns its end of the connection.
fn join_viewer(hub: &Arc<ChannelHub>, listener: &TcpListener, places: &Arc<Semaphore>) -> TcpStream {
    let (client, socket) = tcp_pair(listener);
    join_with_socket(hub, places, socket, None);
    client
}

#[tokio::test]
async fn viewers_and_what_crosses_zones_are_counted_once_a_channel() {
    let hub = hub(10);
    let seat = |zone| hub.add_viewer(&video(), None, zone).unwrap();
    let counts = || ViewerZone::ALL.map(|zone| hub.metrics.viewers_of_zone(zone));
    let seats = [ViewerZone::Same, ViewerZone::Other, ViewerZone::Other, ViewerZone::Unknown].map(seat);
    let channel = Arc::clone(&seats[0].channel);
    assert_eq!((counts(), channel.viewers_of_other_zones()), ([1, 2, 1], 2));
    hub.show_new_comments(&channel, 3);
    assert_eq!(hub.metrics.messages_to_other_zones.get(), 6, "three comments for two viewers");
    drop(seats);
    assert_eq!((counts(), channel.viewers_of_other_zones()), ([0, 0, 0], 0));
    hub.show_new_comments(&channel, 3);
    assert_eq!(hub.metrics.messages_to_other_zones.get(), 6);
}

fn join_with_socket(
    hub: &Arc<ChannelHub>,
    places: &Arc<Semaphore>,
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
) {
    socket.set_nonblocking(true).unwrap();
    let seat = hub.add_viewer(&video(), None, ViewerZone::Unknown).unwrap();
    let cursor = seat.channel.cursor_from_now();
    let viewer = ConnectedViewer::new(seat, cursor, StreamForm::Resuming, Bytes::from_static(b"HELLO\n\n"));
    let place = Arc::clone(places).try_acquire_owned().unwrap();
    hub.fanout.add_viewer(JoiningViewer {
        viewer,
        raw_connection: RawConnection { socket, tls_state: tls, answer_head: Vec::new(), slot: place },
    });
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// Joins a new viewer over TLS and returns its end of the connection.
fn join_viewer_over_tls(hub: &Arc<ChannelHub>, listener: &TcpListener, places: &Arc<Semaphore>) -> TlsClient {
    let own = rcgen::generate_simple_self_signed(vec!["reader".to_owned()]).unwrap();
    let (cert, key) = (own.cert.der().clone(), own.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key.try_into().unwrap())
        .unwrap();
    let mut known = RootCertStore::empty();
    known.add(cert).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(known)
        .with_no_client_auth();
    let (mut client, mut socket) = tcp_pair(listener);
    let mut own = ClientConnection::new(Arc::new(config), "reader".try_into().unwrap()).unwrap();
    let mut tls = ServerConnection::new(Arc::new(server)).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).unwrap();
            }
        });
        while own.is_handshaking() {
            own.complete_io(&mut client).unwrap();
        }
    });
    join_with_socket(hub, places, socket, Some(Box::new(tls)));
    StreamOwned::new(own, client)
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn comment(seq: u64) -> Comment {
    Comment {
        id: CommentId::parse(&format!("c{seq}")).unwrap(),
        user_id: UserId::parse("u").unwrap(),
        video_id: video(),
        text: "hello".into(),
        timestamp: 0,
        seq,
        entry: liverank_core::comment::EntryKind::Comment,
        reply_to: None,
    }
}

/// Reads until the text ends with `end`; returns the text.
fn read_until(client: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(end.as_bytes()) {
        let read = client.read(&mut buffer).unwrap();
        assert!(read > 0, "the stream ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn leaving_viewers_are_noticed_and_the_others_get_everything() {
    let hub = hub(100);
    let (listener, places) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Semaphore::new(700)));
    let mut clients: Vec<_> = (0..600).map(|_| join_viewer(&hub, &listener, &places)).collect();
    for client in &mut clients {
        read_until(client, "HELLO\n\n");
    }
    let room = hub.channel_of(&video()).unwrap();
    let numbering = CommentEpoch::parse("n").unwrap();
    room.note_head(&numbering, 0);
    // Half of the viewers leave while the others are being written to.
    let mut staying = Vec::new();
    for (at, client) in clients.into_iter().enumerate() {
        let seq = at as u64 + 1;
        room.push(&numbering, &comment(seq));
        room.show_due(Instant::now());
        hub.fanout.notify_threads(&room);
        if at % 2 == 0 {
            staying.push(client);
        }
    }
    let last = String::from_utf8(crate::sse::comment_event(&numbering, &comment(600)).to_vec()).unwrap();
    for client in &mut staying {
        let text = read_until(client, &last);
        let seqs =
            text.lines().filter_map(|line| line.strip_prefix("id: n-")).map(|n| n.parse::<u64>().unwrap());
        let gaps = text.matches("event: gap").count();
        assert!(gaps > 0 || seqs.eq(1..=600), "{gaps} gaps");
    }
    wait_until("leaving", || hub.viewer_total() == 300 && places.available_permits() == 400);
    hub.fanout.stop();
    wait_until("the end", || hub.viewer_total() == 0 && places.available_permits() == 700);
    assert_eq!(staying[0].read(&mut [0; 8]).unwrap(), 0);
    // A viewer who joins after the end is disconnected at once.
    let mut late = join_viewer(&hub, &listener, &places);
    assert_eq!(late.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!((hub.viewer_total(), places.available_permits()), (0, 700));
}

#[test]
fn over_tls_too_those_who_do_not_read_get_everything_later_and_all_are_told_the_end() {
    // More comments than all buffers of a connection hold.
    const COMMENT_COUNT: u64 = 2_000;
    let hub = hub(COMMENT_COUNT as usize);
    let (listener, places) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Semaphore::new(3)));
    let mut clients: Vec<_> = (0..3).map(|_| join_viewer_over_tls(&hub, &listener, &places)).collect();
    for client in &mut clients {
        read_until(client, "HELLO\n\n");
    }
    drop(clients.pop());
    let room = hub.channel_of(&video()).unwrap();
    let numbering = CommentEpoch::parse("n").unwrap();
    room.note_head(&numbering, 0);
    let long = |seq| Comment { text: "x".repeat(4_000), ..comment(seq) };
    for seq in 1..=COMMENT_COUNT {
        room.push(&numbering, &long(seq));
        room.show_due(Instant::now());
        hub.fanout.notify_threads(&room);
    }
    let last =
        String::from_utf8(crate::sse::comment_event(&numbering, &long(COMMENT_COUNT)).to_vec()).unwrap();
    for client in &mut clients {
        let text = read_until(client, &last);
        let seqs = text.lines().filter_map(|line| line.strip_prefix("id: n-"));
        // The first id is the viewer's position when the head became known.
        assert!(seqs.map(|n| n.parse::<u64>().unwrap()).eq(0..=COMMENT_COUNT));
    }
    wait_until("leaving", || hub.viewer_total() == 2 && places.available_permits() == 1);
    hub.fanout.stop();
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the end is said, and not a cut");
    }
}

#[test]
fn a_viewer_that_sends_endlessly_over_tls_is_dropped() {
    let hub = hub(10);
    let (listener, places) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Semaphore::new(1)));
    let mut client = join_viewer_over_tls(&hub, &listener, &places);
    read_until(&mut client, "HELLO\n\n");
    let hub_too = Arc::clone(&hub);
    let talking = std::thread::spawn(move || while client.write_all(&[b'x'; 10_000]).is_ok() {});
    wait_until("the end", || hub_too.viewer_total() == 0);
    talking.join().unwrap();
    hub.fanout.stop();
}

#[test]
fn a_viewer_that_sends_endlessly_is_dropped() {
    let hub = hub(10);
    let (listener, places) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Semaphore::new(1)));
    let mut client = join_viewer(&hub, &listener, &places);
    read_until(&mut client, "HELLO\n\n");
    client.write_all(b"hello?").unwrap();
    let hub_too = Arc::clone(&hub);
    let talking = std::thread::spawn(move || while client.write_all(&[b'x'; 10_000]).is_ok() {});
    wait_until("the end", || hub_too.viewer_total() == 0);
    talking.join().unwrap();
    hub.fanout.stop();
}
