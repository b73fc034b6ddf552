//! A user of MongoDB whose password changes while the archive counts.

use std::path::PathBuf;

use liverank_adapters::SecretSource;
use mongodb::Database;
use tokio::sync::watch;

use super::*;

/// An archive behind a proxy, with the address and its password in a file.
struct FileUser {
    proxy: Proxy,
    /// The archive's database, as an administrator reaches it.
    database: Database,
    file: PathBuf,
    config: MongoConfig,
    _directory: tempfile::TempDir,
}

impl FileUser {
    async fn new() -> Self {
        let uri = mongodb_uri();
        let port = uri.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("uri");
        let mut config = fresh_database();
        config.uri = SecretSource::File(file.clone());
        let database = Client::with_uri_str(uri).await.unwrap().database(&config.database);
        let role = doc! { "role": "readWrite", "db": &config.database };
        let user = doc! { "createUser": "app", "pwd": "0", "roles": [role] };
        database.run_command(user).await.unwrap();
        let proxy = Proxy::before(port, None).await;
        Self { proxy, database, file, config, _directory: directory }
    }

    fn write_file(&self, password: &str) {
        let (port, database) = (self.proxy.ports.proxy, &self.config.database);
        let uri = format!(
            "mongodb://app:{password}@127.0.0.1:{port}/?directConnection=true&authSource={database}\n"
        );
        let whole = self.file.with_extension("whole");
        std::fs::write(&whole, uri).unwrap();
        std::fs::rename(whole, &self.file).unwrap();
    }

    async fn set_password(&self, password: &str) {
        self.database.run_command(doc! { "updateUser": "app", "pwd": password }).await.unwrap();
    }
}

/// The batches that were committed, and the attempts that failed.
#[derive(Default, Clone, Copy)]
pub struct Progress {
    pub committed: u64,
    pub failures: u64,
}

/// Commits batches of one event without end, as a consumer does. Every failure has to be one that passes.
pub async fn count_on(archive: Arc<MongoArchive>, progress: watch::Sender<Progress>) {
    archive.claim_partitions(&[0]).await.unwrap();
    let view = json!({"video_id": "v", "user_id": "u", "type": "view"});
    loop {
        let next = progress.borrow().committed;
        match archive.commit_batch(&batch(0, next, std::slice::from_ref(&view))).await {
            Ok(_) => progress.send_modify(|progress| progress.committed += 1),
            Err(CommitError::Store(error)) => {
                assert!(error.is_transient(), "{error}");
                progress.send_modify(|progress| progress.failures += 1);
                // It is unknown whether the batch was applied; the archive knows.
                if let Ok(positions) = archive.partition_positions(&[0]).await {
                    progress.send_modify(|progress| progress.committed = positions[0].next_offset);
                }
            }
            Err(CommitError::PositionMismatch { actual, .. }) => {
                progress.send_modify(|progress| progress.committed = actual);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn wait_for(
    progress: &mut watch::Receiver<Progress>,
    what: &str,
    is_reached: impl Fn(&Progress) -> bool,
) {
    let reached = tokio::time::timeout(TEST_TIMEOUT, progress.wait_for(is_reached)).await;
    reached.unwrap_or_else(|_| panic!("{what}: not in time")).unwrap();
}

/// Takes the archive's connections away, and waits until that was noticed.
async fn lose_connections(user: &FileUser, progress: &mut watch::Receiver<Progress>) {
    let before = progress.borrow().failures;
    user.proxy.set(Mode::Cut);
    wait_for(progress, "the loss is noticed", |progress| progress.failures > before).await;
    user.proxy.set(Mode::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_goes_on_with_a_changed_password_whether_server_or_file_has_it_first() {
    let user = FileUser::new().await;
    user.write_file("0");
    let archive = Arc::new(open_archive(&user.config).await);
    let (progress, mut seen) = watch::channel(Progress::default());
    let counting = tokio::spawn(count_on(Arc::clone(&archive), progress));
    wait_for(&mut seen, "counting begins", |progress| progress.committed > 10).await;

    user.set_password("1").await;
    lose_connections(&user, &mut seen).await;
    let before = *seen.borrow();
    wait_for(&mut seen, "the old password is refused", |now| now.failures > before.failures + 1).await;
    user.write_file("1");
    wait_for(&mut seen, "counting goes on", |now| now.committed > before.committed + 10).await;

    user.write_file("2");
    let before = *seen.borrow();
    wait_for(&mut seen, "the former client serves", |now| now.committed > before.committed + 100).await;
    assert_eq!(seen.borrow().failures, before.failures, "nobody notices a password that comes too early");
    user.set_password("2").await;
    lose_connections(&user, &mut seen).await;
    let before = *seen.borrow();
    wait_for(&mut seen, "counting goes on again", |now| now.committed > before.committed + 10).await;

    assert!(!counting.is_finished(), "no failure was final");
    counting.abort();
    assert!(counting.await.unwrap_err().is_cancelled());
    let positions = archive.partition_positions(&[0]).await.unwrap();
    let video = archive.video(&VideoId::parse("v").unwrap()).await.unwrap().unwrap();
    assert_eq!(video.counters.views, positions[0].next_offset as i64, "each event once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_an_error_when_the_archive_is_opened() {
    let user = FileUser::new().await;
    user.write_file("wrong");
    let archive = MongoArchive::new(user.config.clone()).await.unwrap();
    let opened = retry(TEST_TIMEOUT, async || archive.open(&CountingRules::default()).await).await;
    let error = opened.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains("wrong"), "{error}");
}
