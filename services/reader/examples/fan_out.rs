//! Measures how many comments a second a reader delivers, with which delay, and what a viewer costs: `serve` runs a
//! reader and posts to one video at a rate, `watch` holds viewers and counts, and `floor` is the least work that a
//! server can do: a loop that writes to every socket. The server and the viewers are separate processes, so that each
//! can be pinned to a core of its own:
//!
//! ```sh
//! cargo build --release -p liverank-reader --example fan_out
//! taskset -c 0 target/release/examples/fan_out serve --port 24001 --rate 50 &
//! taskset -c 1 target/release/examples/fan_out watch --port 24001 --viewers 2000 --seconds 20 --server $!
//! ```
//!
//! `post` posts comments to another server, so that other servers can be measured beside a whole liverank
//! (`bench/fanout`).
//!
//! A storm of reconnecting viewers is a second `watch --at-once` beside a running one. It measures how long each viewer
//! was without a stream after all lost theirs together, however often the viewer had to connect.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Parser;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::{Archive, CommentBus};
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::CountingRules;
use liverank_core::{Comment, CommentId, UserId, VideoId};
use liverank_reader::{Config, sse};
use liverank_runtime::{ServiceContext, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// The time for which viewers are connected before their events are counted.
const WARM_UP: Duration = Duration::from_secs(3);
/// The time within which all viewers have to be greeted.
const GREETING_TIMEOUT: Duration = Duration::from_mins(1);
/// The divisor of the sampling: one viewer in 50 reads the post times in its comments and so measures their delays.
const SAMPLING_DIVISOR: usize = 50;
/// The number of viewers with the same source address: far fewer than the address has ports. The kernel tries ports one
/// by one, and if most are taken, each connection costs it milliseconds; a crowd would then take longer to connect than
/// a server waits for requests.
const VIEWERS_A_SOURCE_ADDRESS: usize = 4_000;
/// The beginning of each comment's text, before the time of its post in microseconds.
const POST_TIME_PREFIX: &[u8] = b"posted ";

#[derive(Parser)]
enum BenchMode {
    /// Runs a reader and posts to one video.
    Serve {
        #[arg(long)]
        port: u16,
        /// Comments a second; 0: none.
        #[arg(long)]
        rate: u32,
        /// Writes a second above which they are joined; a large number: never.
        #[arg(long)]
        writes_per_second: Option<u64>,
    },
    /// Writes to every socket in turn, as fast as that goes.
    Floor {
        #[arg(long)]
        port: u16,
        /// The number of sockets to wait for.
        #[arg(long)]
        viewers: usize,
        /// Comments a write.
        #[arg(long, default_value_t = 1)]
        joined: usize,
        /// Writes a second to each; 0: as fast as it goes.
        #[arg(long, default_value_t = 0)]
        rate: u32,
    },
    /// Posts comments at a rate, each with the time at which it was to be posted.
    Post(PostOptions),
    /// Watches the video.
    Watch(WatchOptions),
}

#[derive(Parser)]
struct PostOptions {
    #[arg(long)]
    port: u16,
    /// Path that takes them.
    #[arg(long, default_value = "/comment")]
    path: String,
    /// Comments a second.
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seconds: u32,
    /// The text alone is the body, not a comment of liverank's.
    #[arg(long)]
    plain: bool,
}

#[derive(Parser)]
struct WatchOptions {
    #[arg(long)]
    port: u16,
    /// Path of the stream; `{}` stands for the viewer's number.
    #[arg(long, default_value = "/connect?userid=u{}&videoid=hot")]
    path: String,
    /// Print what was seen as JSON, too: the last line.
    #[arg(long)]
    json: bool,
    #[arg(long)]
    viewers: usize,
    #[arg(long)]
    seconds: u64,
    /// All dial at once, as after their reader was killed.
    #[arg(long)]
    at_once: bool,
    /// The server's process, to tell what it uses.
    #[arg(long)]
    server: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    server::raise_file_limit();
    // One thread for each process, because the measurements are for one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match BenchMode::parse() {
        BenchMode::Serve { port, rate, writes_per_second } => {
            runtime.block_on(serve_hub(port, rate, writes_per_second))
        }
        BenchMode::Floor { port, viewers, joined, rate } => measure_socket_floor(port, viewers, joined, rate),
        BenchMode::Post(options) => runtime.block_on(post_comments(options)),
        BenchMode::Watch(options) => runtime.block_on(watch_viewers(options)),
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// Returns the text of a comment that was to be posted at the time `due`, in microseconds.
fn comment_text(due: u64) -> String {
    format!("posted {due:016} {}", "x".repeat(40))
}

fn comment(seq: u64) -> anyhow::Result<Comment> {
    Ok(Comment {
        id: CommentId::parse(&format!("{seq:032x}"))?,
        user_id: UserId::parse("poster")?,
        video_id: VideoId::parse("hot")?,
        text: comment_text(now_us()),
        timestamp: (now_us() / 1000) as i64,
        seq,
        entry: liverank_core::comment::EntryKind::Comment,
        reply_to: None,
    })
}

async fn serve_hub(port: u16, rate: u32, writes_per_second: Option<u64>) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let archive = Arc::new(EmbeddedArchive::open(directory.path())?);
    let numbering = archive.open(&CountingRules::default()).await?.comment_epoch;
    let bus = Arc::new(EmbeddedBus::new());
    let listener =
        server::bind_listener(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "the reader", "--port").await?;
    let config = Config { capacity: 100_000, writes_per_second, ..Config::default() };
    let comments = Arc::clone(&bus) as Arc<dyn CommentBus>;
    let context = ServiceContext::new(Duration::ZERO);
    let reader = tokio::spawn(liverank_reader::run(config, archive, comments, listener, context));
    if rate == 0 {
        return reader.await?;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    for seq in 1_u64.. {
        ticks.tick().await;
        if reader.is_finished() {
            break;
        }
        bus.publish_comments(&numbering, &[comment(seq)?]).await?;
    }
    reader.await?
}

fn measure_socket_floor(port: u16, viewers: usize, joined: usize, rate: u32) -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut sockets = Vec::new();
    for _ in 0..viewers {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let numbering = CommentEpoch::parse("n")?;
    let begun = Instant::now();
    for turn in 0_u32.. {
        if rate > 0 {
            std::thread::sleep(
                (begun + Duration::from_secs(1) / rate * turn).saturating_duration_since(Instant::now()),
            );
        }
        let event = sse::comment_event(&numbering, &comment(1)?).repeat(joined);
        for socket in &mut sockets {
            match socket.write(&event) {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Ok(()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The number of connections that post in turn: each waits for its answer before it posts again.
const POSTING_CONNECTIONS: usize = 16;

async fn post_comments(options: PostOptions) -> anyhow::Result<()> {
    let begun = now_us();
    let options = Arc::new(options);
    let posts = u64::from(options.rate) * u64::from(options.seconds);
    let mut posting = tokio::task::JoinSet::new();
    for first in 0..POSTING_CONNECTIONS as u64 {
        let options = Arc::clone(&options);
        posting.spawn(async move {
            let mut connection = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, options.port)).await?;
            connection.set_nodelay(true)?;
            for nth in (first..posts).step_by(POSTING_CONNECTIONS) {
                let due = begun + nth * 1_000_000 / u64::from(options.rate);
                tokio::time::sleep(Duration::from_micros(due.saturating_sub(now_us()))).await;
                post_one(&mut connection, &options, due).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = posting.join_next().await {
        done??;
    }
    Ok(())
}

async fn post_one(
    connection: &mut tokio::net::TcpStream,
    options: &PostOptions,
    due: u64,
) -> anyhow::Result<()> {
    let text = comment_text(due);
    let (kind, body) = if options.plain {
        ("text/plain", text)
    } else {
        ("application/json", format!(r#"{{"userid":"poster","videoid":"hot","comment":"{text}"}}"#))
    };
    let (path, length) = (&options.path, body.len());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = connection.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the connection was closed");
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        anyhow::ensure!(head.starts_with("http/1.1 20"), "refused: {text}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
        if rest.len() >= length {
            return Ok(());
        }
    }
}

/// The counts and the measured times of all viewers together.
#[derive(Default)]
struct ViewerCounts {
    greeting_delays_us: std::sync::Mutex<Vec<u64>>,
    refused: AtomicU64,
    comments: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
    comment_delays_us: std::sync::Mutex<Vec<u64>>,
}

impl ViewerCounts {
    fn current_counts(&self) -> [u64; 3] {
        [&self.comments, &self.bytes, &self.reads].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Returns a process's resident memory in kilobytes and its processor time in milliseconds.
fn process_usage(process: Option<u32>) -> anyhow::Result<(u64, u64)> {
    let Some(process) = process else { return Ok((0, 0)) };
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident = line.trim().trim_end_matches(" kB").parse()?;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok((resident, ticks * 10))
}

async fn watch_viewers(options: WatchOptions) -> anyhow::Result<()> {
    let WatchOptions { viewers, server, .. } = options;
    let path: Arc<str> = options.path.as_str().into();
    let seen = Arc::new(ViewerCounts::default());
    let (resident, _) = process_usage(server)?;
    let start = Instant::now();
    for number in 0..viewers {
        let (seen, port, again) = (Arc::clone(&seen), options.port, options.at_once);
        let path = path.replace("{}", &number.to_string());
        let sampled = number % SAMPLING_DIVISOR == 0;
        if again {
            tokio::spawn(async move { watch_until_end(port, &path, number, start, &seen, sampled).await });
        } else {
            let dialled = Instant::now();
            let stream = dial_stream(port, &path, number).await?;
            tokio::spawn(async move { watch_stream(stream, dialled, &seen, sampled).await });
        }
    }
    let count = || seen.greeting_delays_us.lock().expect("no panics").len();
    while count() < viewers && start.elapsed() < GREETING_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (there, greeted) = (count(), quantiles_text(&mut seen.greeting_delays_us.lock().expect("no panics")));
    println!(
        "{there} of {viewers} viewers greeted in {:.1} s, {} dialled again; from {} to greeting: {greeted}",
        start.elapsed().as_secs_f64(),
        seen.refused.load(Ordering::Relaxed),
        if options.at_once { "the storm's beginning" } else { "dialling" },
    );
    anyhow::ensure!(there == viewers, "not all viewers were greeted");
    tokio::time::sleep(WARM_UP).await;
    let (now_resident, busy) = process_usage(server)?;
    let (before, start) = (seen.current_counts(), Instant::now());
    seen.comment_delays_us.lock().expect("no panics").clear();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let seconds = start.elapsed().as_secs_f64();
    let after = seen.current_counts();
    let core = (process_usage(server)?.1 - busy) as f64 / 1000.0 / seconds;
    let [comments, bytes, reads] = [0, 1, 2].map(|at| (after[at] - before[at]) as f64 / seconds);
    println!("{comments:.0} deliveries/s, {:.1} MB/s, {:.2} a read", bytes / 1e6, comments / reads.max(1.0));
    let mut late = seen.comment_delays_us.lock().expect("no panics").clone();
    println!("late: {}", quantiles_text(&mut late));
    let growth = now_resident.saturating_sub(resident) as f64 * 1024.0 / viewers as f64;
    if server.is_some() {
        println!(
            "the server: {growth:.0} bytes more a viewer, {core:.2} cores, {:.0} deliveries a core second",
            comments / core.max(0.001)
        );
    }
    if options.json {
        let [p50, p99] = [0.5, 0.99].map(|part| quantile_ms(&late, part));
        println!(
            r#"{{"deliveries":{comments:.0},"p50_ms":{p50:.1},"p99_ms":{p99:.1},"bytes_a_viewer":{growth:.0},"cores":{core:.3}}}"#
        );
    }
    Ok(())
}

/// Connects until the viewer is greeted, as a viewer does whose connection is refused, reset or ended; then watches.
async fn watch_until_end(
    port: u16,
    path: &str,
    number: usize,
    start: Instant,
    seen: &ViewerCounts,
    sampled: bool,
) {
    loop {
        if let Ok(stream) = dial_stream(port, path, number).await
            && watch_stream(stream, start, seen, sampled).await.is_ok()
        {
            return;
        }
        seen.refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(rand::random_range(100..500))).await;
    }
}

async fn dial_stream(port: u16, path: &str, number: usize) -> anyhow::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if number >= VIEWERS_A_SOURCE_ADDRESS {
        let source = Ipv4Addr::new(127, 0, 0, 1 + (number / VIEWERS_A_SOURCE_ADDRESS) as u8);
        socket.bind(SocketAddr::from((source, 0)))?;
    }
    let mut stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Returns the quantile `part` of the sorted times, in milliseconds; the times are in microseconds.
fn quantile_ms(times: &[u64], part: f64) -> f64 {
    times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0) as f64 / 1000.0
}

/// Sorts times in microseconds, and returns their quantiles as text.
fn quantiles_text(times: &mut [u64]) -> String {
    times.sort_unstable();
    let [p50, p99, max] = [0.5, 0.99, 0.999_999].map(|part| quantile_ms(times, part));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms ({} samples)", times.len())
}

/// Watches until the stream ends; fails if the stream ends before its greeting.
async fn watch_stream(
    stream: tokio::net::TcpStream,
    dialled: Instant,
    seen: &ViewerCounts,
    sampled: bool,
) -> anyhow::Result<()> {
    let mut greeted = false;
    loop {
        stream.readable().await?;
        // On the stack and so shared by all viewers: a buffer for each would not fit into the processor's cache.
        let mut buffer = [0; 16 * 1024];
        let read = match stream.try_read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Ok(read @ 1..) => read,
            _ if greeted => return Ok(()),
            ended => anyhow::bail!("the stream ended before its greeting: {ended:?}"),
        };
        if !std::mem::replace(&mut greeted, true) {
            seen.greeting_delays_us.lock().expect("no panics").push(dialled.elapsed().as_micros() as u64);
        }
        let text = &buffer[..read];
        // A line whose beginning is split between two reads is missed, which is one in thousands.
        let comments = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data: ")).count();
        seen.comments.fetch_add(comments as u64, Ordering::Relaxed);
        seen.bytes.fetch_add(read as u64, Ordering::Relaxed);
        seen.reads.fetch_add(1, Ordering::Relaxed);
        if sampled {
            let now = now_us();
            let late = text
                .windows(POST_TIME_PREFIX.len() + 16)
                .filter(|window| window.starts_with(POST_TIME_PREFIX));
            let late = late
                .filter_map(|window| parse_posted_us(window).ok())
                .map(|posted| now.saturating_sub(posted));
            seen.comment_delays_us.lock().expect("no panics").extend(late);
        }
    }
}

fn parse_posted_us(window: &[u8]) -> anyhow::Result<u64> {
    std::str::from_utf8(&window[POST_TIME_PREFIX.len()..])?.parse().context("not a time")
}
