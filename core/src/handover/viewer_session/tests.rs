use super::*;

const RETRY_POLICY: RetryPolicy = RetryPolicy {
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(1),
    stable_after: Duration::from_secs(2),
    give_up_after: Duration::from_secs(30),
};

fn at_ms(ms: u64) -> ElapsedTime {
    Duration::from_millis(ms)
}

fn session(last_id: &str) -> ViewerSession {
    ViewerSession::new(at_ms(0), last_id.to_owned(), RETRY_POLICY)
}

#[test]
fn a_viewer_that_has_seen_no_comment_resumes_from_its_greeting() {
    let mut viewer = session("");
    assert_eq!(viewer.last_id(), "");
    assert!(!viewer.lacks_position());
    assert!(viewer.note_greeting());
    assert!(viewer.lacks_position(), "it cannot say where it stands");
    viewer.note_position("n-7");
    assert!(!viewer.lacks_position());
    assert!(!viewer.note_greeting(), "the client has had one");
    assert_eq!(viewer.last_id(), "n-7");
}

#[test]
fn the_client_s_last_id_is_passed_on_until_a_later_one_comes() {
    let mut viewer = session("what is this?");
    assert_eq!(viewer.last_id(), "what is this?");
    viewer.note_position("n-8");
    assert_eq!(viewer.last_id(), "n-8");
}

#[test]
fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_stream() {
    let mut viewer = session("");
    let mut pause = |now| match viewer.next_step_after_loss(now, u32::MAX) {
        SessionStep::AskForReader { at, choice } => (at.saturating_sub(now).as_millis(), choice),
        SessionStep::GiveUp => panic!("gives up"),
    };
    let pauses: Vec<_> = (0..4).map(|_| pause(at_ms(10))).collect();
    assert_eq!(pauses, [(250, 0), (500, 1), (1_000, 2), (1_000, 3)]);
    viewer.note_stream_opened(at_ms(100));
    assert!(
        matches!(viewer.next_step_after_loss(at_ms(2_100), 0), SessionStep::AskForReader { at, choice: 0 } if at == at_ms(2_100))
    );
}

#[test]
fn a_stream_that_ends_at_once_is_one_more_failure() {
    let mut viewer = session("");
    viewer.next_step_after_loss(at_ms(0), 0);
    viewer.note_stream_opened(at_ms(10));
    assert!(matches!(viewer.next_step_after_loss(at_ms(20), 0), SessionStep::AskForReader { choice: 1, .. }));
}

#[test]
fn a_session_gives_up_after_its_last_retry() {
    let mut viewer = session("");
    assert!(matches!(viewer.next_step_after_loss(at_ms(29_999), 0), SessionStep::AskForReader { .. }));
    assert_eq!(viewer.next_step_after_loss(at_ms(30_000), 0), SessionStep::GiveUp);
}
