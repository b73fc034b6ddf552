//! Tests of a log on a real Kafka that lost records, or is another one than before.

use rdkafka::topic_partition_list::TopicPartitionListElem;

use super::*;

/// The next offset to read has vanished: its record expired, or was deleted with its topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_offset_is_named_in_the_error() {
    let config = fresh_topic();
    let log = open_log(&config).await;
    let mut places = Vec::new();
    for at in 0..10 {
        places.push(append(&log, b"k", vec![at]).await);
    }
    let partition = places[0].partition;
    delete_before(&config, partition, 6).await;
    let mut consumer = log.join_consumer_group().await.unwrap();
    let begun = Instant::now();
    let mut told = 0;
    let mut answer = String::new();
    while told < 3 {
        assert!(begun.elapsed() < TEST_TIMEOUT, "offset 2 was skipped silently, or may come back");
        match consumer.next_event(10, Duration::from_millis(50)).await {
            Ok(ConsumerEvent::Assigned(partitions)) => {
                let offsets: Vec<_> = partitions
                    .into_iter()
                    .map(|at| ReadStart::without_previous(at, if at == partition { 2 } else { 0 }))
                    .collect();
                consumer.start_partitions(&offsets).await.unwrap();
            }
            Ok(ConsumerEvent::Idle) => {}
            Ok(other) => panic!("read instead of refused: {other:?}"),
            Err(error) if error.is_transient() => {}
            Err(error) => {
                answer = error.to_string();
                told += 1;
            }
        }
    }
    let expected = format!("partition {partition}: offset 2 is to be read next, and the log holds 6 to 10");
    assert!(answer.contains(&expected), "{answer}");
    // Once somebody has decided where to go on, reading goes on.
    consumer.start_partitions(&[ReadStart::without_previous(partition, 6)]).await.unwrap();
    let records = match retry(TEST_TIMEOUT, async || consumer.next_event(10, TEST_TIMEOUT).await).await {
        Ok(ConsumerEvent::Records(records)) => records,
        other => panic!("{other:?} instead of records"),
    };
    assert_eq!(records[0].offset, 6);
}

/// Deletes the records before an offset, as a retention does.
async fn delete_before(config: &KafkaConfig, partition: u32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&config.topic, partition as i32, Offset::Offset(before)).unwrap();
    administer(
        "deleting records",
        |_| false,
        async || {
            let deleted = admin().delete_records(&list, &admin_options()).await?;
            deleted.elements().iter().try_for_each(TopicPartitionListElem::error)
        },
    )
    .await;
}

/// Returns a log of ten records with one key, and a member that has read all of them.
async fn log_of_ten_read(config: &KafkaConfig) -> (Arc<KafkaLog>, CountingMember) {
    let log = open_log(config).await;
    for at in 0..10_u8 {
        append(&log, b"k", vec![at]).await;
    }
    let mut member = CountingMember::join(&*log).await;
    member.read_until(10).await;
    (log, member)
}

/// Deletes the topic and creates it again with `records` other records.
async fn recreate_topic(config: &KafkaConfig, records: usize) -> Arc<KafkaLog> {
    delete_topic(&config.topic).await;
    let begun = Instant::now();
    let log = loop {
        assert!(begun.elapsed() < TEST_TIMEOUT, "the topic is made anew");
        let log = Arc::new(KafkaLog::new(config.clone()).unwrap());
        if log.open().await.is_ok() && log.end_offsets().await.is_ok_and(|ends| ends.iter().sum::<u64>() == 0)
        {
            break log;
        }
    };
    for at in 0..records {
        let value = format!("new {at}").into_bytes();
        wait_until("the new topic takes records", async || log.append(b"k", value.clone()).await.is_ok())
            .await;
    }
    log
}

fn check_refusal_text(said: &str, config: &KafkaConfig) {
    let place = format!("topic {} partition ", config.topic);
    assert!(said.contains(&place) && said.contains("offset 10 is to be read next"), "{said}");
    assert!(said.contains("rebuild mongodb"), "it says what to do: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_recreated_between_two_runs_is_refused() {
    // The new topic is empty, shorter than what was read, one record short of it, as long, or longer.
    for records in [0, 3, 9, 10, 11, 50] {
        let config = fresh_topic();
        let (log, member) = log_of_ten_read(&config).await;
        let archive = Arc::clone(&member.archive);
        drop((member, log));
        let log = recreate_topic(&config, records).await;
        let mut member = CountingMember::with_archive(&*log, archive).await;
        check_refusal_text(&member.read_until_refused().await, &config);
        assert!(member.records.is_empty(), "{records} new records: {:?}", member.records);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_recreated_under_its_reader_is_refused() {
    for records in [3, 10, 50] {
        let config = fresh_topic();
        let (_log, mut member) = log_of_ten_read(&config).await;
        let following = tokio::spawn(async move {
            let said = member.read_until_refused().await;
            (said, member)
        });
        recreate_topic(&config, records).await;
        let (said, member) = following.await.unwrap();
        check_refusal_text(&said, &config);
        assert_eq!(
            member.records.len(),
            10,
            "nothing of the new topic, of {records} records, is read as if it were the old"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trimmed_topic_is_refused_only_where_records_are_missing() {
    let config = fresh_topic();
    let (log, member) = log_of_ten_read(&config).await;
    let partition = member.records[0].partition;
    let archive = Arc::clone(&member.archive);
    drop(member);
    for at in 10..20 {
        append(&log, b"k", vec![at]).await;
    }
    // All records that were read have expired, and no others: there is nothing to compare, and nothing is missing.
    delete_before(&config, partition, 10).await;
    let first_offsets = retry(TEST_TIMEOUT, async || log.first_offsets().await).await.unwrap();
    assert_eq!(first_offsets[partition as usize], 10);
    let mut member = CountingMember::with_archive(&*log, Arc::clone(&archive)).await;
    member.read_until(10).await;
    assert_eq!(member.records.iter().map(|at| at.value[0]).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
    drop(member);
    for at in 20..30 {
        append(&log, b"k", vec![at]).await;
    }
    delete_before(&config, partition, 25).await;
    let mut member = CountingMember::with_archive(&*log, archive).await;
    let said = member.read_until_refused().await;
    let expected = format!("partition {partition}: offset 20 is to be read next, and the log holds 25 to 30");
    assert!(said.contains(&expected) && member.records.is_empty(), "{said}");
    let stretch = ReadRange { partition, first_offset: 20, end_offset: 30, previous_record: None };
    let refused = retry(TEST_TIMEOUT, async || log.read_ranges(&[stretch]).await).await;
    let error = refused.err().expect("records of it are gone");
    assert!(error.to_string().contains(&expected), "{error}");
    let rest = [ReadRange { first_offset: 25, ..stretch }];
    let mut reader = retry(TEST_TIMEOUT, async || log.read_ranges(&rest).await).await.unwrap();
    assert_eq!(reader.next_records(100).await.unwrap()[0].value, vec![25]);
}

/// The check of the record before the first one needs no request of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_fingerprint_is_as_fast_as_one_without() {
    let config = fresh_topic();
    let log = open_log(&config).await;
    let written = join_all((0..600).map(|at| {
        let log = Arc::clone(&log);
        async move { append(&log, format!("k{at}").as_bytes(), b"v".to_vec()).await }
    }))
    .await;
    let mut member = CountingMember::join(&*log).await;
    member.read_until(written.len()).await;
    let standing = member.archive.lock().unwrap().clone();
    let mut took = [const { Vec::new() }; 2];
    // Alternately, so that both kinds run under the same load.
    for round in 0..20 {
        let marked = round % 2;
        let starts: Vec<_> = standing
            .iter()
            .map(|(at, (next, last))| {
                let mark = member.records.iter().find(|it| it.partition == *at && it.offset + 2 == *next);
                let after = mark.map(RawRecord::fingerprint).filter(|_| marked == 1);
                assert!(last.is_some() && mark.is_some(), "each partition has two records");
                ReadStart { partition: *at, offset: next - 1, previous_record: after }
            })
            .collect();
        let begun = Instant::now();
        member.consumer.start_partitions(&starts).await.unwrap();
        let mut seen = 0;
        while seen < starts.len() {
            assert!(begun.elapsed() < TEST_TIMEOUT, "only {seen} of {} partitions are read", starts.len());
            match member.consumer.next_event(500, TEST_TIMEOUT).await {
                Ok(ConsumerEvent::Records(records)) => seen += records.len(),
                Ok(_) => {}
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
        took[marked].push(begun.elapsed());
    }
    // The median: some rounds take long on a busy machine.
    let [unmarked, marked] = took.each_mut().map(|took: &mut Vec<Duration>| {
        took.sort_unstable();
        took[took.len() / 2]
    });
    println!("12 partitions taken up until their first record: unmarked {unmarked:?}, marked {marked:?}");
    assert!(marked < unmarked * 2 + Duration::from_millis(50), "{took:?}");
}
