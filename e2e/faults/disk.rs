//! The fault of a full disk: `liverank up` on embedded stores in a small file system of their own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, ensure};
use liverank_e2e::free_port;
use liverank_e2e::process::Process;
use liverank_load::plan::{PostEvent, PostingPlan};
use liverank_load::poster::EventPoster;
use liverank_load::record::RunRecord;
use liverank_load::targets::TargetAddresses;
use liverank_load::verify::RunVerifier;
use reqwest::Client;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::schedule::Fault;

/// The size of the file system: enough for the stores of a long run.
const DISK_SIZE: &str = "256m";
/// The number of videos that get events.
const VIDEO_COUNT: usize = 4;
/// The number of comments and interactions that are posted in a second while the disk is full: enough for the stores
/// to grow.
const POSTS_A_SECOND: u64 = 60;
/// The most comments of a run, for which the record of expected comments has room.
const MAX_COMMENTS: usize = 200_000;
/// The time limit until the process starts, until it notices that the disk is full, and until it acknowledges all
/// events once there is room.
const DISK_TIMEOUT: Duration = Duration::from_mins(1);

/// Returns the events to post: four interactions, then a comment, and so on.
fn event_source(plan: &PostingPlan) -> impl Iterator<Item = PostEvent> + Send + use<> {
    // The rate has no other meaning than the total number of events.
    let second = Duration::from_secs(1);
    let mut interactions = plan.interaction_events(4.0 * MAX_COMMENTS as f64, second);
    plan.comment_events(MAX_COMMENTS as f64, second).flat_map(move |comment| {
        let mut some: Vec<PostEvent> = interactions.by_ref().take(4).collect();
        some.push(comment);
        some
    })
}

/// A `liverank up` process on a small disk, with the record of the events that it acknowledged.
pub struct FullDiskSystem {
    mount: PathBuf,
    gateway_address: String,
    process: Mutex<Process>,
    plan: PostingPlan,
    record: Arc<RunRecord>,
    poster: Arc<EventPoster>,
    targets: TargetAddresses,
    client: Client,
    source: Mutex<Box<dyn Iterator<Item = PostEvent> + Send>>,
}

impl FullDiskSystem {
    /// Mounts the file system in `directory`, starts the process and posts a view of each video. Needs root.
    pub async fn start(directory: &Path, seed: u64) -> anyhow::Result<Self> {
        let mount = directory.join("disk");
        std::fs::create_dir_all(&mount)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_SIZE}"), "liverank-faults"])
            .arg(&mount)
            .status()?;
        ensure!(mounted.success(), "a file system of {DISK_SIZE} cannot be mounted: disk-full needs root");
        let address = || format!("127.0.0.1:{}", free_port());
        let gateway_address = address();
        let data = mount.join("data").display().to_string();
        let mut args: Vec<String> =
            ["up", "--data-dir", &data, "--gateway-listen", &gateway_address].map(str::to_owned).into();
        for name in ["websocket", "comment", "reader", "manager", "statistics"] {
            args.extend([format!("--{name}-listen"), address()]);
        }
        args.extend(["--admin-listen".to_owned(), address()]);
        let plan = PostingPlan::new("disk".to_owned(), VIDEO_COUNT, 0.5, seed);
        let record = Arc::new(RunRecord::new(VIDEO_COUNT + 1, MAX_COMMENTS));
        let client = Client::builder().no_proxy().build()?;
        let targets = TargetAddresses::new(&[format!("http://{gateway_address}").parse()?]);
        let disk = Self {
            mount,
            gateway_address,
            process: Mutex::new(Process::start("up", &args, directory)),
            poster: EventPoster::new(client.clone(), targets.clone(), plan.clone(), Arc::clone(&record)),
            source: Mutex::new(Box::new(event_source(&plan))),
            plan,
            record,
            targets,
            client,
        };
        for event in disk.plan.opening_views() {
            let posted = tokio::time::timeout(DISK_TIMEOUT, disk.poster.post(&event)).await;
            ensure!(posted == Ok(true), "{} does not take {}", disk.gateway_address, event.id);
        }
        Ok(disk)
    }

    fn filler_file(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Writes a file that takes all the room that is left on the disk.
    fn fill_all_room(&self) -> anyhow::Result<()> {
        let mut file = std::fs::File::create(self.filler_file())?;
        let block = vec![0u8; 64 * 1024];
        let mut size = block.len();
        while size > 0 {
            match file.write(&block[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
        Ok(())
    }

    /// Fills the disk under load, makes room again, and compares the acknowledged events with what the process counts.
    /// Returns in words what was done; in half of the cases the process is killed meanwhile.
    pub async fn fill_and_compare(&self, fault: &Fault) -> anyhow::Result<String> {
        let killed = fault.random_number & 1 == 0;
        let mut posts = JoinSet::new();
        self.fill_all_room()?;
        let bitten = self.post_until_refused(&mut posts, fault.duration).await;
        let alive = self.process.lock().await.is_running();
        if killed && alive {
            self.process.lock().await.kill();
        }
        std::fs::remove_file(self.filler_file())?;
        if killed || !alive {
            self.process.lock().await.restart();
        }
        bitten?;
        let acknowledged = async { while posts.join_next().await.is_some() {} };
        let all = tokio::time::timeout(DISK_TIMEOUT, acknowledged).await;
        ensure!(
            all.is_ok(),
            "{} events are not acknowledged {DISK_TIMEOUT:?} after there is room",
            posts.len()
        );
        ensure!(alive, "it ended by itself on a full disk");
        self.compare().await?;
        Ok(if killed { "killed while it was full" } else { "went on by itself" }.to_owned())
    }

    /// Posts events until the disk has been full for `lasts` since the first post that was not acknowledged at once.
    async fn post_until_refused(&self, posts: &mut JoinSet<bool>, lasts: Duration) -> anyhow::Result<()> {
        let refused = || self.record.counts.retried.load(Relaxed);
        let before = refused();
        let mut since = None;
        let deadline = Instant::now() + DISK_TIMEOUT;
        while since.is_none_or(|since: Instant| since.elapsed() < lasts) {
            self.post_one(posts).await;
            if since.is_none() && refused() > before {
                since = Some(Instant::now());
            }
            ensure!(since.is_some() || Instant::now() < deadline, "a full disk was never noticed");
            tokio::time::sleep(Duration::from_millis(1000 / POSTS_A_SECOND)).await;
        }
        Ok(())
    }

    async fn post_one(&self, posts: &mut JoinSet<bool>) {
        let event = self.source.lock().await.next();
        let Some(event) = event else { return };
        let poster = Arc::clone(&self.poster);
        posts.spawn(async move { poster.post(&event).await });
    }

    /// Compares all acknowledged events with what the process counts; an error lists the differences.
    pub async fn compare(&self) -> anyhow::Result<()> {
        let verifier = RunVerifier {
            client: self.client.clone(),
            targets: self.targets.clone(),
            plan: self.plan.clone(),
            record: Arc::clone(&self.record),
            viewers: Vec::new(),
            watchers: None,
        };
        let rested = verifier.wait_until_right(DISK_TIMEOUT).await;
        ensure!(rested && self.record.first_faults().is_empty(), "{}", self.record.first_faults().join("\n"));
        Ok(())
    }
}

impl Drop for FullDiskSystem {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        if process.is_running() {
            process.kill();
        }
        // A failure of the unmount cannot be reported to anybody here.
        let _ = Command::new("umount").arg(&self.mount).status();
    }
}
