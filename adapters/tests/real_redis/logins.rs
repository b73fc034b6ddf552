//! A user of Redis whose password changes while the stores are in use.

use std::path::PathBuf;

use liverank_adapters::SecretSource;
use tokio::sync::watch;

use super::*;

/// The number of comments that have to be published after each step.
const COMMENTS_A_STEP: u64 = 20;

/// A user of Redis, and the file with the address and the user's password.
pub struct FileUser {
    name: String,
    pub admin: RedisAdmin,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl FileUser {
    /// Makes a user that may do everything.
    pub async fn new(password: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = format!("test-{:016x}", rand::random::<u64>());
        let file = directory.path().join("url");
        let mut user = Self { name, admin: RedisAdmin::new(0).await, file, _directory: directory };
        user.change(&["on", "~*", "&*", "+@all", &format!(">{password}")]).await;
        user.write_file(password);
        user
    }

    fn write_file(&self, password: &str) {
        let url = redis_url().replace("redis://", &format!("redis://{}:{password}@", self.name));
        let whole = self.file.with_extension("whole");
        std::fs::write(&whole, format!("{url}\n")).unwrap();
        std::fs::rename(whole, &self.file).unwrap();
    }

    /// Returns a link whose names begin with that of the user.
    pub fn link(&self) -> Arc<RedisLink> {
        let prefix = format!("{}:", self.name);
        let url = SecretSource::File(self.file.clone());
        RedisLink::new(RedisConfig { url, is_cluster: false, prefix, ca_file: None }).unwrap()
    }

    async fn change(&mut self, rules: &[&str]) {
        let name = self.name.clone();
        self.admin.run_command::<()>(&[&["ACL", "SETUSER", &name], rules].concat()).await;
    }

    /// Closes all connections of the user; returns how many.
    pub async fn kill_connections(&mut self) -> usize {
        let name = self.name.clone();
        self.admin.run_command(&["CLIENT", "KILL", "USER", &name]).await
    }

    /// Returns the name of a key of the user's links.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.name)
    }

    pub async fn delete(mut self) {
        let name = self.name.clone();
        self.admin.run_command::<()>(&["ACL", "DELUSER", &name]).await;
    }
}

/// Publishes comments without end, each until Redis has it, as a consumer does. Every failure has to be one that passes.
async fn publish_on(bus: Arc<RedisBus>, published: watch::Sender<u64>) {
    for seq in 1.. {
        let comment = comment("v", seq);
        while let Err(error) = bus.publish_comments(&comment_epoch(), std::slice::from_ref(&comment)).await {
            assert!(error.is_transient(), "{error}");
        }
        published.send_replace(seq);
    }
}

/// The comments that were published, and the losses of the subscription.
struct Traffic {
    published: watch::Receiver<u64>,
    losses: watch::Receiver<u64>,
}

impl Traffic {
    /// Closes the user's connections, and waits until more comments are published and the subscription stands again.
    async fn lose_connections(&mut self, user: &mut FileUser) {
        let (published, losses) = (*self.published.borrow(), *self.losses.borrow());
        assert!(user.kill_connections().await >= 2, "one for commands, one for the subscription");
        wait_for_more(&mut self.published, published + COMMENTS_A_STEP).await;
        wait_for_more(&mut self.losses, losses).await;
    }
}

async fn wait_for_more(count: &mut watch::Receiver<u64>, than: u64) {
    let more = tokio::time::timeout(TEST_TIMEOUT, count.wait_for(|count| *count > than)).await;
    more.expect("goes on in time").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_goes_on_with_a_changed_password_whether_server_or_file_has_it_first() {
    let mut user = FileUser::new("0").await;
    let bus = Arc::new(RedisBus::new(connected(user.link()).await));
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    let (loss_count, losses) = watch::channel(0);
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.recv().await {
            loss_count.send_modify(|losses| *losses += u64::from(delivery == Delivery::Reset));
        }
    });
    let (sender, published) = watch::channel(0);
    let publishing = tokio::spawn(publish_on(Arc::clone(&bus), sender));
    let mut traffic = Traffic { published, losses };
    wait_for_more(&mut traffic.published, COMMENTS_A_STEP).await;
    for round in 0..4_u32 {
        let (old, new) = (round.to_string(), (round + 1).to_string());
        if round % 2 == 0 {
            user.change(&[&format!(">{new}")]).await;
            user.write_file(&new);
        } else {
            user.write_file(&new);
            traffic.lose_connections(&mut user).await;
            user.change(&[&format!(">{new}")]).await;
        }
        user.change(&[&format!("<{old}")]).await;
        traffic.lose_connections(&mut user).await;
    }
    assert!(!publishing.is_finished(), "no failure was final");
    publishing.abort();
    let last = *traffic.published.borrow();
    let from = last.saturating_sub(KEPT_COMMENTS_PER_VIDEO as u64 / 2);
    let kept =
        bus.recent_comments(&comment_epoch(), &video("v"), from, (last - from) as usize).await.unwrap();
    assert_eq!(kept, Some(comments("v", from + 1..=last)), "what was published is there, in order");
    user.delete().await;
}

#[tokio::test]
async fn a_login_that_was_good_and_is_refused_is_waited_for_and_one_that_never_was_is_an_error() {
    let mut user = FileUser::new("old").await;
    let store = RedisRanking::new(connected(user.link()).await);
    user.change(&[">new", "<old"]).await;
    store.checkpoint().await.expect("open connections stay");
    assert!(user.kill_connections().await >= 1);
    let begun = Instant::now();
    let error = loop {
        assert!(begun.elapsed() < TEST_TIMEOUT, "nothing says what is waited for");
        match store.checkpoint().await {
            Err(error) if error.to_string().contains("waiting for") => break error,
            Ok(_) => panic!("the old password is refused"),
            // The first command finds its connection closed.
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert!(error.is_transient(), "{error}");
    let late = RedisRanking::new(user.link());
    let late = retry(TEST_TIMEOUT, async || late.checkpoint().await).await.unwrap_err();
    assert!(!late.is_transient() && !late.to_string().contains("old"), "{late}");
    user.write_file("new");
    let begun = Instant::now();
    while let Err(error) = store.checkpoint().await {
        assert!(error.is_transient() && begun.elapsed() < TEST_TIMEOUT, "{error}");
    }
    user.delete().await;
}
