//! The checks that every archive must pass; each panics with the promise and with what the archive did instead.
#![allow(clippy::unwrap_used, reason = "a suite of checks: the panic is its answer")]

use std::future::Future;
use std::sync::Arc;

use liverank_core::counting::CountingRules;
use liverank_core::score::Weights;

use liverank_adapters::Archive;

mod comments;
pub mod copied;
mod counting;
mod decays;
mod erasure;
mod identities;
mod log;
mod moderation;
mod rebuilds;
mod reports;
mod unique;
mod windows;
mod writers;

/// Runs every check, each on an archive of its own: `fresh` returns a new, empty archive that has not been opened.
pub async fn suite<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Archive>>,
{
    first_opener_sets_the_rules(&*fresh().await).await;
    one_concurrent_opener_sets_the_rules(&*fresh().await).await;
    let archive = async || {
        let archive = fresh().await;
        archive.open(&CountingRules::default()).await.expect("a fresh archive opens");
        archive
    };
    counting::a_fresh_archive_is_empty(&*archive().await).await;
    counting::a_batch_takes_effect_and_says_what_it_did(&*archive().await).await;
    counting::a_batch_is_applied_once(&*archive().await).await;
    counting::one_fenced_partition_refuses_the_batch(&*archive().await).await;
    counting::unreadable_records_are_stepped_over(&*archive().await).await;
    counting::the_archive_s_rules_decide_on_scores(&*fresh().await).await;
    counting::videos_are_walked_in_byte_order(&*archive().await).await;
    counting::a_large_batch_is_committed(&*archive().await).await;
    counting::random_batches_match_the_core_model(&*archive().await).await;
    comments::comments_are_numbered_without_a_hole(&*archive().await).await;
    comments::comments_are_read_in_pages(&*archive().await).await;
    comments::a_reply_is_kept_with_what_it_replies_to(&*archive().await).await;
    comments::comments_are_found_by_where_they_came_from(&*archive().await).await;
    comments::newest_comment_of_an_id_is_returned(&*archive().await).await;
    identities::a_repeat_counts_once(&*archive().await).await;
    identities::forgetting_is_by_the_log_s_time(&*archive().await).await;
    identities::identities_seen_again_are_kept(&*archive().await).await;
    moderation::deleted_comments_are_gone(&*archive().await).await;
    moderation::restrictions_are_followed_by_revision(&*archive().await).await;
    moderation::rules_of_comments_are_in_the_order_of_restrictions(&*archive().await).await;
    moderation::everything_that_was_done_is_in_the_audit_log(&*archive().await).await;
    moderation::the_last_pin_is_in_force_while_its_comment_is(&*archive().await).await;
    moderation::a_shadowed_comment_is_numbered_and_counts_for_nothing(&*archive().await).await;
    moderation::a_held_comment_waits_beside_the_channel(&*archive().await).await;
    moderation::moderation_is_read_in_partition_order(&*archive().await).await;
    moderation::a_replay_removes_again(&*archive().await).await;
    erasure::a_user_s_entries_are_found_part_by_part_and_erased(&*archive().await).await;
    erasure::owned_marked_and_held_data_is_erased(&*fresh().await).await;
    erasure::a_replay_erases_again(&*archive().await).await;
    reports::a_report_counts_once_and_a_decision_ends_them(&*archive().await).await;
    reports::queues_are_in_order_and_paged(&*archive().await).await;
    reports::a_replay_reports_again(&*archive().await).await;
    unique::unique_events_count_once_per_user(&*fresh().await).await;
    unique::a_replay_marks_again(&*fresh().await).await;
    unique::a_rescore_may_add_types_and_no_more(&*fresh().await).await;
    decays::scores_decay_by_half_lives_of_their_own(&*fresh().await).await;
    decays::a_later_decay_reports_its_start(&*archive().await).await;
    decays::a_replay_makes_decayed_scores_again(&*fresh().await).await;
    windows::windows_are_counted_with_their_videos(&*fresh().await).await;
    windows::a_later_window_kind_reports_its_start(&*archive().await).await;
    windows::old_windows_are_forgotten(&*archive().await).await;
    windows::a_replay_counts_windows_again(&*fresh().await).await;
    writers::writers_of_one_video_serialise(&*archive().await).await;
    writers::of_two_writers_of_a_partition_one_wins(&*archive().await).await;
    rebuilds::last_record_fingerprint_is_returned(&*archive().await).await;
    rebuilds::a_generation_is_bumped(&*archive().await).await;
    rebuilds::scores_change_and_counts_stay(&*archive().await).await;
    rebuilds::commits_race_with_rescores(&*archive().await).await;
    rebuilds::a_replay_gives_the_same_archive(&*archive().await).await;
    rebuilds::a_renumbering_replay_reports_it(&*archive().await).await;
    rebuilds::a_replay_can_be_discarded(&*archive().await).await;
    rebuilds::identities_are_looked_up(&*archive().await).await;
}

async fn first_opener_sets_the_rules(archive: &dyn Archive) {
    assert_eq!(archive.archive_meta().await.unwrap(), None, "nobody has opened it");
    let rules = CountingRules {
        weights: Weights { like: 333, ..Weights::default() },
        half_life_ms: 1234,
        ..CountingRules::default()
    };
    let first = archive.open(&rules).await.unwrap();
    assert_eq!(first.counting_rules, rules, "the first opener's rules are in force");
    assert_eq!(archive.open(&CountingRules::default()).await.unwrap(), first, "later openers' rules are not");
    assert_eq!(archive.archive_meta().await.unwrap(), Some(first));
}

async fn one_concurrent_opener_sets_the_rules(archive: &dyn Archive) {
    let wanted: Vec<CountingRules> =
        (1..=8).map(|at| CountingRules { half_life_ms: at, ..CountingRules::default() }).collect();
    let opened = futures::future::join_all(wanted.iter().map(|rules| archive.open(rules))).await;
    let first = opened[0].clone().unwrap();
    for meta in opened {
        assert_eq!(meta.unwrap(), first, "all openers are told the same");
    }
    assert!(wanted.contains(&first.counting_rules), "one of them decided: {first:?}");
}
