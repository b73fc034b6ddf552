use super::*;

const BOUNDS: Bounds = Bounds {
    fresh: Duration::from_secs(2),
    stale: Duration::from_secs(30),
    warm: Duration::from_secs(10),
    linger: Duration::from_secs(5),
    order: Duration::from_secs(3),
    videos: 4,
};

fn video() -> VideoId {
    VideoId::parse("v").unwrap()
}

fn ms(ms: u64) -> Time {
    Duration::from_millis(ms)
}

fn told(epoch: u64, here: bool, elsewhere: &str) -> AssignmentNotice {
    AssignmentNotice { epoch, here, elsewhere: Some(elsewhere.to_owned()).filter(|it| !it.is_empty()) }
}

fn order(epoch: u64, keep: u64, pace: u32) -> HandOver {
    HandOver { video: video(), epoch, to: "b".into(), here: keep > 0, keep, pace }
}

fn told_at(now: u64, word: AssignmentNotice) -> ReaderAgent {
    let mut holder = ReaderAgent::new(BOUNDS);
    assert!(holder.told(ms(now), &video(), word));
    holder
}

#[test]
fn it_asks_where_its_word_is_old_or_the_viewer_has_a_newer_one() {
    let holder = told_at(0, told(5, true, "b"));
    assert_eq!(holder.admit(ms(1_999), &video(), Some(5)), Admission::Accept);
    assert_eq!(holder.admit(ms(1_999), &video(), Some(6)), Admission::Ask { known: 6 });
    assert_eq!(holder.admit(ms(2_000), &video(), None), Admission::Ask { known: 5 });
    assert_eq!(holder.admit_told(ms(2_000), &video(), None), Admission::Accept);
}

#[test]
fn where_no_manager_answers_it_serves_unless_it_knows_better_or_leaves() {
    let mut holder = told_at(0, told(5, false, "b"));
    assert_eq!(holder.admit_told(ms(29_999), &video(), None), Admission::Redirect("b".into()));
    assert_eq!(holder.admit_told(ms(30_000), &video(), None), Admission::Accept);
    // Sent here under a later epoch, it is not sent back.
    assert_eq!(holder.admit_told(ms(1), &video(), Some(6)), Admission::Accept);
    holder.leave(ms(30_000), ms(8_000), false);
    assert_eq!(holder.admit_told(ms(30_001), &video(), None), Admission::Refuse);
}

#[test]
fn an_older_epoch_changes_nothing() {
    let mut holder = told_at(0, told(5, true, ""));
    assert!(!holder.told(ms(1), &video(), told(4, false, "b")));
    holder.ordered(ms(1), vec![order(4, 0, 100)]);
    assert_eq!(holder.admit(ms(2), &video(), None), Admission::Accept);
    assert_eq!(holder.close_now(ms(1_000), &video(), 10), 0);
    assert_eq!((holder.epoch(&video()), holder.highest_epoch()), (5, 5));
}

#[test]
fn viewers_are_closed_at_the_pace_down_to_those_that_stay() {
    let mut holder = ReaderAgent::new(BOUNDS);
    holder.ordered(ms(0), vec![order(5, 95, 10)]);
    assert_eq!(holder.admit(ms(1), &video(), None), Admission::Redirect("b".into()));
    let mut viewers = 100;
    for at in 1..=4 {
        let closed = holder.close_now(ms(at * 100), &video(), viewers);
        assert_eq!(closed, 1);
        viewers -= closed;
    }
    // Said again, it goes on as it was, and no faster for not having been asked.
    holder.ordered(ms(450), vec![order(5, 95, 10)]);
    assert_eq!(holder.close_now(ms(2_900), &video(), viewers), 1);
    assert_eq!(holder.close_now(ms(3_000), &video(), 95), 0);
}

#[test]
fn an_order_ends_when_it_is_not_said_again_or_a_later_word_is_heard() {
    let mut holder = ReaderAgent::new(BOUNDS);
    let begin = |holder: &mut ReaderAgent, at| holder.ordered(at, vec![order(5, 0, 100)]);
    begin(&mut holder, ms(0));
    assert_eq!(holder.close_now(ms(3_000), &video(), 10), 0);
    begin(&mut holder, ms(4_000));
    holder.ordered(ms(5_000), Vec::new());
    assert_eq!(holder.close_now(ms(5_100), &video(), 10), 0);
    begin(&mut holder, ms(6_000));
    assert!(holder.told(ms(6_001), &video(), told(6, true, "c")));
    assert_eq!(holder.close_now(ms(6_500), &video(), 10), 0);
    assert_eq!(holder.handing_over(ms(6_500)).count(), 0);
}

#[test]
fn a_warm_video_is_kept_without_viewers() {
    let mut holder = ReaderAgent::new(BOUNDS);
    assert!(holder.may_drop(ms(0), &video(), BOUNDS.linger));
    holder.warm(ms(0), &video());
    assert!(!holder.may_drop(ms(9_999), &video(), BOUNDS.linger));
    assert!(holder.may_drop(ms(10_000), &video(), BOUNDS.linger));
    assert!(!holder.may_drop(ms(10_000), &video(), ms(4_999)));
}

#[test]
fn one_that_leaves_is_empty_within_three_quarters_of_the_time() {
    let mut holder = told_at(0, told(5, true, ""));
    holder.leave(ms(0), ms(8_000), false);
    // The only one there is still takes viewers, until it begins to close them.
    assert_eq!(holder.admit(ms(1), &video(), None), Admission::Accept);
    assert_eq!(holder.admit_told(ms(2_000), &video(), None), Admission::Refuse);
    assert_eq!(holder.exit_now(ms(1_999), 400), 0);
    let mut viewers = 400;
    for at in 1..=40 {
        let closed = holder.exit_now(ms(2_000 + at * 100), viewers);
        assert!(closed <= 11, "{closed} at once");
        viewers -= closed;
    }
    assert_eq!(viewers, 0);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut holder = ReaderAgent::new(BOUNDS);
    for at in 0..100 {
        let video = VideoId::parse(&format!("v{at}")).unwrap();
        holder.told(ms(at), &video, told(at + 1, true, ""));
        assert!(holder.places.len() <= BOUNDS.videos);
    }
    assert_eq!(holder.highest_epoch(), 100);
}
