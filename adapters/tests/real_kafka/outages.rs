//! Tests of a Kafka that is away or silent, and of members that are.

use super::*;

/// Replaces the broker's port in a broker's answer by the proxy's port, because brokers give their own address in their
/// answers.
fn rewrite_port(frame: &mut [u8], ports: Ports) {
    let host = b"127.0.0.1";
    let store = u32::from(ports.store).to_be_bytes();
    let length = host.len() + store.len();
    for at in 0..frame.len().saturating_sub(length - 1) {
        if frame[at..].starts_with(host) && frame[at + host.len()..].starts_with(&store) {
            frame[at + host.len()..at + length].copy_from_slice(&u32::from(ports.proxy).to_be_bytes());
        }
    }
}

async fn fresh_topic_behind_proxy() -> (Proxy, FreshTopic) {
    let port = broker_addresses().rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = Proxy::before(port, Some(rewrite_port)).await;
    let mut config = fresh_topic();
    config.0.brokers = format!("127.0.0.1:{}", proxy.ports.proxy);
    (proxy, config)
}

/// What callers noticed of an outage.
#[derive(Debug)]
struct NoticedOutage {
    /// The time after which appends were refused at once.
    opened: Duration,
    /// The time that the slowest but ten of a thousand refused appends took.
    refused: Duration,
    /// The time after which appends were accepted again.
    recovered: Duration,
}

impl NoticedOutage {
    fn was_short(&self) -> bool {
        self.opened < Duration::from_secs(8)
            && self.refused < Duration::from_millis(100)
            && self.recovered < Duration::from_secs(15)
    }
}

/// Several tries, because a machine that stops everything for a few seconds stops this test, too. An append that waits
/// for a broker, and a breaker that does not open, take long each time.
async fn check_outage(mode: Mode) {
    let mut noticed: Vec<NoticedOutage> = Vec::new();
    while noticed.last().is_none_or(|last| !last.was_short()) {
        assert!(noticed.len() < 4, "{mode:?}: {noticed:?}");
        noticed.push(notice_outage(mode).await);
    }
}

async fn notice_outage(mode: Mode) -> NoticedOutage {
    let (proxy, config) = fresh_topic_behind_proxy().await;
    let log = open_log(&config).await;
    append(&log, b"k", b"before".to_vec()).await;

    proxy.set(mode);
    // Appends go on as in production: the first ones may wait, and then they fail at once.
    let opened = wait_until("the breaker opens", async || {
        let slow = tokio::time::timeout(Duration::from_millis(50), log.append(b"k", b"lost?".to_vec())).await;
        assert!(!matches!(slow, Ok(Ok(_))), "acknowledged without a broker");
        log.check_writable().is_err()
    })
    .await;
    let mut took = Vec::new();
    for _ in 0..1000 {
        let begun = Instant::now();
        let refused = log.append(b"k", b"refused".to_vec()).await;
        assert!(
            matches!(&refused, Err(AppendError::Unavailable(error)) if error.is_transient()),
            "{refused:?}"
        );
        took.push(begun.elapsed());
    }
    took.sort_unstable();

    proxy.set(Mode::Open);
    let recovered = wait_until("the breaker closes by itself", async || log.check_writable().is_ok()).await;
    let place = append(&log, b"k", b"after".to_vec()).await;
    let mut member = CountingMember::join(&*log).await;
    member.read_until(place.offset as usize + 1).await;
    let values: Vec<_> = member.records.iter().map(|record| &record.value[..]).collect();
    assert_eq!((values[0], values[values.len() - 1]), (&b"before"[..], &b"after"[..]));
    assert!(!values.contains(&&b"refused"[..]), "what was refused at once was never sent");
    NoticedOutage { opened, refused: took[989], recovered }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_broker_is_refused_at_once_and_comes_back() {
    check_outage(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_refused_at_once_and_comes_back() {
    check_outage(Mode::Stalled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_survives_its_broker() {
    let (proxy, config) = fresh_topic_behind_proxy().await;
    let log = open_log(&config).await;
    let mut member = CountingMember::join(&*log).await;
    append(&log, b"k", b"before".to_vec()).await;
    member.read_until(1).await;
    proxy.set(Mode::Cut);
    let told = wait_until("polls tell that the broker is away", async || {
        match member.consumer.next_event(10, Duration::from_millis(50)).await {
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                true
            }
            Ok(_) => false,
        }
    })
    .await;
    assert!(told < Duration::from_secs(10), "{told:?}");
    proxy.set(Mode::Open);
    wait_until("the log is back", async || log.append(b"k", b"after".to_vec()).await.is_ok()).await;
    wait_until("reading goes on", async || {
        match member.consumer.next_event(10, Duration::from_millis(50)).await {
            Ok(ConsumerEvent::Records(records)) => records[0].value == "after",
            Ok(ConsumerEvent::Assigned(partitions)) => {
                let offsets: Vec<_> =
                    partitions.into_iter().map(|at| ReadStart::without_previous(at, 1)).collect();
                member.consumer.start_partitions(&offsets).await.unwrap();
                false
            }
            _ => false,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_without_a_broker_is_an_error() {
    let config = KafkaConfig::new("127.0.0.1:1");
    let begun = Instant::now();
    let error = KafkaLog::new(config).unwrap().open().await.unwrap_err();
    assert!(error.is_transient() && error.store_name() == "kafka", "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// Returns the time that a second member waits for the partitions of a member that falls silent, with a session of two
/// seconds.
async fn take_over_from_silent_member() -> Duration {
    let mut topic = fresh_topic();
    topic.0.session_timeout = Duration::from_secs(2);
    let (proxy, mut behind) = fresh_topic_behind_proxy().await;
    behind.0.clone_from(&KafkaConfig { brokers: behind.brokers.clone(), ..topic.0.clone() });
    let (log, silent_log) = (open_log(&topic).await, open_log(&behind).await);
    let mut silent = CountingMember::join(&*silent_log).await;
    let partitions = CREATED_PARTITION_COUNT as usize;
    wait_until("the only member has all partitions", async || {
        silent.poll_once().await;
        silent.owned.len() == partitions
    })
    .await;
    proxy.set(Mode::Stalled);
    let mut other = CountingMember::join(&*log).await;
    wait_until("the other member has all partitions", async || {
        other.poll_once().await;
        other.owned.len() == partitions
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_session_gives_the_partitions_of_a_silent_member_away_sooner() {
    // Several tries, because some take long on a busy machine. With the default of six seconds none would be in time: a
    // silent member would keep its partitions for that long.
    let mut took = Vec::new();
    while took.last().is_none_or(|last| *last >= Duration::from_secs(5)) {
        assert!(took.len() < 4, "{took:?}");
        took.push(take_over_from_silent_member().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_timeout_that_brokers_refuse_is_named() {
    let mut config = fresh_topic();
    config.0.session_timeout = Duration::from_secs(1);
    let log = open_log(&config).await;
    let said = CountingMember::join(&*log).await.read_until_refused().await;
    assert!(
        said.contains("refuse the session timeout") && said.contains("group.min.session.timeout.ms"),
        "{said}"
    );
}
