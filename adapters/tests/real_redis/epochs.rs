//! The epochs and terms that Redis mints are those of `liverank_core::epoch::mint_epoch`, which the simulation of the hand-over asks.

use std::time::{SystemTime, UNIX_EPOCH};

use liverank_adapters::assignment_store::{AssignmentStore, SwapOutcome, redis::RedisAssignments};
use liverank_core::epoch::{is_plausible_epoch, latest_possible_epoch, mint_epoch};

use super::{RedisAdmin, assign_minted, link_to_empty_database, mint_term, reader_share, video};

/// The first byte of the identity of the server process.
async fn server_byte(redis: &mut RedisAdmin) -> u8 {
    let info: String = redis.run_command(&["INFO", "server"]).await;
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap();
    u8::from_str_radix(&id[..2], 16).unwrap()
}

/// Counters are ahead of the clock, so that the clock does not show in what is minted.
#[tokio::test]
async fn another_server_jumps_as_far_as_core_says() {
    let (link, mut redis) = link_to_empty_database(3, "t3:").await;
    let store = RedisAssignments::new(link);
    let server = server_byte(&mut redis).await;
    let assign = async |id: &str, seen| assign_minted(&store, id, seen).await;
    let mint = async |expected, seen| mint_term(&store, expected, seen).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let ahead = now + 3_600_000_000;
    let counter = ahead.to_string();
    let state = ["epoch", &counter, "epoch:server", "another", "term", &counter, "term:server", "another"];
    redis.run_command::<u64>(&[&["HSET", "t3:assignments:state"], &state[..]].concat()).await;

    let (epoch, term) = (assign("first", 0).await, mint(ahead, 0).await);
    assert_eq!(epoch, mint_epoch(ahead, 0, now, Some(server)), "the first epoch on another server");
    assert_eq!(term, mint_epoch(ahead, 0, now, Some(server)), "the first term on another server");
    let (next, next_term) = (assign("second", 0).await, mint(term, 0).await);
    assert_eq!(next, mint_epoch(epoch, 0, 0, None), "the next one on the same server");
    assert_eq!(next_term, mint_epoch(term, 0, 0, None));
    // Who has seen more than was counted here has it from another server.
    let (seen, seen_term) = (next + 5, next_term + 5);
    assert_eq!(assign("third", seen).await, mint_epoch(next, seen, now, Some(server)));
    assert_eq!(mint(next_term, seen_term).await, mint_epoch(next_term, seen_term, now, Some(server)));
}

/// Counters are almost as far ahead as they may be, as after many servers that took over, or because somebody reported
/// the greatest epoch that is believed.
#[tokio::test]
async fn another_server_jumps_to_no_epoch_that_is_implausible() {
    let (link, mut redis) = link_to_empty_database(1, "t1:").await;
    let store = RedisAssignments::new(link);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let counter = (latest_possible_epoch(now) - 1_000_000).to_string();
    let mut before: u64 = counter.parse().unwrap();
    let mut term_before = before;
    for turn in 0..3 {
        let state =
            ["epoch:server", "another", "term:server", "another", "epoch", &counter, "term", &counter];
        let fields = if turn == 0 { &state[..] } else { &state[..4] };
        redis.run_command::<u64>(&[&["HSET", "t1:assignments:state"], fields].concat()).await;
        let id = format!("video-{turn}");
        let (epoch, term) =
            (assign_minted(&store, &id, before).await, mint_term(&store, term_before, 0).await);
        assert!(epoch > before && term > term_before, "they only grow");
        let minted_by = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        for minted in [epoch, term] {
            assert!(is_plausible_epoch(minted, minted_by), "{minted} can have been minted");
        }
        (before, term_before) = (epoch, term);
    }
    let loaded = store.load_assignments().await.unwrap().assignments.len();
    assert_eq!(loaded, 3, "each is in force");
}

#[tokio::test]
async fn assignments_are_read_in_pieces_and_what_was_never_minted_is_left_out() {
    const COUNT: usize = 12_345;
    let (link, mut redis) = link_to_empty_database(4, "t4:").await;
    let store = RedisAssignments::new(link);
    let stored = r#"{"format":1,"epoch":7,"readers":[{"reader":"r","weight":1}]}"#;
    let ids: Vec<String> = (0..COUNT).map(|number| format!("video-{number}")).collect();
    for piece in ids.chunks(1_000) {
        let fields = piece.iter().flat_map(|id| [id.as_str(), stored]);
        let words: Vec<&str> = ["HSET", "t4:assignments"].into_iter().chain(fields).collect();
        redis.run_command::<u64>(&words).await;
    }
    let epochs = ["9007199254740991", "18446744073709551616", "1e30"];
    for epoch in epochs {
        let never = stored.replace('7', epoch);
        redis.run_command::<u64>(&["HSET", "t4:assignments", epoch, &never]).await;
    }
    let loaded = store.load_assignments().await.unwrap();
    assert_eq!(loaded.version, store.assignments_version().await.unwrap());
    let mut known: Vec<String> = loaded.assignments.iter().map(|it| it.video_id.to_string()).collect();
    known.sort();
    let mut expected = ids;
    expected.sort();
    assert_eq!(known, expected);
    versions_are_healed(&store, &mut redis).await;
}

/// A version that cannot be counted on from is replaced by another one.
async fn versions_are_healed(store: &RedisAssignments, redis: &mut RedisAdmin) {
    for wrong in ["none", "9223372036854775807", "-4", ""] {
        redis.run_command::<u64>(&["HSET", "t4:assignments:state", "version", wrong]).await;
        let id = format!("healed-{wrong}");
        let assigned = store.assign_video(&video(&id), None, &[reader_share("r")], 0, None).await.unwrap();
        assert!(matches!(assigned, SwapOutcome::Stored(_)), "{wrong}: {assigned:?}");
        assert!(store.assignments_version().await.unwrap() > 1_000_000);
    }
}
