//! The number of viewers of each reader over the last minutes, for people to look at. Every manager knows every reader,
//! so each manager keeps a history of its own. The current time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use liverank_core::{Millis, ReaderId};
use liverank_protocol::{HistoryColumns, ReaderColumn};

/// The maximum number of samples kept: 15 minutes at one sample every 5 s.
const MAX_SAMPLES: usize = 180;
/// The maximum number of readers that are kept by name: at eight bytes a sample, 1.5 MB in all. The viewers of further
/// readers are summed up.
const MAX_READERS: usize = 1_000;
/// The maximum number of readers shown by name: as many as a chart can distinguish. The others are summed up.
const MAX_READERS_SHOWN: usize = 24;

/// The viewers of each reader over the last minutes.
#[derive(Debug, Default)]
pub struct ViewerHistory {
    times: VecDeque<Millis>,
    readers: BTreeMap<ReaderId, VecDeque<u64>>,
    other_viewers: VecDeque<u64>,
}

impl ViewerHistory {
    /// Adds a sample. A reader that is not in `viewers` gets the value 0.
    pub fn add_sample(&mut self, now: Millis, viewers: impl IntoIterator<Item = (ReaderId, u64)>) {
        let before = self.times.len();
        self.times.push_back(now);
        self.other_viewers.push_back(0);
        for column in self.readers.values_mut() {
            column.push_back(0);
        }
        for (reader, count) in viewers {
            let room = self.readers.len() < MAX_READERS;
            let column = if room {
                let empty = || std::iter::repeat_n(0, before + 1).collect();
                Some(self.readers.entry(reader).or_insert_with(empty))
            } else {
                self.readers.get_mut(&reader)
            };
            let last = column.unwrap_or(&mut self.other_viewers).back_mut();
            if let Some(last) = last {
                *last = last.saturating_add(count);
            }
        }
        if self.times.len() > MAX_SAMPLES {
            self.times.pop_front();
            self.other_viewers.pop_front();
            for column in self.readers.values_mut() {
                column.pop_front();
            }
        }
        self.readers.retain(|_, column| column.iter().any(|viewers| *viewers > 0));
    }

    /// Returns the history, with the readers that had most viewers by name.
    pub fn to_columns(&self) -> HistoryColumns {
        let mut by_most: Vec<(&ReaderId, &VecDeque<u64>)> = self.readers.iter().collect();
        by_most.sort_by_key(|(_, column)| Reverse(column.iter().copied().max()));
        let (shown, rest) = by_most.split_at(by_most.len().min(MAX_READERS_SHOWN));
        let mut others: Vec<u64> = self.other_viewers.iter().copied().collect();
        for (_, column) in rest {
            for (sum, viewers) in others.iter_mut().zip(*column) {
                *sum = sum.saturating_add(*viewers);
            }
        }
        let column = |(id, viewers): &(&ReaderId, &VecDeque<u64>)| ReaderColumn {
            id: (*id).clone(),
            viewers: viewers.iter().copied().collect(),
        };
        let mut readers: Vec<ReaderColumn> = shown.iter().map(column).collect();
        readers.sort_by(|a, b| a.id.cmp(&b.id));
        HistoryColumns { times: self.times.iter().copied().collect(), readers, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader_id(name: &str) -> ReaderId {
        ReaderId::parse(name).unwrap()
    }

    fn column_of(shown: &HistoryColumns, name: &str) -> Option<Vec<u64>> {
        shown.readers.iter().find(|column| column.id.as_str() == name).map(|column| column.viewers.clone())
    }

    #[test]
    fn history_columns_are_as_long_as_the_times() {
        let mut history = ViewerHistory::default();
        history.add_sample(1, [(reader_id("a"), 5)]);
        history.add_sample(2, [(reader_id("a"), 6), (reader_id("b"), 1)]);
        history.add_sample(3, [(reader_id("b"), 2)]);
        let shown = history.to_columns();
        assert_eq!(shown.times, [1, 2, 3]);
        assert_eq!(column_of(&shown, "a"), Some(vec![5, 6, 0]), "who is away has nobody");
        assert_eq!(column_of(&shown, "b"), Some(vec![0, 1, 2]), "who came later had nobody");
        assert_eq!(shown.others, [0, 0, 0]);
    }

    #[test]
    fn samples_older_than_the_shown_time_are_forgotten() {
        let mut history = ViewerHistory::default();
        history.add_sample(0, [(reader_id("gone"), 9)]);
        for at in 1..=MAX_SAMPLES as Millis {
            history.add_sample(at, [(reader_id("a"), 1)]);
        }
        let shown = history.to_columns();
        assert_eq!((shown.times.len(), shown.times[0]), (MAX_SAMPLES, 1));
        assert_eq!(column_of(&shown, "gone"), None);
    }

    #[test]
    fn readers_beyond_the_shown_ones_are_summed_up() {
        let mut history = ViewerHistory::default();
        let crowd = MAX_READERS + 50;
        history.add_sample(
            0,
            (0..crowd).map(|number| (reader_id(&format!("reader-{number}")), number as u64 + 1)),
        );
        assert_eq!(history.readers.len(), MAX_READERS, "names are bounded");
        let shown = history.to_columns();
        assert_eq!(shown.readers.len(), MAX_READERS_SHOWN);
        let named: u64 = shown.readers.iter().map(|column| column.viewers[0]).sum();
        assert_eq!(named + shown.others[0], (1..=crowd as u64).sum::<u64>());
        assert_eq!(column_of(&shown, &format!("reader-{}", MAX_READERS - 1)).unwrap(), [MAX_READERS as u64]);
    }
}
