use proptest::prelude::*;

use liverank_core::stream_events::StreamEvent;

use super::*;

fn comment_epoch(text: &str) -> CommentEpoch {
    CommentEpoch::parse(text).unwrap()
}

fn event_bytes(seq: u64) -> Bytes {
    Bytes::from(format!("{seq};"))
}

/// A limit in bytes that none of these tests reaches.
const AMPLE_BYTES: usize = 1 << 30;

fn anchored_ring(reach: usize, head: u64) -> CommentRing {
    ring_within(reach, AMPLE_BYTES, head)
}

fn ring_within(reach: usize, max_bytes: usize, head: u64) -> CommentRing {
    let mut ring = CommentRing::new(reach, max_bytes);
    ring.begin_epoch(comment_epoch("n"), head);
    ring
}

fn push_all(ring: &mut CommentRing, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        ring.push(seq, event_bytes(seq));
    }
    ring.reveal_all();
}

fn position(seq: u64) -> StreamPosition {
    StreamPosition { comment_epoch: comment_epoch("n"), seq }
}

/// Returns all that the viewer at `cursor` is sent, as sequence numbers; a gap is shown by the two negative numbers
/// `-from` and `-to`.
fn take_all(ring: &mut CommentRing, cursor: &mut RingCursor) -> Vec<i64> {
    let mut seen = Vec::new();
    loop {
        match ring.take_next_comments(cursor) {
            NextEvents::Nothing => return seen,
            NextEvents::Gap { from, to, .. } => seen.extend([-(from as i64), -(to as i64)]),
            // The viewer's position, before any comment came.
            NextEvents::Events { bytes, count: 0 } => assert_eq!(bytes, "id: n-0\n\n"),
            NextEvents::Events { bytes, count } => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                let numbers: Vec<i64> = text.split_terminator(';').map(|n| n.parse().unwrap()).collect();
                assert_eq!(numbers.len() as u64, count);
                seen.extend(numbers);
            }
        }
    }
}

#[test]
fn a_new_viewer_sees_what_comes_after_it() {
    let mut ring = anchored_ring(10, 5);
    push_all(&mut ring, [6]);
    let mut cursor = ring.cursor_from_now();
    assert_eq!(ring.position_of(&cursor).unwrap().to_string(), "n-6");
    assert_eq!(ring.take_next_comments(&mut cursor), NextEvents::Nothing);
    push_all(&mut ring, [7, 8]);
    assert_eq!(take_all(&mut ring, &mut cursor), [7, 8]);
}

#[test]
fn nothing_is_given_before_it_is_revealed_and_then_joined_once_for_all() {
    let mut ring = anchored_ring(10, 0);
    let (mut one, mut other) = (ring.cursor_from_now(), ring.cursor_from_now());
    ring.push(1, event_bytes(1));
    ring.push(2, event_bytes(2));
    assert_eq!(ring.take_next_comments(&mut one), NextEvents::Nothing);
    assert!(ring.reveal_all());
    let (NextEvents::Events { bytes: a, .. }, NextEvents::Events { bytes: b, .. }) =
        (ring.take_next_comments(&mut one), ring.take_next_comments(&mut other))
    else {
        panic!("both are given events")
    };
    assert_eq!(a.as_ptr(), b.as_ptr());
    assert!(!ring.reveal_all());
}

#[test]
fn one_event_alone_is_not_copied() {
    let mut ring = anchored_ring(10, 0);
    let mut cursor = ring.cursor_from_now();
    let event = event_bytes(1);
    ring.push(1, event.clone());
    ring.reveal_all();
    assert!(
        matches!(ring.take_next_comments(&mut cursor), NextEvents::Events { bytes, .. } if bytes.as_ptr() == event.as_ptr())
    );
}

#[test]
fn a_slice_is_bounded_and_always_holds_one_event() {
    let mut ring = anchored_ring(10, 0);
    let mut cursor = ring.cursor_from_now();
    for seq in 1..=3 {
        ring.push(seq, Bytes::from(vec![b'x'; MAX_SLICE_BYTES / 2 + 1]));
    }
    ring.push(4, Bytes::from(vec![b'x'; MAX_SLICE_BYTES * 2]));
    ring.reveal_all();
    for _ in 1..=4 {
        assert!(matches!(ring.take_next_comments(&mut cursor), NextEvents::Events { count: 1, .. }));
    }
    assert_eq!(ring.take_next_comments(&mut cursor), NextEvents::Nothing);
}

#[test]
fn long_comments_are_held_by_bytes_and_what_there_is_no_room_for_is_a_gap() {
    let long = |seq: u64| Bytes::from(format!("{seq:0>900};"));
    let mut ring = ring_within(10, 3_500, 0);
    let mut slow = ring.cursor_from_now();
    for seq in 1..=9 {
        ring.push(seq, long(seq));
    }
    ring.reveal_all();
    assert_eq!(ring.used_bytes_and_evicted(), (3 * EncodedEntry::from(long(1)).memory_bytes(), 6));
    assert_eq!(ring.used_bytes_and_evicted().1, 0, "told once");
    assert_eq!(take_all(&mut ring, &mut slow), [-1, -6, 7, 8, 9], "who was not fast enough");
    assert_eq!(ring.missing_since(0), None, "what there is no room for is not fetched again and again");
    let mut back = ring.cursor_from_position(position(2));
    assert_eq!(take_all(&mut ring, &mut back), [-3, -6, 7, 8, 9]);
    // There is space for short comments again, up to the ring's reach.
    push_all(&mut ring, 10..=25);
    assert_eq!(ring.missing_since(15), None);
    let mut back = ring.cursor_from_position(position(10));
    assert_eq!(take_all(&mut ring, &mut back), [-11, -15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
    // Comments that arrive early are limited in the same way: those refused are fetched again when the hole is filled.
    let early: Vec<PushOutcome> = (27..=31).map(|seq| ring.push(seq, long(seq))).collect();
    assert_eq!(early.iter().filter(|pushed| **pushed == PushOutcome::Early).count(), 3, "{early:?}");
    assert_eq!(early[4], PushOutcome::Refused);
}

#[test]
fn a_new_ring_restores_as_many_comments_as_fit() {
    let long = |seq: u64| Bytes::from(format!("{seq:0>900};"));
    let mut ring = ring_within(10, 3_500, 9);
    assert_eq!(ring.missing_since(0), Some(RingHole { before_first: 0, last: 9 }));
    ring.restore_earlier((1..=9).map(|seq| (seq, long(seq))).collect());
    assert_eq!(ring.missing_since(0), None);
    let mut back = ring.cursor_from_position(position(0));
    assert_eq!(take_all(&mut ring, &mut back), [-1, -6, 7, 8, 9]);
}

#[test]
fn early_comments_wait_and_the_hole_is_named() {
    let mut ring = anchored_ring(10, 0);
    let mut cursor = ring.cursor_from_now();
    push_all(&mut ring, [1, 3, 4, 7]);
    assert_eq!(take_all(&mut ring, &mut cursor), [1]);
    assert_eq!(ring.first_hole(), Some(RingHole { before_first: 1, last: 2 }));
    assert_eq!(ring.push(2, event_bytes(2)), PushOutcome::Appended(3));
    assert_eq!(ring.first_hole(), Some(RingHole { before_first: 4, last: 6 }));
    ring.note_highest_known(9);
    assert_eq!(ring.first_hole(), Some(RingHole { before_first: 4, last: 6 }));
    assert_eq!(ring.push(3, event_bytes(3)), PushOutcome::Repeat);
    assert_eq!(ring.push(7, event_bytes(7)), PushOutcome::Repeat);
}

#[test]
fn a_given_up_hole_is_a_gap_until_restored() {
    let mut ring = anchored_ring(10, 0);
    let mut cursor = ring.cursor_from_now();
    push_all(&mut ring, [1, 4]);
    assert_eq!(ring.skip_lowest_hole(), 2);
    ring.reveal_all();
    assert_eq!(take_all(&mut ring, &mut cursor), [1, -2, -3, 4]);
    assert_eq!(ring.missing_since(0), Some(RingHole { before_first: 0, last: 3 }));
    ring.restore_earlier((1..=3).map(|seq| (seq, event_bytes(seq))).collect());
    assert_eq!(ring.missing_since(0), None);
    let mut back = ring.cursor_from_position(position(0));
    assert_eq!(take_all(&mut ring, &mut back), [1, 2, 3, 4]);
}

#[test]
fn a_hole_that_nothing_waits_behind_is_only_forgotten() {
    let mut ring = anchored_ring(10, 3);
    ring.note_highest_known(5);
    assert_eq!(ring.skip_lowest_hole(), 0);
    assert_eq!((ring.first_hole(), ring.head_seq()), (None, 3));
}

#[test]
fn a_hole_larger_than_the_ring_is_one_gap() {
    let mut ring = anchored_ring(4, 0);
    let mut cursor = ring.cursor_from_now();
    push_all(&mut ring, [1, 1000]);
    assert_eq!(ring.skip_lowest_hole(), 998);
    ring.reveal_all();
    assert_eq!(take_all(&mut ring, &mut cursor), [-1, -999, 1000]);
}

#[test]
fn a_slow_viewer_is_moved_forward() {
    let mut ring = anchored_ring(4, 0);
    let mut cursor = ring.cursor_from_now();
    push_all(&mut ring, 1..=20);
    assert_eq!(take_all(&mut ring, &mut cursor), [-1, -14, 15, 16, 17, 18, 19, 20]);
}

#[test]
fn a_resume_beyond_the_reach_gets_a_gap_and_the_latest_comments() {
    let mut ring = anchored_ring(4, 20);
    assert_eq!(ring.missing_since(3), Some(RingHole { before_first: 16, last: 20 }));
    ring.restore_earlier((17..=20).map(|seq| (seq, event_bytes(seq))).collect());
    let mut back = ring.cursor_from_position(position(3));
    assert_eq!(ring.position_of(&back), Some(position(3)));
    push_all(&mut ring, [21]);
    assert_eq!(take_all(&mut ring, &mut back), [-4, -16, 17, 18, 19, 20, 21]);
    assert_eq!(ring.missing_since(17), None);
    assert_eq!(ring.missing_since(21), None);
    assert_eq!(ring.missing_since(99), None);
}

#[test]
fn a_resume_at_full_reach_is_served_despite_new_comments() {
    let mut ring = anchored_ring(8, 20);
    ring.restore_earlier((13..=20).map(|seq| (seq, event_bytes(seq))).collect());
    let mut back = ring.cursor_from_position(position(12));
    push_all(&mut ring, [21, 22]);
    assert_eq!(take_all(&mut ring, &mut back), (13..=22).collect::<Vec<_>>());
}

#[test]
fn a_viewer_ahead_of_the_ring_is_not_given_anything_twice() {
    let mut ring = anchored_ring(10, 5);
    let mut cursor = ring.cursor_from_position(position(7));
    assert_eq!(take_all(&mut ring, &mut cursor), [] as [i64; 0]);
    push_all(&mut ring, 6..=8);
    assert_eq!(take_all(&mut ring, &mut cursor), [8]);
}

#[test]
fn a_bad_position_or_another_comment_epoch_is_a_gap_to_the_head() {
    let mut ring = anchored_ring(10, 5);
    for mut cursor in [
        RingCursor::UnknownPosition,
        ring.cursor_from_position(StreamPosition { comment_epoch: comment_epoch("other"), seq: 3 }),
    ] {
        assert_eq!(ring.position_of(&cursor).unwrap().to_string(), "n-5");
        assert_eq!(take_all(&mut ring, &mut cursor), [0, -5]);
    }
}

#[test]
fn when_comments_are_numbered_anew_everybody_hears_of_a_gap_to_the_new_head() {
    let mut ring = anchored_ring(10, 5);
    let mut cursor = ring.cursor_from_now();
    ring.begin_epoch(comment_epoch("m"), 2);
    push_all(&mut ring, [3]);
    assert!(
        matches!(ring.take_next_comments(&mut cursor), NextEvents::Gap { numbering, from: 0, to: 2 } if numbering.as_str() == "m")
    );
    assert_eq!(take_all(&mut ring, &mut cursor), [3]);
}

#[test]
fn a_viewer_from_before_the_head_was_known_gets_a_gap_to_it() {
    let mut ring = CommentRing::new(10, AMPLE_BYTES);
    let (mut new, mut back) = (ring.cursor_from_now(), ring.cursor_from_position(position(3)));
    assert_eq!(ring.take_next_comments(&mut new), NextEvents::Nothing);
    assert_eq!(ring.position_of(&new), None);
    ring.begin_epoch(comment_epoch("n"), 4);
    push_all(&mut ring, [5, 6]);
    assert_eq!(take_all(&mut ring, &mut new), [0, -4, 5, 6], "what came since its greeting, nobody can tell");
    assert_eq!(take_all(&mut ring, &mut back), [-4, -4, 5, 6]);
}

#[test]
fn a_viewer_of_a_channel_without_comments_learns_where_it_stands_and_misses_none() {
    let mut ring = CommentRing::new(10, AMPLE_BYTES);
    let mut new = ring.cursor_from_now();
    ring.begin_epoch(comment_epoch("n"), 0);
    let told = ring.take_next_comments(&mut new);
    assert!(matches!(told, NextEvents::Events { bytes, count: 0 } if bytes == "id: n-0\n\n"), "once");
    assert_eq!(ring.take_next_comments(&mut new), NextEvents::Nothing);
    push_all(&mut ring, [1]);
    assert_eq!(take_all(&mut ring, &mut new), [1]);
}

/// A random operation on a ring.
#[derive(Debug, Clone)]
enum RandomStep {
    Push(u64),
    NoteHead(u64),
    Fill,
    GiveUp,
    Reveal,
    Take(usize),
    Resume(u64),
    Rest,
}

fn steps(last: u64, give_up: bool) -> impl Strategy<Value = Vec<RandomStep>> {
    let step = prop_oneof![
        8 => (1..=last).prop_map(RandomStep::Push),
        1 => (1..=last).prop_map(RandomStep::NoteHead),
        2 => Just(RandomStep::Fill),
        1 => Just(if give_up { RandomStep::GiveUp } else { RandomStep::Fill }),
        3 => Just(RandomStep::Reveal),
        6 => (0usize..3).prop_map(RandomStep::Take),
        1 => (0..=last).prop_map(RandomStep::Resume),
        1 => Just(RandomStep::Rest),
    ];
    proptest::collection::vec(step, 0..200)
}

fn fill_holes(ring: &mut CommentRing) {
    while let Some(hole) = ring.first_hole() {
        for seq in hole.before_first + 1..=hole.last {
            ring.push(seq, event_bytes(seq));
        }
    }
}

/// Runs the steps with three viewers, then fills the remaining holes. Returns for each viewer its first position and
/// what it was sent.
fn run_steps(reach: usize, max_bytes: usize, steps: &[RandomStep], last: u64) -> (u64, Vec<(u64, Vec<i64>)>) {
    let mut ring = ring_within(reach, max_bytes, 0);
    let mut viewers: Vec<(RingCursor, u64, Vec<i64>)> = vec![(ring.cursor_from_now(), 0, Vec::new()); 3];
    for step in steps {
        match step {
            RandomStep::Push(seq) => {
                ring.push(*seq, event_bytes(*seq));
            }
            RandomStep::NoteHead(seq) => ring.note_highest_known(*seq),
            RandomStep::Fill => fill_holes(&mut ring),
            RandomStep::GiveUp => {
                ring.skip_lowest_hole();
            }
            RandomStep::Reveal => {
                ring.reveal_all();
            }
            RandomStep::Take(at) => {
                let (cursor, _, seen) = &mut viewers[*at];
                seen.extend(take_all(&mut ring, cursor));
            }
            RandomStep::Resume(seq) => {
                let seq = (*seq).min(ring.head_seq());
                if let Some(hole) = ring.missing_since(seq) {
                    ring.restore_earlier(
                        (hole.before_first + 1..=hole.last).map(|seq| (seq, event_bytes(seq))).collect(),
                    );
                }
                viewers.push((ring.cursor_from_position(position(seq)), seq, Vec::new()));
            }
            RandomStep::Rest => ring.shrink_buffers(),
        }
        assert!(ring.events.len() <= ring.capacity() && ring.early_entries.len() <= reach);
        let takes =
            |held: Vec<&EncodedEntry>| held.into_iter().map(EncodedEntry::memory_bytes).sum::<usize>();
        let (held, early) =
            (takes(ring.events.iter().flatten().collect()), takes(ring.early_entries.values().collect()));
        assert_eq!((ring.stored_event_bytes, ring.early_bytes), (held, early), "what is held is counted");
        assert!(held <= max_bytes || ring.events.len() == 1, "{held} of {max_bytes}");
        assert!(early <= max_bytes || ring.early_entries.len() == 1, "{early} of {max_bytes}");
    }
    ring.note_highest_known(last);
    fill_holes(&mut ring);
    ring.reveal_all();
    let sent = viewers.into_iter().map(|(mut cursor, began, mut seen)| {
        seen.extend(take_all(&mut ring, &mut cursor));
        (began, seen)
    });
    let sent = sent.collect();
    (ring.head_seq(), sent)
}

proptest! {
    #[test]
    fn comments_in_any_order_are_given_once_in_order(steps in steps(40, false)) {
        let (head, viewers) = run_steps(100, AMPLE_BYTES, &steps, 40);
        prop_assert_eq!(head, 40);
        for (began, seen) in viewers {
            prop_assert_eq!(seen, (began as i64 + 1..=40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn events_and_gaps_cover_every_number_once_however_small_the_ring(
        steps in steps(60, true), reach in 1usize..12, max_bytes in 1usize..1500,
    ) {
        let (head, viewers) = run_steps(reach, max_bytes, &steps, 60);
        for (began, seen) in viewers {
            let mut at = began as i64;
            let mut items = seen.into_iter();
            while let Some(item) = items.next() {
                prop_assert_eq!(item.abs(), at + 1);
                at = if item < 0 { -items.next().unwrap() } else { item };
                prop_assert!(at >= item.abs());
            }
            prop_assert_eq!(at, head as i64);
        }
    }
}

fn channel_entry(seq: u64, entry: liverank_core::comment::EntryKind) -> EncodedEntry {
    let comment = liverank_core::Comment {
        id: format!("c{seq}").parse().unwrap(),
        user_id: "u".parse().unwrap(),
        video_id: "v".parse().unwrap(),
        text: "words".into(),
        timestamp: 0,
        seq,
        reply_to: None,
        entry,
    };
    EncodedEntry::encode(&comment_epoch("n"), &comment)
}

fn said_entry(seq: u64) -> EncodedEntry {
    channel_entry(seq, liverank_core::comment::EntryKind::Comment)
}

fn deletion_entry(seq: u64, of: u64) -> EncodedEntry {
    let (comment_id, role) =
        (format!("c{of}").parse().unwrap(), liverank_core::moderation::ActorRole::Service);
    channel_entry(seq, liverank_core::comment::EntryKind::Deleted { comment_id, of, role })
}

/// Returns the events that a viewer is sent: of each its sequence number, and `c` for a comment, `d` for a deletion,
/// nothing for an id alone.
fn shown_events(ring: &mut CommentRing, cursor: &mut RingCursor, asked: StreamEvents) -> Vec<String> {
    let mut shown = Vec::new();
    while let NextEvents::Events { bytes, count } = ring.take_next_events(cursor, asked) {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.len() as u64, count, "every entry is one event for whoever it is: {text:?}");
        for event in events {
            let number = event.lines().find_map(|line| line.strip_prefix("id: n-")).unwrap();
            let kind = if event.starts_with("event: deleted\n") {
                "d"
            } else if event.contains("words") {
                "c"
            } else {
                ""
            };
            shown.push(format!("{number}{kind}"));
        }
    }
    shown
}

#[test]
fn a_deleted_comment_leaves_the_ring_and_those_who_asked_are_told() {
    let mut ring = anchored_ring(10, 0);
    for seq in 1..=3 {
        ring.push(seq, said_entry(seq));
    }
    ring.push(4, deletion_entry(4, 2));
    ring.push(5, said_entry(5));
    ring.reveal_all();
    let asked = StreamEvents::default().with_event(StreamEvent::Deleted);
    assert_eq!(shown_events(&mut ring, &mut position_cursor(0), asked), ["1c", "2", "3c", "4d", "5c"]);
    assert_eq!(
        shown_events(&mut ring, &mut position_cursor(0), StreamEvents::default()),
        ["1c", "2", "3c", "4", "5c"]
    );
    assert_eq!(
        shown_events(&mut ring, &mut position_cursor(2), asked),
        ["3c", "4d", "5c"],
        "who had it is told"
    );
}

fn position_cursor(seen: u64) -> RingCursor {
    RingCursor::At { run: 1, seen }
}

#[test]
fn a_joined_slice_is_not_reused_after_a_deletion() {
    let mut ring = anchored_ring(10, 0);
    for seq in 1..=2 {
        ring.push(seq, said_entry(seq));
    }
    ring.reveal_all();
    assert_eq!(shown_events(&mut ring, &mut position_cursor(0), StreamEvents::default()), ["1c", "2c"]);
    // The deletion arrives before the entry ahead of it, and takes effect all the same.
    ring.push(4, deletion_entry(4, 1));
    assert_eq!(shown_events(&mut ring, &mut position_cursor(0), StreamEvents::default()), ["1", "2c"]);
}

proptest! {
    /// Whatever the order and repetition of entries, and whatever is restored from an older copy: no viewer is given a
    /// comment after its deletion was pushed.
    #[test]
    fn no_viewer_is_given_a_deleted_comment(
        deletions in proptest::collection::vec(proptest::option::of(1_u64..20), 20),
        order in proptest::collection::vec(1_u64..=20, 0..60),
        seen in 0_u64..20, asks in any::<bool>(), floor in 0_u64..10,
    ) {
        let entry = |seq: u64| match deletions[seq as usize - 1] {
            Some(of) if of < seq => deletion_entry(seq, of),
            _ => said_entry(seq),
        };
        let mut ring = anchored_ring(30, floor);
        let mut there = std::collections::BTreeSet::new();
        for seq in order.into_iter().chain(floor + 1..=20) {
            ring.push(seq, entry(seq));
            if seq > floor {
                there.insert(seq);
            }
        }
        // A copy that was read before any of these comments was deleted.
        ring.restore_earlier((1..=20).map(|seq| (seq, said_entry(seq))).filter(|(seq, _)| *seq <= floor).collect());
        ring.reveal_all();
        let asked = if asks { StreamEvents::default().with_event(StreamEvent::Deleted) } else { StreamEvents::default() };
        let gone: Vec<u64> = there.iter().filter_map(|seq| entry(*seq).removed_seq()).collect();
        let events = shown_events(&mut ring, &mut position_cursor(seen), asked);
        let numbers: Vec<u64> =
            events.iter().map(|event| event.trim_end_matches(['c', 'd']).parse().unwrap()).collect();
        prop_assert_eq!(numbers, (seen + 1..=20).collect::<Vec<_>>());
        for event in events {
            if let Some(number) = event.strip_suffix('c') {
                prop_assert!(!gone.contains(&number.parse().unwrap()), "{event} of {gone:?}");
            }
            prop_assert!(asks || !event.ends_with('d'));
        }
    }
}
