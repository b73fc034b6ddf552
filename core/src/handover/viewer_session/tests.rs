use super::*;
use crate::CommentEpoch;

const PATIENCE: RetryPolicy = RetryPolicy {
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(1),
    settled: Duration::from_secs(2),
    silence: Duration::from_secs(45),
    gives_up: Duration::from_secs(30),
};

fn at(seq: u64) -> Position {
    Position { numbering: CommentEpoch::parse("n").unwrap(), seq }
}

fn ms(ms: u64) -> Time {
    Duration::from_millis(ms)
}

#[test]
fn one_that_has_seen_no_comment_resumes_from_its_greeting() {
    let mut viewer = ViewerSession::new(ms(0), None, PATIENCE);
    assert_eq!(viewer.take(Seen::Connected(Some(at(7)))), Pass::On);
    assert_eq!(viewer.position(), Some(&at(7)));
    assert_eq!(viewer.take(Seen::Connected(Some(at(7)))), Pass::Drop);
    assert_eq!(viewer.take(Seen::Comment(at(8))), Pass::On);
    assert_eq!(viewer.position(), Some(&at(8)));
}

#[test]
fn it_passes_on_what_comes_next_and_nothing_else() {
    let mut viewer = ViewerSession::new(ms(0), Some(at(4)), PATIENCE);
    assert_eq!(viewer.take(Seen::Comment(at(4))), Pass::Drop);
    assert_eq!(viewer.take(Seen::Comment(at(6))), Pass::Broken);
    assert_eq!(viewer.take(Seen::Comment(at(5))), Pass::On);
    assert_eq!(viewer.take(Seen::Gap(at(9))), Pass::On);
    assert_eq!(viewer.take(Seen::Comment(at(10))), Pass::On);
    let other = Position { numbering: CommentEpoch::parse("m").unwrap(), seq: 11 };
    assert_eq!(viewer.take(Seen::Comment(other.clone())), Pass::Broken);
    assert_eq!(viewer.take(Seen::Gap(other)), Pass::On);
}

#[test]
fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_stream() {
    let mut viewer = ViewerSession::new(ms(0), None, PATIENCE);
    let mut pause = |now, lost| match viewer.lost(now, lost, u32::MAX) {
        Step::Ask { at, choice } => (at.saturating_sub(now).as_millis(), choice),
        step => panic!("{step:?}"),
    };
    let pauses: Vec<_> = (0..4).map(|_| pause(ms(10), Lost::Failed)).collect();
    assert_eq!(pauses, [(250, 0), (500, 1), (1_000, 2), (1_000, 3)]);
    viewer.opened(ms(100));
    assert!(matches!(viewer.lost(ms(2_100), Lost::Ended, 0), Step::Ask { at, choice: 0 } if at == ms(2_100)));
}

#[test]
fn it_follows_a_few_redirects_and_then_asks() {
    let mut viewer = ViewerSession::new(ms(0), None, PATIENCE);
    let mut sent_on = || viewer.lost(ms(1), Lost::Redirected("there".into()), 0);
    assert_eq!([sent_on(), sent_on()], [Step::Go("there".into()), Step::Go("there".into())]);
    assert!(matches!(sent_on(), Step::Ask { .. }));
    assert_eq!(sent_on(), Step::Go("there".into()));
}

#[test]
fn it_gives_up_in_the_end_and_notices_silence() {
    let mut viewer = ViewerSession::new(ms(0), None, PATIENCE);
    assert_eq!(viewer.lost(ms(30_000), Lost::Failed, 0), Step::GiveUp);
    viewer.opened(ms(0));
    viewer.heard(ms(1_000));
    assert!(!viewer.is_silent(ms(45_999)));
    assert!(viewer.is_silent(ms(46_000)));
}
