//! How many comments a second a reader delivers, and how late: `serve` runs a reader and posts to one video at a
//! rate, `watch` holds viewers and counts. Two processes, so that each can be pinned to a core of its own:
//!
//! ```sh
//! cargo build --release -p liverank-reader --example fan_out
//! taskset -c 0 target/release/examples/fan_out serve --port 24001 --rate 50 &
//! taskset -c 1 target/release/examples/fan_out watch --port 24001 --viewers 2000 --seconds 20
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Parser;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Archive, Backends, CommentBus, clock};
use liverank_core::counting::Rules;
use liverank_core::{Comment, CommentId, UserId, VideoId};
use liverank_reader::Config;
use liverank_shell::{Shell, server};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

/// How long viewers are in before what they get is counted.
const WARM_UP: Duration = Duration::from_secs(3);
/// One viewer in so many reads the times in what it gets.
const SAMPLED: usize = 50;
/// What each comment's text begins with, before the microseconds at which it was posted.
const MARK: &[u8] = b"posted ";

#[derive(Parser)]
enum Mode {
    /// Runs a reader and posts to one video.
    Serve {
        #[arg(long)]
        port: u16,
        /// Comments a second.
        #[arg(long)]
        rate: u32,
    },
    /// Watches the video.
    Watch {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        viewers: usize,
        #[arg(long)]
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    server::raise_file_limit();
    // One thread each: what is measured is a core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Mode::parse() {
        Mode::Serve { port, rate } => runtime.block_on(serve(port, rate)),
        Mode::Watch { port, viewers, seconds } => {
            runtime.block_on(watch(port, viewers, Duration::from_secs(seconds)))
        }
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

async fn serve(port: u16, rate: u32) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let archive = Arc::new(EmbeddedArchive::open(directory.path())?);
    let numbering = archive.open(&Rules::default()).await?.numbering;
    let bus = Arc::new(EmbeddedBus::new());
    let backends = Backends {
        log: Arc::new(EmbeddedLog::open(directory.path(), clock::system())?),
        archive,
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::clone(&bus) as Arc<dyn CommentBus>,
        assignments: Arc::new(EmbeddedAssignments::new()),
    };
    let listener = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "the reader").await?;
    let config = Config { capacity: 100_000, ..Config::default() };
    let reader = tokio::spawn(liverank_reader::run(config, backends, listener, Shell::new(Duration::ZERO)));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    for seq in 1_u64.. {
        ticks.tick().await;
        if reader.is_finished() {
            break;
        }
        let comment = Comment {
            id: CommentId::parse(&format!("{seq:032x}"))?,
            user_id: UserId::parse("poster")?,
            video_id: VideoId::parse("hot")?,
            text: format!("posted {:016} {}", now_us(), "x".repeat(40)),
            timestamp: (now_us() / 1000) as i64,
            seq,
        };
        bus.publish(&numbering, &[comment]).await?;
    }
    reader.await?
}

/// What all viewers got.
#[derive(Default)]
struct Seen {
    comments: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
    late_us: std::sync::Mutex<Vec<u64>>,
}

async fn watch(port: u16, viewers: usize, time: Duration) -> anyhow::Result<()> {
    let seen = Arc::new(Seen::default());
    for number in 0..viewers {
        let socket = TcpSocket::new_v4()?;
        // More viewers than one address has ports for.
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number / 20_000) as u8);
        socket.bind(SocketAddr::from((source, 0)))?;
        let mut stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let request = format!("GET /connect?userid=u{number}&videoid=hot HTTP/1.1\r\nHost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move { view(stream, &seen, number % SAMPLED == 0).await });
    }
    tokio::time::sleep(WARM_UP).await;
    let before = [&seen.comments, &seen.bytes, &seen.reads].map(|count| count.load(Ordering::Relaxed));
    seen.late_us.lock().expect("no panics").clear();
    let start = Instant::now();
    tokio::time::sleep(time).await;
    let seconds = start.elapsed().as_secs_f64();
    let after = [&seen.comments, &seen.bytes, &seen.reads].map(|count| count.load(Ordering::Relaxed));
    let [comments, bytes, reads] = [0, 1, 2].map(|at| (after[at] - before[at]) as f64 / seconds);
    let mut late = std::mem::take(&mut *seen.late_us.lock().expect("no panics"));
    late.sort_unstable();
    let at = |part: f64| late.get((late.len() as f64 * part) as usize).copied().unwrap_or(0) as f64 / 1000.0;
    println!("{comments:.0} deliveries/s, {:.1} MB/s, {:.2} a read", bytes / 1e6, comments / reads.max(1.0));
    println!(
        "late: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} samples)",
        at(0.5),
        at(0.99),
        at(0.999_999),
        late.len()
    );
    Ok(())
}

async fn view(stream: tokio::net::TcpStream, seen: &Seen, sampled: bool) -> anyhow::Result<()> {
    loop {
        stream.readable().await?;
        // On the stack and so the same for all viewers: a buffer each would not fit the processor's cache.
        let mut buffer = [0; 16 * 1024];
        let read = match stream.try_read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            read => read?,
        };
        anyhow::ensure!(read > 0, "the stream ended");
        let text = &buffer[..read];
        // A line whose beginning is cut in two is missed, which is one in thousands.
        let comments = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data: ")).count();
        seen.comments.fetch_add(comments as u64, Ordering::Relaxed);
        seen.bytes.fetch_add(read as u64, Ordering::Relaxed);
        seen.reads.fetch_add(1, Ordering::Relaxed);
        if sampled {
            let now = now_us();
            let late = text.windows(MARK.len() + 16).filter(|window| window.starts_with(MARK));
            let late = late.filter_map(|window| posted(window).ok()).map(|posted| now.saturating_sub(posted));
            seen.late_us.lock().expect("no panics").extend(late);
        }
    }
}

fn posted(window: &[u8]) -> anyhow::Result<u64> {
    std::str::from_utf8(&window[MARK.len()..])?.parse().context("not a time")
}
