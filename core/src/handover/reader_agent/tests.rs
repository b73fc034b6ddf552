use super::*;

const BOUNDS: AgentLimits = AgentLimits {
    notice_cache_time: Duration::from_secs(2),
    max_stale_notice_time: Duration::from_secs(30),
    keep_warm_for: Duration::from_secs(10),
    keep_empty_for: Duration::from_secs(5),
    hand_over_valid_for: Duration::from_secs(3),
    max_videos: 4,
};

fn video() -> VideoId {
    VideoId::parse("v").unwrap()
}

fn at_ms(ms: u64) -> ElapsedTime {
    Duration::from_millis(ms)
}

fn notice(epoch: u64, includes_this_reader: bool, elsewhere: &str) -> AssignmentNotice {
    let other_reader_url = Some(elsewhere.to_owned()).filter(|it| !it.is_empty());
    AssignmentNotice {
        epoch,
        includes_this_reader,
        other_accepts_viewers: other_reader_url.is_some(),
        other_reader_url,
    }
}

fn hand_over_order(epoch: u64, keep: u64, pace: u32) -> HandOver {
    HandOver { video: video(), epoch, to: "b".into(), here: keep > 0, keep, pace }
}

fn agent_with_notice(now: u64, word: AssignmentNotice) -> ReaderAgent {
    let mut holder = ReaderAgent::new(BOUNDS);
    assert!(holder.note_assignment(at_ms(now), &video(), word));
    holder
}

#[test]
fn the_agent_asks_when_its_notice_is_old_or_the_viewer_knows_a_newer_epoch() {
    let holder = agent_with_notice(0, notice(5, true, "b"));
    assert_eq!(holder.admit_viewer(at_ms(1_999), &video(), Some(5)), Admission::Accept);
    assert_eq!(holder.admit_viewer(at_ms(1_999), &video(), Some(6)), Admission::AskManagers { known: 6 });
    assert_eq!(holder.admit_viewer(at_ms(2_000), &video(), None), Admission::AskManagers { known: 5 });
    assert_eq!(holder.admit_after_answer(at_ms(2_000), &video(), None), Admission::Accept);
}

#[test]
fn without_managers_the_agent_serves_unless_it_leaves_or_knows_another_reader() {
    let mut holder = agent_with_notice(0, notice(5, false, "b"));
    assert_eq!(holder.admit_after_answer(at_ms(29_999), &video(), None), Admission::Redirect("b".into()));
    assert_eq!(holder.admit_after_answer(at_ms(30_000), &video(), None), Admission::Accept);
    // The viewer was sent here under a later epoch, so it is not sent back.
    assert_eq!(holder.admit_after_answer(at_ms(1), &video(), Some(6)), Admission::Accept);
    holder.begin_leaving(at_ms(30_000), at_ms(8_000), false);
    assert_eq!(holder.admit_after_answer(at_ms(30_001), &video(), None), Admission::Refuse);
}

#[test]
fn another_reader_is_named_while_a_manager_has_said_lately_that_it_takes_viewers() {
    let holder = agent_with_notice(0, notice(5, true, "b"));
    assert_eq!(holder.other_accepting_reader(at_ms(1_999), &video()), Some("b"));
    assert_eq!(holder.other_accepting_reader(at_ms(2_000), &video()), None);
    let full = AssignmentNotice { other_accepts_viewers: false, ..notice(5, true, "b") };
    assert_eq!(agent_with_notice(0, full).other_accepting_reader(at_ms(1), &video()), None);
    assert_eq!(agent_with_notice(0, notice(5, true, "")).other_accepting_reader(at_ms(1), &video()), None);
    let mut ordered = agent_with_notice(0, notice(5, true, ""));
    ordered.set_hand_overs(at_ms(10), at_ms(10), vec![hand_over_order(6, 3, 100)]);
    assert_eq!(
        ordered.other_accepting_reader(at_ms(11), &video()),
        Some("b"),
        "an order names one with room"
    );
}

#[test]
fn an_older_epoch_changes_nothing() {
    let mut holder = agent_with_notice(0, notice(5, true, ""));
    assert!(!holder.note_assignment(at_ms(1), &video(), notice(4, false, "b")));
    holder.set_hand_overs(at_ms(1), at_ms(1), vec![hand_over_order(4, 0, 100)]);
    assert_eq!(holder.admit_viewer(at_ms(2), &video(), None), Admission::Accept);
    assert_eq!(holder.viewers_to_close(at_ms(1_000), &video(), 10), 0);
    assert_eq!((holder.video_epoch(&video()), holder.highest_epoch()), (5, 5));
}

#[test]
fn viewers_are_closed_at_the_pace_down_to_the_number_to_keep() {
    let mut holder = ReaderAgent::new(BOUNDS);
    holder.set_hand_overs(at_ms(0), at_ms(0), vec![hand_over_order(5, 95, 10)]);
    assert_eq!(holder.admit_viewer(at_ms(1), &video(), None), Admission::Redirect("b".into()));
    let mut viewers = 100;
    for at in 1..=4 {
        let closed = holder.viewers_to_close(at_ms(at * 100), &video(), viewers);
        assert_eq!(closed, 1);
        viewers -= closed;
    }
    // An order that is repeated goes on as before, and no faster because nobody asked meanwhile.
    holder.set_hand_overs(at_ms(450), at_ms(450), vec![hand_over_order(5, 95, 10)]);
    assert_eq!(holder.viewers_to_close(at_ms(2_900), &video(), viewers), 1);
    assert_eq!(holder.viewers_to_close(at_ms(3_000), &video(), 95), 0);
}

#[test]
fn an_order_ends_when_it_is_not_repeated_or_a_later_notice_comes() {
    let mut holder = ReaderAgent::new(BOUNDS);
    let begin =
        |holder: &mut ReaderAgent, at| holder.set_hand_overs(at, at, vec![hand_over_order(5, 0, 100)]);
    begin(&mut holder, at_ms(0));
    assert_eq!(holder.viewers_to_close(at_ms(3_000), &video(), 10), 0);
    begin(&mut holder, at_ms(4_000));
    holder.set_hand_overs(at_ms(5_000), at_ms(5_000), Vec::new());
    assert_eq!(holder.viewers_to_close(at_ms(5_100), &video(), 10), 0);
    begin(&mut holder, at_ms(6_000));
    assert!(holder.note_assignment(at_ms(6_001), &video(), notice(6, true, "c")));
    assert_eq!(holder.viewers_to_close(at_ms(6_500), &video(), 10), 0);
    assert_eq!(holder.active_hand_overs(at_ms(6_500)).count(), 0);
}

#[test]
fn an_order_is_as_old_as_the_heartbeat_that_it_answers() {
    let mut holder = ReaderAgent::new(BOUNDS);
    // This process was paused for four seconds, and its answer waited for it.
    holder.set_hand_overs(at_ms(4_000), at_ms(0), vec![hand_over_order(5, 0, 100)]);
    assert_eq!(holder.viewers_to_close(at_ms(4_500), &video(), 10), 0);
    assert!(matches!(holder.admit_viewer(at_ms(4_500), &video(), None), Admission::AskManagers { known: 5 }));
    // An order that came a second late is valid for two more, and does not begin faster for that.
    let mut holder = ReaderAgent::new(BOUNDS);
    holder.set_hand_overs(at_ms(6_000), at_ms(5_000), vec![hand_over_order(5, 0, 10)]);
    assert_eq!(holder.viewers_to_close(at_ms(6_100), &video(), 10), 1);
    assert_eq!(holder.viewers_to_close(at_ms(7_999), &video(), 9), 9);
    holder.set_hand_overs(at_ms(8_000), at_ms(7_000), vec![hand_over_order(5, 0, 10)]);
    assert_eq!(holder.viewers_to_close(at_ms(10_000), &video(), 10), 0);
}

#[test]
fn room_elsewhere_is_as_old_as_the_heartbeat_that_it_answers() {
    let mut holder = ReaderAgent::new(BOUNDS);
    holder.begin_leaving(at_ms(0), at_ms(40_000), false);
    holder.note_room_elsewhere(at_ms(0), 100);
    holder.viewers_to_close_on_exit(at_ms(11_900), 100);
    // The report was made at 8 s and heard at 12: it is no longer valid.
    holder.note_room_elsewhere(at_ms(8_000), 100);
    assert_eq!(holder.viewers_to_close_on_exit(at_ms(20_000), 100), 0);
}

#[test]
fn a_warm_video_is_kept_without_viewers() {
    let mut holder = ReaderAgent::new(BOUNDS);
    assert!(holder.may_drop_video(at_ms(0), &video(), BOUNDS.keep_empty_for));
    holder.keep_warm(at_ms(0), &video());
    assert!(!holder.may_drop_video(at_ms(9_999), &video(), BOUNDS.keep_empty_for));
    assert!(holder.may_drop_video(at_ms(10_000), &video(), BOUNDS.keep_empty_for));
    assert!(!holder.may_drop_video(at_ms(10_000), &video(), at_ms(4_999)));
}

#[test]
fn a_leaving_reader_takes_viewers_until_it_sends_them_away() {
    let mut holder = agent_with_notice(0, notice(5, true, ""));
    assert_eq!(holder.begin_leaving(at_ms(0), at_ms(8_000), false), at_ms(6_000));
    // The only reader accepts viewers, because there is no other one for them.
    assert_eq!(holder.admit_viewer(at_ms(1), &video(), None), Admission::Accept);
    assert_eq!(holder.viewers_to_close_on_exit(at_ms(4_000), 400), 0);
    assert_eq!(holder.admit_after_answer(at_ms(4_000), &video(), None), Admission::Accept);
    let mut viewers = 400;
    for at in 1..=40 {
        let closed = holder.viewers_to_close_on_exit(at_ms(4_000 + at * 50), viewers);
        viewers -= closed;
    }
    assert_eq!(viewers, 0);
    assert_eq!(holder.admit_after_answer(at_ms(6_000), &video(), None), Admission::Refuse);
}

#[test]
fn a_leaving_reader_sends_viewers_where_there_is_room_after_a_while() {
    let mut holder = agent_with_notice(0, notice(5, true, ""));
    holder.begin_leaving(at_ms(0), at_ms(80_000), false);
    let mut closed = 0;
    for at in 0..300 {
        if at % 10 == 0 {
            holder.note_room_elsewhere(at_ms(at * 100), 25);
        }
        closed += holder.viewers_to_close_on_exit(at_ms(at * 100), 1_000);
    }
    assert!((100..=350).contains(&closed), "{closed} of 1,000 in the first 11 of 56 s");
}

#[test]
fn remembered_videos_are_bounded() {
    let mut holder = ReaderAgent::new(BOUNDS);
    for at in 0..100 {
        let video = VideoId::parse(&format!("v{at}")).unwrap();
        holder.note_assignment(at_ms(at), &video, notice(at + 1, true, ""));
        assert!(holder.videos.len() <= BOUNDS.max_videos);
    }
    assert_eq!(holder.highest_epoch(), 100);
}
