//! The exit of a reader: when a reader that shuts down sends its viewers away by itself, and how fast.
//!
//! Managers move the videos of a reader that is shutting down, and their answers to its heartbeats say which viewers
//! go where. The rule of this module is for the viewers whom the managers have not moved. A viewer who is sent away
//! while no other reader has room is without a stream until one has. So viewers stay as long as no manager reports
//! room, and all of them are gone in time before the process must end. If there is room, the managers have a quarter
//! of the remaining time to move the viewers by orders; then the reader sends away no more viewers than there is room
//! for.

use std::time::Duration;

use super::ElapsedTime;

/// The divisor of the grace period that gives the greatest part (a quarter) that is reserved for work after the last
/// viewer has left.
const RESERVED_TIME_DIVISOR: u32 = 4;
/// The most time reserved for work after the last viewer has left: one second until the managers have heard of it,
/// three until earlier requests are answered, and one for delays.
pub const MAX_RESERVED_TIME: Duration = Duration::from_secs(5);
/// The viewers that a reader sends away per second in its last phase: other readers accept some 2,500 within a second,
/// and viewers of several readers may come to one.
pub const LAST_PHASE_VIEWERS_PER_SECOND: u64 = 500;
/// The least duration of the last phase, in which the remaining viewers are sent away: even a few viewers must not
/// come back all at once.
const MIN_LAST_PHASE: Duration = Duration::from_secs(1);
/// The divisor of the whole exit time that gives the greatest duration of the last phase: half of it, for any number
/// of viewers.
const LAST_PHASE_DIVISOR: u32 = 2;

/// The exit of a reader, which must be empty before its process ends.
#[derive(Debug, Clone, Copy)]
pub struct ReaderExit {
    started_at: ElapsedTime,
    /// The time by which all viewers must be gone.
    deadline: ElapsedTime,
    /// The time up to which the number of viewers to send away was last computed.
    computed_until: ElapsedTime,
    /// The room at other readers that a manager has reported.
    room_elsewhere: Option<RoomElsewhere>,
    /// Whether the last phase has begun, in which viewers are sent away whether or not there is room.
    is_last_phase: bool,
    /// Whether viewers are being sent away now.
    is_sending_viewers_away: bool,
}

#[derive(Debug, Clone, Copy)]
struct RoomElsewhere {
    /// The time since which managers have reported room without interruption.
    reported_since: ElapsedTime,
    /// The time of the managers' latest report.
    last_report: ElapsedTime,
    /// The number of viewers for which there is room, less those who were sent away since the report.
    viewer_count: u64,
}

impl ReaderExit {
    /// Begins the exit of a reader whose process ends after `grace`. `alone` means that no managers exist that could
    /// find room.
    pub fn new(now: ElapsedTime, grace: Duration, alone: bool) -> Self {
        let deadline = now + grace.saturating_sub((grace / RESERVED_TIME_DIVISOR).min(MAX_RESERVED_TIME));
        Self {
            started_at: now,
            deadline,
            computed_until: now,
            room_elsewhere: None,
            is_last_phase: alone,
            is_sending_viewers_away: alone,
        }
    }

    /// Returns the time by which all viewers must be gone.
    pub const fn deadline(&self) -> ElapsedTime {
        self.deadline
    }

    /// Notes a manager's report of the number of viewers for which other readers have room.
    pub fn note_room_elsewhere(&mut self, now: ElapsedTime, viewer_count: u64, holds: Duration) {
        let reported_since = self.room_in_force(now, holds).map_or(now, |room| room.reported_since);
        self.room_elsewhere =
            (viewer_count > 0).then_some(RoomElsewhere { reported_since, last_report: now, viewer_count });
    }

    /// Whether viewers are being sent away now, so that a viewer who connects should be refused.
    pub const fn is_sending_viewers_away(&self) -> bool {
        self.is_sending_viewers_away
    }

    /// Returns how many of its `viewers` the reader has to send away now. The caller calls this several times a second.
    /// A report of room is valid for `holds`, as long as an order is.
    pub fn viewers_to_close(&mut self, now: ElapsedTime, viewers: u64, holds: Duration) -> u64 {
        let last_phase_from = self.deadline.saturating_sub(self.last_phase_duration(viewers));
        let room = self.room_in_force(now, holds);
        let from = if self.is_last_phase {
            self.computed_until
        } else if now >= last_phase_from {
            self.is_last_phase = true;
            self.computed_until.max(last_phase_from)
        } else if let Some(room) = room {
            self.computed_until
                .max(room.reported_since + self.deadline.saturating_sub(room.reported_since) / 4)
        } else {
            now
        };
        self.computed_until = now;
        self.is_sending_viewers_away = self.is_last_phase || from < now;
        let (passed, left) = (millis(now.saturating_sub(from)), millis(self.deadline.saturating_sub(from)));
        // Rounded up: a few viewers need not be sent away one by one over the whole time, as many are.
        let even = if left <= passed { viewers } else { (viewers * passed).div_ceil(left) };
        if self.is_last_phase {
            return even;
        }
        let due = room.map_or(0, |room| even.min(room.viewer_count));
        if let Some(room) = &mut self.room_elsewhere {
            room.viewer_count = room.viewer_count.saturating_sub(due);
        }
        due
    }

    /// Returns the duration of the last phase for this many viewers.
    fn last_phase_duration(&self, viewers: u64) -> Duration {
        let all = self.deadline.saturating_sub(self.started_at);
        let at_pace = Duration::from_millis(viewers.saturating_mul(1_000) / LAST_PHASE_VIEWERS_PER_SECOND);
        at_pace.max(MIN_LAST_PHASE.min(all / 4)).min(all / LAST_PHASE_DIVISOR)
    }

    fn room_in_force(&self, now: ElapsedTime, holds: Duration) -> Option<RoomElsewhere> {
        self.room_elsewhere.filter(|room| now.saturating_sub(room.last_report) < holds)
    }
}

const fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOLDS: Duration = Duration::from_secs(3);

    /// The course of the exit of a reader with `viewer_count` viewers and the time `grace`. The exit is asked every
    /// `every` milliseconds and hears of room at the times in `answers`. The course records how many viewers were sent
    /// away when, with the room known at that time.
    struct Course {
        sent: Vec<(Duration, u64)>,
        left: u64,
    }

    fn run_exit(grace: Duration, viewers: u64, every: u64, answers: &[(u64, u64)]) -> Course {
        let mut exit = ReaderExit::new(Duration::ZERO, grace, false);
        let (mut left, mut sent, mut answers) = (viewers, Vec::new(), answers.iter().peekable());
        for at in (0..=grace.as_millis() as u64).step_by(every as usize) {
            let now = Duration::from_millis(at);
            while let Some((_, room)) = answers.next_if(|(said, _)| *said <= at) {
                exit.note_room_elsewhere(now, *room, HOLDS);
            }
            let due = exit.viewers_to_close(now, left, HOLDS);
            assert!(due <= left, "{due} of {left}");
            left -= due;
            if due > 0 {
                sent.push((now, due));
            }
        }
        Course { sent, left }
    }

    fn at_each_second(seconds: std::ops::Range<u64>, room: u64) -> Vec<(u64, u64)> {
        seconds.map(|second| (second * 1_000, room)).collect()
    }

    #[test]
    fn viewers_stay_while_nobody_has_room_and_are_gone_before_the_end() {
        let grace = Duration::from_secs(40);
        for answers in [vec![], at_each_second(0..40, 0)] {
            let course = run_exit(grace, 1_000, 50, &answers);
            assert_eq!(course.left, 0);
            assert_eq!(
                course.sent[0].0.as_secs(),
                33,
                "two seconds before 35 s, at {LAST_PHASE_VIEWERS_PER_SECOND} a second"
            );
            assert!(course.sent.last().unwrap().0 <= Duration::from_secs(35));
            assert!(course.sent.iter().all(|(_, viewers)| *viewers <= 27), "{:?}", course.sent);
        }
    }

    #[test]
    fn viewers_go_evenly_once_there_has_been_room_for_a_quarter_of_the_time_left() {
        let grace = Duration::from_secs(40);
        let course = run_exit(grace, 200, 50, &at_each_second(11..40, 1_000));
        assert_eq!(course.sent[0].0.as_secs(), 17, "a quarter of the 24 s that are left at 11 s");
        assert!(course.sent.iter().all(|(_, viewers)| *viewers <= 2), "{:?}", course.sent);
        assert_eq!(course.left, 0);
        let course = run_exit(grace, 200, 50, &at_each_second(0..12, 1_000));
        let (early, late) = (Duration::from_secs(15), Duration::from_secs(33));
        let between = course.sent.iter().filter(|(at, _)| (early..late).contains(at));
        assert_eq!(between.count(), 0, "what is not said again does not hold");
        assert_eq!(course.left, 0);
    }

    #[test]
    fn without_managers_viewers_go_from_the_first_moment() {
        let mut exit = ReaderExit::new(Duration::ZERO, Duration::from_secs(40), true);
        assert!(exit.is_sending_viewers_away());
        assert_eq!(exit.viewers_to_close(Duration::from_secs(1), 350, HOLDS), 10);
        assert_eq!(exit.viewers_to_close(Duration::from_millis(1_050), 3, HOLDS), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// For any reports of room, at any time: all viewers are gone in time; before the last phase, nobody is sent
        /// away without reported room, and never more than there was room for; and the last phase is as slow as
        /// possible.
        #[test]
        fn viewers_are_sent_away_in_time_and_only_into_room(
            grace in 2_000_u64..200_000,
            viewers in 1_u64..30_000,
            every in 20_u64..120,
            mut answers in prop::collection::vec((0_u64..200_000, 0_u64..5_000), 0..60),
        ) {
            answers.sort_unstable();
            let course = run_exit(Duration::from_millis(grace), viewers, every, &answers);
            let by = grace - (grace / 4).min(5_000);
            prop_assert_eq!(course.left, 0);
            let end = Duration::from_millis(by + every);
            prop_assert!(course.sent.iter().all(|(at, _)| *at <= end), "{:?} {by}", course.sent.last());
            let last_phase = (viewers * 1_000 / LAST_PHASE_VIEWERS_PER_SECOND).max(by.min(4_000) / 4).min(by / 2);
            let early = course.sent.iter().filter(|(at, _)| (at.as_millis() as u64) < by - last_phase);
            let mut before = Duration::ZERO;
            for (at, sent) in early {
                let young = at.saturating_sub(HOLDS);
                let said = answers.iter().filter(|(said, _)| {
                    let said = Duration::from_millis(*said);
                    said <= *at && said >= young.saturating_sub(Duration::from_millis(every))
                });
                let most = said.map(|(_, room)| *room).max().unwrap_or(0);
                prop_assert!(*sent <= most, "{sent} at {at:?} with room for {most}");
                prop_assert!(*at > before);
                before = *at;
            }
        }

        /// Between two answers, no more viewers are sent away than the first answer had room for.
        #[test]
        fn room_is_used_once_an_answer(room in 1_u64..500, viewers in 600_u64..5_000, every in 20_u64..100) {
            let mut exit = ReaderExit::new(Duration::ZERO, Duration::from_secs(100), false);
            let (mut left, mut sent) = (viewers, 0);
            exit.note_room_elsewhere(Duration::ZERO, room, Duration::MAX);
            for at in (0..80_000).step_by(every as usize) {
                let due = exit.viewers_to_close(Duration::from_millis(at), left, Duration::MAX);
                left -= due;
                sent += due;
            }
            prop_assert_eq!(sent, room);
        }
    }
}
