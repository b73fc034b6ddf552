//! Scaling decisions in words and numbers, for people to read.

use std::fmt::{Arguments, Write};

use super::{ScalingDecision, ScalingLimit};

fn append_sentence(words: &mut String, more: Arguments<'_>) {
    words.write_fmt(more).expect("a string takes everything");
}

impl ScalingDecision {
    /// Describes the decision in words and numbers.
    pub fn explain(&self) -> String {
        let mut words = format!(
            "{} readers: {} viewers ask for {} ({} of {} readers have fresh reports",
            self.desired, self.viewers, self.raw, self.fresh, self.readers
        );
        if self.expected > self.viewers {
            append_sentence(
                &mut words,
                format_args!("; rising by {} a minute, {} expected", self.rise_per_minute, self.expected),
            );
        }
        words += ")";
        for (number, because) in &self.rejected {
            append_sentence(&mut words, format_args!("; not {number}: {}", because.describe()));
        }
        for bound in
            self.bound_by.iter().filter(|bound| self.rejected.iter().all(|rejected| rejected.1 != **bound))
        {
            append_sentence(&mut words, format_args!("; {}", bound.describe()));
        }
        words
    }
}

impl ScalingLimit {
    /// Describes the limit in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Min => "fewer than the least there may be",
            Self::Max => "more than the most there may be",
            Self::Tolerance => "what is there is close enough",
            Self::UpCooldown => "readers were added a moment ago",
            Self::UpStep => "more than may be added at once",
            Self::Stabilisation => "more were needed within the stabilisation window",
            Self::ShortHistory => "what is known does not reach back over the stabilisation window",
            Self::DownStep => "more than may be taken away at once",
            Self::ScaleInPaused => "taking readers away is paused",
            Self::ScaleOutPaused => "adding readers is paused",
            Self::Stale => "readers without a fresh report",
            Self::Contradiction => "fresh reports contradict each other",
            Self::Rising => "demand is rising",
            Self::Draining => "readers are still being emptied",
        }
    }
}
