//! Users of a MongoDB that asks for rights: those without rights, changed ones, and certificates that change.

use std::path::PathBuf;

use liverank_adapters::SecretSource;
use tokio::sync::watch;

use super::credentials::{Progress, count_on, wait_for};
use super::own_mongod::{DATABASE, OwnMongod, TRANSACTION_LIFE};
use super::own_server::{Authority, replace_file};
use super::*;

/// Counting that goes on while its address changes.
struct FileArchive {
    file: PathBuf,
    archive: Arc<MongoArchive>,
    progress: watch::Receiver<Progress>,
    counting: tokio::task::JoinHandle<()>,
}

impl FileArchive {
    /// Counts on an archive whose address is in a file.
    async fn count_as(mongod: &OwnMongod, uri: &str, ca_file: Option<PathBuf>) -> Self {
        let file = mongod.file("uri");
        replace_file(&file, uri);
        let config =
            MongoConfig { uri: SecretSource::File(file.clone()), database: DATABASE.to_owned(), ca_file };
        let archive = Arc::new(open_archive(&config).await);
        let (sender, progress) = watch::channel(Progress::default());
        let counting = tokio::spawn(count_on(Arc::clone(&archive), sender));
        let mut counted = Self { file, archive, progress, counting };
        counted.wait_for_more(10).await;
        counted
    }

    /// Waits until `count` more batches are committed.
    async fn wait_for_more(&mut self, count: u64) {
        let before = self.progress.borrow().committed;
        wait_for(&mut self.progress, "counting goes on", |now| now.committed > before + count).await;
    }

    /// Ends the counting. Each event was counted once.
    async fn end(self) {
        assert!(!self.counting.is_finished(), "no failure was final");
        self.counting.abort();
        assert!(self.counting.await.unwrap_err().is_cancelled());
        let positions = self.archive.partition_positions(&[0]).await.unwrap();
        let video = self.archive.video(&VideoId::parse("v").unwrap()).await.unwrap().unwrap();
        assert_eq!(video.counters.views, positions[0].next_offset as i64, "each event once");
    }
}

fn config_of(uri: String) -> MongoConfig {
    MongoConfig { database: DATABASE.to_owned(), ..MongoConfig::new(uri) }
}

/// Returns the session that owns partition 0.
async fn owning_session(mongod: &OwnMongod) -> Bson {
    let offsets = mongod.root.database(DATABASE).collection::<Document>("offsets");
    let found = offsets.find_one(doc! { "_id": 0_i64 }).await.unwrap().unwrap();
    found.get("session").unwrap().clone()
}

/// Returns the number of connections that a user's password was good for.
async fn accepted_logins(mongod: &OwnMongod) -> i64 {
    let status = mongod.root.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let mechanisms = status.get_document("security").unwrap().get_document("authentication").unwrap();
    let scram = mechanisms.get_document("mechanisms").unwrap().get_document("SCRAM-SHA-256").unwrap();
    scram.get_document("authenticate").unwrap().get_i64("successful").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_or_with_a_wrong_password_is_refused_by_name() {
    let mongod = OwnMongod::start(&Authority::new("a")).await;
    mongod.make_user("app", "good", &["readWrite"]).await;
    mongod.make_user("nobody", "good", &[]).await;
    let open = async |user: &str, password: &str| {
        let archive = MongoArchive::new(config_of(mongod.uri(user, password))).await.unwrap();
        archive.open(&CountingRules::default()).await.map(drop)
    };
    let error = open("nobody", "good").await.unwrap_err();
    assert!(!error.is_transient() && error.store_name() == "mongodb", "{error}");
    assert!(error.to_string().contains("not authorized on rights"), "{error}");
    let error = open("app", "wrong").await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("the login is refused"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    open("app", "good").await.unwrap();
}

/// A password in a setting stays the same for as long as the process runs, so it is of no use to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_waited_for_only_if_it_is_in_a_file() {
    let mongod = OwnMongod::start(&Authority::new("a")).await;
    mongod.make_user("app", "old", &["readWrite"]).await;
    let proxy = Proxy::before(mongod.port(), None).await;
    let uri = mongod.uri("app", "old").replace(&mongod.port().to_string(), &proxy.ports.proxy.to_string());
    let file = mongod.file("uri");
    replace_file(&file, &uri);
    let in_file = MongoConfig { uri: SecretSource::File(file), ..config_of(uri.clone()) };
    let (fixed, in_file) = (open_archive(&config_of(uri)).await, open_archive(&in_file).await);
    for archive in [&fixed, &in_file] {
        archive.claim_partitions(&[0]).await.unwrap();
    }
    let changed = doc! { "updateUser": "app", "pwd": "new" };
    mongod.root.database(DATABASE).run_command(changed).await.unwrap();
    // Until both have lost their connections, for which the former password was good.
    proxy.set(Mode::Cut);
    for archive in [&fixed, &in_file] {
        let begun = Instant::now();
        while archive.partition_positions(&[0]).await.is_ok() {
            assert!(begun.elapsed() < TEST_TIMEOUT, "the connections are cut");
        }
    }
    proxy.set(Mode::Open);
    let view = batch(0, 0, &[json!({"video_id": "v", "user_id": "u", "type": "view"})]);
    for (archive, text, is_transient) in
        [(&fixed, "the login is refused", false), (&in_file, "waiting for a file", true)]
    {
        let begun = Instant::now();
        let mut seen = [false; 2];
        while seen != [true; 2] {
            assert!(begun.elapsed() < TEST_TIMEOUT, "{text}: {seen:?}");
            let reading = archive.partition_positions(&[0]).await.unwrap_err();
            let Err(CommitError::Store(committing)) = archive.commit_batch(&view).await else {
                panic!("the password is refused")
            };
            for (seen, error) in seen.iter_mut().zip([reading, committing]) {
                // The connections that were lost are an error that passes, once or twice.
                let is_refusal = error.to_string().contains(text);
                assert_eq!(is_refusal && !is_transient, !error.is_transient(), "{error}");
                *seen |= is_refusal;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_user_without_rights_is_not_used() {
    let mongod = OwnMongod::start(&Authority::new("a")).await;
    mongod.make_user("app", "good", &["readWrite"]).await;
    mongod.make_user("nobody", "good", &[]).await;
    let mut counted = FileArchive::count_as(&mongod, &mongod.uri("app", "good"), None).await;
    let (session, logins) = (owning_session(&mongod).await, accepted_logins(&mongod).await);
    replace_file(&counted.file, &mongod.uri("nobody", "good"));
    let begun = Instant::now();
    while accepted_logins(&mongod).await == logins {
        assert!(begun.elapsed() < TEST_TIMEOUT, "the changed user is tried");
    }
    counted.wait_for_more(100).await;
    assert_eq!(owning_session(&mongod).await, session, "the former user serves");
    assert_eq!(counted.progress.borrow().failures, 0);
    counted.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_goes_on_as_another_user_and_loses_nothing() {
    let mongod = OwnMongod::start(&Authority::new("a")).await;
    for user in ["app-1", "app-2", "app-3"] {
        mongod.make_user(user, "good", &["readWrite"]).await;
    }
    let mut counted = FileArchive::count_as(&mongod, &mongod.uri("app-1", "good"), None).await;
    let mut shortest = Duration::MAX;
    for (former, user) in [("app-1", "app-2"), ("app-2", "app-3")] {
        let session = owning_session(&mongod).await;
        // The longest time without a commit until the new user's session is the owner.
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        replace_file(&counted.file, &mongod.uri(user, "good"));
        let begun = Instant::now();
        while owning_session(&mongod).await == session {
            assert!(begun.elapsed() < TEST_TIMEOUT, "{user} takes over");
            counted.wait_for_more(0).await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        counted.wait_for_more(0).await;
        shortest = shortest.min(longest.max(last.elapsed()));
        mongod.root.database(DATABASE).run_command(doc! { "dropUser": former }).await.unwrap();
        counted.wait_for_more(10).await;
    }
    println!("stood still for {shortest:?}");
    assert_eq!(counted.progress.borrow().failures, 0, "nobody notices");
    assert!(shortest < Duration::from_secs(2), "stood still for {shortest:?}");
    counted.end().await;
}

/// A consumer is killed within a commit, and the one after it comes as another user, who may not end the sessions of the
/// former one: what the commit locked stays locked for as long as the server lets a transaction live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_another_user_left_open_holds_up_for_the_life_of_a_transaction_and_loses_nothing() {
    let mongod = OwnMongod::start(&Authority::new("a")).await;
    for user in ["app-1", "app-2"] {
        mongod.make_user(user, "good", &["readWrite"]).await;
    }
    let former = open_archive(&config_of(mongod.uri("app-1", "good"))).await;
    let view = |from| batch(0, from, &[json!({"video_id": "v", "user_id": "u", "type": "view"})]);
    former.claim_partitions(&[0]).await.unwrap();
    former.commit_batch(&view(0)).await.unwrap();
    let killed = Client::with_uri_str(mongod.uri("app-1", "good")).await.unwrap();
    let offsets = killed.database(DATABASE).collection::<Document>("offsets");
    let mut open = killed.start_session().await.unwrap();
    let noted = doc! { "$set": { "session": open.id().get("id").unwrap().clone() } };
    offsets.update_one(doc! { "_id": 0_i64 }, noted).await.unwrap();
    open.start_transaction().await.unwrap();
    let next = doc! { "$inc": { "next": 1_i64 } };
    offsets.update_one(doc! { "_id": 0_i64 }, next).session(&mut open).await.unwrap();

    let begun = Instant::now();
    let next = open_archive(&config_of(mongod.uri("app-2", "good"))).await;
    let position = loop {
        match next.claim_partitions(&[0]).await {
            Ok(positions) => break positions[0].next_offset,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(begun.elapsed() < TRANSACTION_LIFE + TEST_TIMEOUT, "{error}");
            }
        }
    };
    let took = begun.elapsed();
    println!("held up for {took:?}");
    assert_eq!(position, 1, "what was not committed is counted by the next one");
    next.commit_batch(&view(1)).await.unwrap();
    assert!(open.commit_transaction().await.is_err(), "the server ended it");
    let video = next.video(&VideoId::parse("v").unwrap()).await.unwrap().unwrap();
    assert_eq!(video.counters.views, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_another_authority_take_no_restart() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let mongod = OwnMongod::start(&first).await;
    mongod.make_user("app", "good", &["readWrite"]).await;
    let proxy = Proxy::before(mongod.port(), None).await;
    let uri = mongod.uri("app", "good").replace(&mongod.port().to_string(), &proxy.ports.proxy.to_string());
    let ca_file = mongod.file("trusted.pem");
    replace_file(&ca_file, &first.certificate);
    let mut counted = FileArchive::count_as(&mongod, &uri, Some(ca_file.clone())).await;
    mongod.change_certificate(&second).await;
    let before = counted.progress.borrow().failures;
    proxy.set(Mode::Cut);
    wait_for(&mut counted.progress, "the loss is noticed", |now| now.failures > before).await;
    proxy.set(Mode::Open);
    let before = *counted.progress.borrow();
    wait_for(&mut counted.progress, "the server is not trusted", |now| now.failures > before.failures + 1)
        .await;
    assert_eq!(counted.progress.borrow().committed, before.committed);
    replace_file(&ca_file, &format!("{}{}", first.certificate, second.certificate));
    counted.wait_for_more(10).await;
    counted.end().await;
}
