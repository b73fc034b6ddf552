//! Which reader of a video a viewer who comes is sent to: the rule of managers and gateways alike.
//!
//! A manager is asked by viewers who connect to readers themselves. A gateway asks a manager at most once a second for all who
//! come to a video, so it makes the choice for each of them. Both draw by what the readers lack of their shares. A gateway that went
//! by the load of readers alone sent viewers of a reader that is emptied to those that had their share, and these sent some of
//! them on: they were moved twice.

use crate::ReaderId;

/// A reader among which a gateway chooses for a viewer.
#[derive(Debug, Clone, Copy)]
pub struct RouteOption<'a> {
    /// The reader's id.
    pub reader: &'a ReaderId,
    /// Whether the reader accepts viewers of this video.
    pub takes_viewers: bool,
    /// The used part of the reader's capacity, in thousandths.
    pub load_thousandths: u64,
    /// The number of viewers that the reader should get; see [`ReaderToJoin`](super::coordinator::ReaderToJoin).
    pub wanted_viewers: u64,
    /// The number of viewers beyond `wanted_viewers` that the reader may get if it is near; see
    /// [`ReaderToJoin`](super::coordinator::ReaderToJoin).
    pub spare_viewers: u64,
    /// The number of viewers that the gateway has sent to the reader since it got the value of `wanted_viewers`.
    pub sent_viewers: u64,
    /// Whether the gateway prefers the reader because both are in the same zone; see [`is_preferred_for_zone`].
    pub is_near: bool,
}

/// The divisor that bounds the preference for readers in the gateway's own zone: while a gateway uses one route, it
/// prefers such a reader for at most a fortieth of the viewers of the video that it already has at that reader. A
/// gateway uses a route for a second, and after some four seconds the new viewers are reported and no longer wanted. So
/// all gateways together send a reader at most a tenth more of a video's viewers than they should, which is a twentieth
/// more than its share; a reader sheds viewers from a fifth more on.
const NEAR_PREFERENCE_DIVISOR: u64 = 40;

/// Whether a gateway prefers a reader in its own zone, if it has sent `sent` viewers to the reader since it got the
/// route, and has `held` viewers of the video at the reader. Gateways do not know of each other's viewers. Without this
/// bound, the gateways of one zone could together send a reader more viewers than it lacks, and the reader would send
/// some of them to another reader.
pub const fn is_preferred_for_zone(sent: u64, held: u64) -> bool {
    sent < held / NEAR_PREFERENCE_DIVISOR
}

impl RouteOption<'_> {
    /// Returns the number of viewers that the reader should still get.
    const fn lacking_viewers(&self) -> u64 {
        self.wanted_viewers.saturating_sub(self.sent_viewers)
    }

    /// Returns the number of viewers that the reader should still get before readers that are not near; 0 if it is not
    /// near itself.
    const fn lacking_near_viewers(&self) -> u64 {
        if !self.is_near {
            return 0;
        }
        self.wanted_viewers.saturating_add(self.spare_viewers).saturating_sub(self.sent_viewers)
    }
}

/// Returns the index in `options` of the reader for a viewer's next attempt: a reader that takes viewers and is not
/// among `tried`, chosen by [`choose_by_wanted`]; else any reader that was not tried; else one reader after the other,
/// by `choice`, the number of the attempt. So no reader is tried twice while another one was not tried. The result is
/// `None` if there is no reader. `lots` are random.
pub fn choose_route_reader(
    options: &[RouteOption<'_>],
    tried: &[ReaderId],
    choice: u32,
    lots: [u32; 2],
) -> Option<usize> {
    let is_new = |at: usize| !tried.contains(options[at].reader);
    let open: Vec<usize> = (0..options.len()).filter(|at| options[*at].takes_viewers).collect();
    let new: Vec<usize> = open.iter().copied().filter(|at| is_new(*at)).collect();
    let in_turn = |count: usize| choice as usize % count.max(1);
    choose_by_wanted(&missing_viewers_and_load(options, &new), lots)
        .map(|chosen| new[chosen])
        .or_else(|| (0..options.len()).find(|at| is_new(*at)))
        .or_else(|| open.get(in_turn(open.len())).copied())
        .or_else(|| (!options.is_empty()).then(|| in_turn(options.len())))
}

/// Returns, for each reader whose index is in `of`, the number of viewers that the reader still lacks, and its load.
/// While readers of the gateway's own zone lack viewers, or have less than a little more than their share, the others
/// count as if they lacked none. If no reader lacks viewers any more, all count with the number that they lacked at
/// first, so that a larger crowd than expected is divided in the same proportion. So zones change how many viewers come
/// to each reader by `spare_viewers` at most; beside that, they change only which viewers come.
fn missing_viewers_and_load(options: &[RouteOption<'_>], of: &[usize]) -> Vec<(u64, u64)> {
    let readers = || of.iter().map(|at| &options[*at]);
    let weigh_by = |lacks: &dyn Fn(&RouteOption<'_>) -> u64| -> Vec<(u64, u64)> {
        readers().map(|option| (lacks(option), option.load_thousandths)).collect()
    };
    if readers().any(|option| option.lacking_near_viewers() > 0) {
        return weigh_by(&|option| option.lacking_near_viewers());
    }
    if readers().any(|option| option.lacking_viewers() > 0) {
        return weigh_by(&|option| option.lacking_viewers());
    }
    weigh_by(&|option| option.wanted_viewers)
}

/// Returns the index of the chosen reader. `readers` gives, for each reader that takes viewers, the number of viewers
/// that it should get and its load. The reader is drawn in proportion to the first number. If no reader should get
/// viewers, two readers are drawn and the less loaded one is chosen (the power of two choices, Mitzenmacher 2001). The
/// result is `None` if `readers` is empty.
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
    use proptest::prelude::*;

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
                takes_viewers: *takes,
                load_thousandths: *load,
                wanted_viewers: *wanted,
                spare_viewers: 0,
                sent_viewers: 0,
                is_near: false,
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

    /// Sends as many viewers as `lots` has pairs, one after the other, from one gateway in the zone `own`; each reader has a
    /// number of viewers who are to come to it, and a zone. Returns how many came to each.
    fn send_viewers(own: Option<u8>, readers: &[(u64, u8)], lots: &[[u32; 2]]) -> Vec<u64> {
        send_with_spare(own, readers, 0, lots)
    }

    /// Sends viewers as [`send_viewers`] does; `spare` more than are to come to it may come to each reader that is near.
    fn send_with_spare(own: Option<u8>, readers: &[(u64, u8)], spare: u64, lots: &[[u32; 2]]) -> Vec<u64> {
        let names: Vec<String> = (0..readers.len()).map(|at| format!("r{at}")).collect();
        let names = self::readers(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut sent = vec![0; readers.len()];
        for lots in lots {
            let options: Vec<RouteOption<'_>> = readers
                .iter()
                .zip(&names)
                .zip(&sent)
                .map(|(((wanted, zone), reader), sent)| RouteOption {
                    reader,
                    takes_viewers: true,
                    load_thousandths: 0,
                    wanted_viewers: *wanted,
                    spare_viewers: spare,
                    sent_viewers: *sent,
                    is_near: own == Some(*zone),
                })
                .collect();
            sent[choose_route_reader(&options, &[], 0, *lots).unwrap()] += 1;
        }
        sent
    }

    #[test]
    fn readers_of_the_own_zone_come_first_while_they_lack_viewers() {
        let readers = [(3, 1), (5, 2), (2, 1)];
        let lots: Vec<[u32; 2]> = (0..10_u32).map(|nth| [nth.wrapping_mul(0x9E37_79B9), 0]).collect();
        assert_eq!(send_viewers(Some(1), &readers, &lots[..5]), [3, 0, 2]);
        assert_eq!(send_viewers(Some(2), &readers, &lots[..5]), [0, 5, 0]);
        assert_eq!(send_viewers(Some(2), &readers, &lots), [3, 5, 2]);
        assert_eq!(send_viewers(None, &readers, &lots), [3, 5, 2]);
        assert_eq!(send_viewers(Some(3), &readers, &lots), [3, 5, 2], "none is near");
    }

    #[test]
    fn where_no_reader_lacks_viewers_the_own_zone_still_comes_first_within_the_spare() {
        let lots: Vec<[u32; 2]> = (0..10_u32).map(|nth| [nth.wrapping_mul(0x9E37_79B9), 0]).collect();
        let balanced = [(0, 1), (0, 2)];
        assert_eq!(send_with_spare(Some(1), &balanced, 5, &lots[..5]), [5, 0]);
        assert_eq!(send_with_spare(Some(2), &balanced, 5, &lots[..5]), [0, 5]);
        let other_lacks = [(0, 1), (4, 2)];
        assert_eq!(
            send_with_spare(Some(1), &other_lacks, 3, &lots[..7]),
            [3, 4],
            "then what the other lacks"
        );
        assert_eq!(
            send_with_spare(None, &other_lacks, 3, &lots[..4]),
            [0, 4],
            "only zones use what is spare"
        );
    }

    proptest! {
        #[test]
        fn a_zone_s_viewers_stay_in_it_and_exceed_no_reader_s_spare(
            readers in prop::collection::vec((0_u64..20, 0_u8..3), 1..8),
            spare in 0_u64..6,
            lots in prop::collection::vec(any::<[u32; 2]>(), 200),
            part in 0_usize..=100,
        ) {
            let in_zone = |zone: u8| readers.iter().filter(move |it| it.1 == zone);
            let room_of = |zone: u8| in_zone(zone).map(|it| it.0 + spare).sum::<u64>();
            // Through the gateways of each zone come as many as its readers may get: everybody stays in the zone.
            for zone in 0..3 {
                let come = usize::try_from(room_of(zone)).unwrap();
                let came = send_with_spare(Some(zone), &readers, spare, &lots[..come]);
                for (came, (wanted, of)) in came.iter().zip(&readers) {
                    prop_assert_eq!(*came, if *of == zone { wanted + spare } else { 0 });
                }
            }
            // From one zone alone: its readers exceed what is wanted by the spare, and no other reader does at all.
            let wanted_elsewhere: u64 = readers.iter().filter(|it| it.1 != 0).map(|it| it.0).sum();
            let most = usize::try_from(room_of(0) + wanted_elsewhere).unwrap();
            let came = send_with_spare(Some(0), &readers, spare, &lots[..most * part / 100]);
            for (came, (wanted, zone)) in came.iter().zip(&readers) {
                prop_assert!(*came <= wanted + if *zone == 0 { spare } else { 0 }, "{:?}", came);
            }
        }

        #[test]
        fn a_zone_changes_who_comes_to_a_reader_and_not_how_many(
            readers in prop::collection::vec((0_u64..20, 0_u8..3), 1..8),
            lots in prop::collection::vec(any::<[u32; 2]>(), 160),
            part in 0_usize..=100,
        ) {
            let all: u64 = readers.iter().map(|(wanted, _)| wanted).sum();
            // From each zone as many as its readers lack, through a gateway in it.
            let (mut near, mut at) = (vec![0; readers.len()], 0);
            for zone in 0..3 {
                let come: u64 = readers.iter().filter(|it| it.1 == zone).map(|it| it.0).sum();
                let come = usize::try_from(come).unwrap();
                for (all, more) in near.iter_mut().zip(send_viewers(Some(zone), &readers, &lots[at..at + come])) {
                    *all += more;
                }
                at += come;
            }
            let come = usize::try_from(all).unwrap();
            prop_assert_eq!(&near, &send_viewers(None, &readers, &lots[..come]));
            // From one zone, as long as somebody is still wanted.
            let skewed = send_viewers(Some(0), &readers, &lots[..come * part / 100]);
            prop_assert!(skewed.iter().zip(&readers).all(|(came, (wanted, _))| came <= wanted), "{:?}", skewed);
        }
    }
}
