//! What becomes of the log while members come and go, and while its broker is away.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_under_load_and_nothing_is_lost() {
    let config = fresh();
    let log = open_log(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        async move {
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch =
                    (0..50).map(|at| {
                        let value = format!("{}", written.len() + at);
                        let log = &log;
                        async move {
                            (log.append(value.as_bytes(), value.clone().into_bytes()).await.unwrap(), value)
                        }
                    });
                let batch = join_all(batch).await;
                written.extend(batch);
            }
            written
        }
    });
    let archive = ArchivedOffsets::default();
    let mut first = CountingMember::with_archive(&*log, Arc::clone(&archive)).await;
    first.read_until(500).await;
    let mut moved = Vec::new();
    for _ in 0..2 {
        let mut second = CountingMember::with_archive(&*log, Arc::clone(&archive)).await;
        let begun = Instant::now();
        while second.records.len() < 500 || first.owned.len() != 6 {
            assert!(begun.elapsed() < TEST_TIMEOUT, "the second gets its share: {:?}", second.owned);
            first.poll_once().await;
            second.poll_once().await;
        }
        moved.append(&mut second.records);
        drop(second);
        let begun = Instant::now();
        while first.owned.len() != PARTITIONS as usize {
            assert!(begun.elapsed() < TEST_TIMEOUT, "the first takes over: {:?}", first.owned);
            first.poll_once().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    first.read_until(written.len() - moved.len()).await;
    let read: BTreeMap<_, _> =
        first.records.iter().chain(&moved).map(|at| ((at.partition, at.offset), at.value.to_vec())).collect();
    let written: BTreeMap<_, _> =
        written.into_iter().map(|(at, value)| ((at.partition, at.offset), value.into_bytes())).collect();
    assert_eq!(first.records.len() + moved.len(), read.len(), "nothing twice");
    assert!(read == written, "all that was acknowledged: {} of {}", read.len(), written.len());
}

/// Brokers name themselves in their answers: there, too, the proxy takes their place.
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

async fn through_a_proxy() -> (Proxy, FreshTopic) {
    let port = broker_addresses().rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = Proxy::before(port, Some(rewrite_port)).await;
    let mut config = fresh();
    config.0.brokers = format!("127.0.0.1:{}", proxy.ports.proxy);
    (proxy, config)
}

async fn check_outage(mode: Mode) {
    let (proxy, config) = through_a_proxy().await;
    let log = open_log(&config).await;
    log.append(b"k", b"before".to_vec()).await.unwrap();

    proxy.set(mode);
    // Appends go on, as they would: the first ones may wait, and then they fail at once.
    let opened = wait_until("the breaker opens", async || {
        let slow = tokio::time::timeout(Duration::from_millis(50), log.append(b"k", b"lost?".to_vec())).await;
        assert!(!matches!(slow, Ok(Ok(_))), "acknowledged without a broker");
        log.health().is_err()
    })
    .await;
    assert!(opened < Duration::from_secs(8), "{mode:?}: open after {opened:?}");
    for _ in 0..1000 {
        let begun = Instant::now();
        let refused = log.append(b"k", b"refused".to_vec()).await;
        assert!(
            matches!(&refused, Err(AppendError::Unavailable(error)) if error.is_transient()),
            "{refused:?}"
        );
        assert!(begun.elapsed() < Duration::from_millis(100), "refused after {:?}", begun.elapsed());
    }

    proxy.set(Mode::Open);
    let recovered = wait_until("the breaker closes by itself", async || log.health().is_ok()).await;
    assert!(recovered < Duration::from_secs(15), "{mode:?}: back after {recovered:?}");
    let place = log.append(b"k", b"after".to_vec()).await.unwrap();
    let mut member = CountingMember::join(&*log).await;
    member.read_until(place.offset as usize + 1).await;
    let values: Vec<_> = member.records.iter().map(|record| &record.value[..]).collect();
    assert_eq!((values[0], values[values.len() - 1]), (&b"before"[..], &b"after"[..]));
    assert!(!values.contains(&&b"refused"[..]), "what was refused at once was never sent");
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
    let (proxy, config) = through_a_proxy().await;
    let log = open_log(&config).await;
    let mut member = CountingMember::join(&*log).await;
    log.append(b"k", b"before".to_vec()).await.unwrap();
    member.read_until(1).await;
    proxy.set(Mode::Cut);
    let told = wait_until("polls tell that the broker is away", async || {
        match member.consumer.poll(10, Duration::from_millis(50)).await {
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
    wait_until("reading goes on", async || match member.consumer.poll(10, Duration::from_millis(50)).await {
        Ok(ConsumerEvent::Records(records)) => records[0].value == "after",
        Ok(ConsumerEvent::Assigned(partitions)) => {
            let offsets: Vec<_> = partitions.into_iter().map(|at| Start::unmarked(at, 1)).collect();
            member.consumer.start(&offsets).await.unwrap();
            false
        }
        _ => false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_without_a_broker_is_an_error() {
    let config = KafkaConfig::new("127.0.0.1:1");
    let begun = Instant::now();
    let error = KafkaLog::new(config).unwrap().open().await.unwrap_err();
    assert!(error.is_transient() && error.part() == "kafka", "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
