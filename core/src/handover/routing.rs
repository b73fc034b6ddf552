//! Which reader of a video a viewer who comes is sent to: the rule of managers and gateways alike.
//!
//! A manager is asked by viewers who connect to readers themselves. A gateway asks a manager at most once a second for all who
//! come to a video, so it makes the choice for each of them. Both draw by what the readers lack of their shares. A gateway that went
//! by the load of readers alone sent viewers of a reader that is emptied to those that had their share, and these sent some of
//! them on: they were moved twice.

use crate::ReaderId;

/// A reader of a route, as a gateway chooses among them.
#[derive(Debug, Clone, Copy)]
pub struct RouteOption<'a> {
    /// Its name.
    pub reader: &'a ReaderId,
    /// Whether it takes viewers of this video.
    pub takes: bool,
    /// The part of its capacity in use, in thousandths.
    pub load: u64,
    /// How many viewers are to come to it; see [`ReaderToJoin`](super::coordinator::ReaderToJoin).
    pub wanted: u64,
}

/// The place, in `options`, of the reader for an attempt of a viewer: one that takes viewers and is not among `tried`
/// ([`choose_by_wanted`]), else one that was not tried, else all in turn by `choice`, the number of the attempt. So none is asked
/// twice while another one was not asked. `None` where there is no reader. `lots` are random.
pub fn choose_route_reader(
    options: &[RouteOption<'_>],
    tried: &[ReaderId],
    choice: u32,
    lots: [u32; 2],
) -> Option<usize> {
    let is_new = |at: usize| !tried.contains(options[at].reader);
    let open: Vec<usize> = (0..options.len()).filter(|at| options[*at].takes).collect();
    let new: Vec<usize> = open.iter().copied().filter(|at| is_new(*at)).collect();
    let weighed: Vec<(u64, u64)> = new.iter().map(|at| (options[*at].wanted, options[*at].load)).collect();
    let in_turn = |count: usize| choice as usize % count.max(1);
    choose_by_wanted(&weighed, lots)
        .map(|chosen| new[chosen])
        .or_else(|| (0..options.len()).find(|at| is_new(*at)))
        .or_else(|| open.get(in_turn(open.len())).copied())
        .or_else(|| (!options.is_empty()).then(|| in_turn(options.len())))
}

/// The place of the one that is chosen of readers that take viewers, each told by the number of viewers who are to come to it and by
/// its load: drawn in proportion to the first. Where nobody is to come to any, the less loaded of two that are drawn (the power of
/// two choices, Mitzenmacher 2001). `None` where there are none.
pub fn choose_by_wanted(readers: &[(u64, u64)], lots: [u32; 2]) -> Option<usize> {
    let all: u128 = readers.iter().map(|(wanted, _)| u128::from(*wanted)).sum();
    if all == 0 {
        let drawn = lots.map(|lot| lot as usize % readers.len().max(1));
        return drawn.into_iter().filter(|at| *at < readers.len()).min_by_key(|at| readers[*at].1);
    }
    let mut left = (all * u128::from(lots[0])) >> u32::BITS;
    readers.iter().position(|(wanted, _)| {
        let wanted = u128::from(*wanted);
        let is_it = left < wanted;
        left = left.saturating_sub(wanted);
        is_it
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(names: &[&str]) -> Vec<ReaderId> {
        names.iter().map(|name| ReaderId::parse(name).unwrap()).collect()
    }

    fn chosen(
        readers: &[(&str, u64, u64, bool)],
        tried: &[&str],
        choice: u32,
        lots: [u32; 2],
    ) -> Option<String> {
        let names = self::readers(&readers.iter().map(|it| it.0).collect::<Vec<_>>());
        let options: Vec<RouteOption<'_>> = readers
            .iter()
            .zip(&names)
            .map(|((_, wanted, load, takes), reader)| RouteOption {
                reader,
                takes: *takes,
                load: *load,
                wanted: *wanted,
            })
            .collect();
        let at = choose_route_reader(&options, &self::readers(tried), choice, lots)?;
        Some(names[at].as_str().to_owned())
    }

    #[test]
    fn where_nobody_is_to_come_the_less_loaded_of_two_is_tried_first_then_the_others() {
        let three = [("shut", 0, 0, false), ("busy", 0, 900, true), ("calm", 0, 100, true)];
        let first = |lots| chosen(&three, &[], 0, lots).unwrap();
        assert_eq!([first([0, 1]), first([3, 2]), first([0, 2])], ["calm", "calm", "busy"]);
        assert_eq!(chosen(&three, &["calm"], 1, [1, 1]).unwrap(), "busy");
        assert_eq!(chosen(&three, &["calm", "busy"], 2, [1, 1]).unwrap(), "shut");
        let all = ["calm", "busy", "shut"];
        let again = |choice| chosen(&three, &all, choice, [0, 0]).unwrap();
        assert_eq!([again(3), again(4)], ["calm", "busy"]);
        let shut = [("one", 0, 5, false), ("two", 0, 0, false)];
        assert_eq!(chosen(&shut, &[], 0, [1, 1]).unwrap(), "one");
        assert_eq!(chosen(&shut, &["one"], 1, [0, 0]).unwrap(), "two");
        assert_eq!(chosen(&shut, &["one", "two"], 2, [0, 0]).unwrap(), "one");
        assert_eq!(chosen(&[], &[], 0, [0, 0]), None);
    }

    #[test]
    fn viewers_go_where_readers_lack_of_their_share_whatever_the_load() {
        let quarter = u32::MAX / 4;
        let three = [("full share", 0, 10, true), ("lacks one", 1, 700, true), ("lacks three", 3, 800, true)];
        let three = three
            .map(|(name, wanted, load, takes)| (name.split(' ').next_back().unwrap(), wanted, load, takes));
        let drawn: Vec<String> =
            (0..4).map(|nth| chosen(&three, &[], 0, [quarter * nth + quarter / 2, 0]).unwrap()).collect();
        assert_eq!(drawn, ["one", "three", "three", "three"]);
        assert_eq!(
            chosen(&three, &["three", "one"], 2, [0, 0]).unwrap(),
            "share",
            "who is refused goes on to the rest"
        );
    }
}
