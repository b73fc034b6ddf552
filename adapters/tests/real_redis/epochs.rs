//! The epochs and terms that Redis mints are those of `liverank_core::epoch::mint_epoch`, which the simulation of the hand-over asks.

use std::time::{SystemTime, UNIX_EPOCH};

use liverank_adapters::assignment_store::{AssignmentStore, SwapOutcome, TermGrant, redis::RedisAssignments};
use liverank_core::epoch::mint_epoch;

use super::{RedisAdmin, link_to_empty_database, reader_share, video};

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
    let assign = async |id: &str, seen| match store
        .assign_video(&video(id), None, &[reader_share("r")], seen, None)
        .await
        .unwrap()
    {
        SwapOutcome::Stored(stored) => stored.epoch(),
        other => panic!("nobody else is here, not {other:?}"),
    };
    let mint = async |expected, seen| match store.mint_term("p", None, expected, seen).await.unwrap() {
        TermGrant::Held(term) => term.term,
        TermGrant::Lost(other) => panic!("nobody else is here, not {other:?}"),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let ahead = now + 3_600_000_000;
    let counter = ahead.to_string();
    let state = ["epoch", &counter, "epoch:server", "another", "term", &counter, "term:server", "another"];
    redis.run_command::<u64>(&[&["HSET", "t3:assignments:state"], &state[..]].concat()).await;

    let (epoch, term) = (assign("first", 0).await, mint(ahead, 0).await);
    assert_eq!(epoch, mint_epoch(ahead, 0, 0, Some(server)), "the first epoch on another server");
    assert_eq!(term, mint_epoch(ahead, 0, 0, Some(server)), "the first term on another server");
    let (next, next_term) = (assign("second", 0).await, mint(term, 0).await);
    assert_eq!(next, mint_epoch(epoch, 0, 0, None), "the next one on the same server");
    assert_eq!(next_term, mint_epoch(term, 0, 0, None));
    // Who has seen more than was counted here has it from another server.
    let (seen, seen_term) = (next + 5, next_term + 5);
    assert_eq!(assign("third", seen).await, mint_epoch(next, seen, 0, Some(server)));
    assert_eq!(mint(next_term, seen_term).await, mint_epoch(next_term, seen_term, 0, Some(server)));
}
