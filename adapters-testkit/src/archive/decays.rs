//! Checks of the decayed scores of boards with a decay of their own.

use liverank_core::counting::{CountingRules, RecordFingerprint};
use liverank_core::decays::{CountedDecay, Decay};
use liverank_core::{Interaction, Kind, Millis};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::log::{BEGIN, Log, Model, does, user, video, view};
use liverank_adapters::Archive;
use liverank_adapters::archive::ReplayFinish;

const HOUR: Millis = 3_600_000;
const NO_PROGRESS: &(dyn Fn(u64, u64) + Send + Sync) = &|_, _| {};

fn decays() -> [Decay; 2] {
    ["60", "1440 0 500 0 3000 0 0"].map(|decay| Decay::parse(decay).unwrap())
}

fn unique_rules() -> CountingRules {
    CountingRules { unique: "like,share".parse().unwrap(), ..CountingRules::default() }
}

fn random_event(random: &mut StdRng, now: Millis) -> Interaction {
    let (who, id) = (random.random_range(0..3), random.random_range(0..4));
    let kind = Kind::ALL[random.random_range(0..Kind::ALL.len())];
    let timestamp = now - random.random_range(-HOUR..3 * HOUR);
    Interaction { user_id: user(&format!("u{who}")), timestamp, ..does(&format!("v {id}"), kind) }
}

async fn counted(archive: &dyn Archive, decay: &Decay) -> Option<CountedDecay> {
    archive.archive_meta().await.unwrap().unwrap().decays.of(decay).copied()
}

async fn log2_of(archive: &dyn Archive, id: &str, decay: &Decay) -> f64 {
    archive.video(&video(id)).await.unwrap().unwrap().decayed.log2_of(decay)
}

/// Checks that the archive has the scores of the model, in its videos and in a cut of one moment.
async fn check(archive: &dyn Archive, model: &Model) {
    model.check(archive).await;
    let cut = archive.rebuild_archive().read_cut(None).await.unwrap();
    let states: Vec<_> = cut.videos.into_iter().map(|stored| stored.state).collect();
    assert_eq!(states, model.videos.values().cloned().collect::<Vec<_>>(), "as of one moment");
    assert_eq!(cut.meta.decays, model.decays);
}

pub async fn scores_decay_by_half_lives_of_their_own(archive: &dyn Archive) {
    let rules = unique_rules();
    archive.open(&rules).await.unwrap();
    let mut model = Model::default();
    assert_eq!(
        archive.archive_meta().await.unwrap().unwrap().decays,
        model.decays,
        "none until they are declared"
    );
    let meta = archive.count_decays(&decays()).await.unwrap();
    assert_eq!(archive.archive_meta().await.unwrap().as_ref(), Some(&meta));
    assert!(meta.decays.iter().all(|counted| counted.whole_after.is_none()), "nothing was counted before");
    model.decays = meta.decays;
    let mut log = Log::new();
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..30 {
        let events: Vec<_> = (0..random.random_range(1..20))
            .map(|_| (random.random_range(0..2), random_event(&mut random, log.now())))
            .collect();
        model.commit(archive, &log.batch(events), &rules).await;
        log.pass(random.random_range(0..2 * HOUR));
    }
    check(archive, &model).await;
    let scored = model.videos.values().filter(|state| !state.decayed.is_empty()).count();
    assert!(scored > 0, "something decays");
    // A generation that is computed from counts keeps these scores, also with another half-life of `trending`, where
    // that may change.
    archive.rebuild_archive().rescore_videos(&rules, NO_PROGRESS).await.unwrap();
    check(archive, &model).await;
    archive.rebuild_archive().bump_generation().await.unwrap();
    let event = Interaction { timestamp: log.now(), ..does("v 1", Kind::View) };
    model.commit(archive, &log.on_one([event]), &rules).await;
    check(archive, &model).await;
}

pub async fn a_half_life_that_is_added_later_says_from_when_on_it_is_whole(archive: &dyn Archive) {
    let [hour, day] = decays();
    let mut log = Log::new();
    let mut commit = async |at: Millis, kind: Kind| {
        let mut batch = log.on_one([does("v", kind)]);
        batch.offset_ranges[0].last_record =
            Some(RecordFingerprint { broker_time: BEGIN + at, digest: at as u64 });
        archive.commit_batch(&batch).await.unwrap();
    };
    archive.count_decays(&[hour]).await.unwrap();
    commit(7, Kind::Like).await;
    let before = counted(archive, &hour).await.unwrap();
    archive.count_decays(&[hour, day]).await.unwrap();
    let added = counted(archive, &day).await.unwrap();
    assert_eq!((counted(archive, &hour).await, added.whole_after), (Some(before), Some(BEGIN + 7)));
    assert_ne!(added.run, before.run);
    assert!(
        log2_of(archive, "v", &hour).await.is_finite() && log2_of(archive, "v", &day).await.is_infinite()
    );
    commit(9, Kind::Like).await;
    let of_one_like = log2_of(archive, "v", &day).await;
    assert!(of_one_like.is_finite(), "from then on");
    // A score that is no longer counted is removed with the next change of the video, and begins anew.
    archive.count_decays(&[hour]).await.unwrap();
    commit(11, Kind::View).await;
    assert!(log2_of(archive, "v", &day).await.is_infinite());
    archive.count_decays(&[hour, day]).await.unwrap();
    let again = counted(archive, &day).await.unwrap();
    assert_eq!(again.whole_after, Some(BEGIN + 11));
    assert!(again.run != added.run, "marks of the run before say nothing of it");
    commit(13, Kind::Like).await;
    assert!((log2_of(archive, "v", &day).await - of_one_like).abs() < 1e-6, "one like, once");
    assert_eq!(counted(archive, &day).await, Some(again), "nothing was left out since");
    assert!(archive.count_decays(&[]).await.unwrap().decays.is_empty());
}

pub async fn a_replay_makes_decayed_scores_again(archive: &dyn Archive) {
    let rules = unique_rules();
    archive.open(&rules).await.unwrap();
    let mut model = Model::default();
    let mut log = Log::new();
    let first = log.on_one([view("v"), does("v", Kind::Like)]);
    model.commit(archive, &first, &rules).await;
    archive.count_decays(&decays()).await.unwrap();
    let events = [Kind::Like, Kind::Unlike, Kind::Share].map(|kind| does("v", kind));
    let second = log.on_one(events);
    archive.commit_batch(&second).await.unwrap();
    let replay = archive.rebuild_archive().begin_replay(&rules, None, NO_PROGRESS).await.unwrap();
    let meta = replay.archive().archive_meta().await.unwrap().unwrap();
    assert!(meta.decays.iter().all(|counted| counted.whole_after.is_none()), "{meta:?}");
    let mut model = Model::default();
    model.decays = meta.decays;
    model.commit(replay.archive(), &first, &rules).await;
    model.commit(replay.archive(), &second, &rules).await;
    let finished = replay.put_in_place(false, NO_PROGRESS).await.unwrap();
    assert!(matches!(finished, ReplayFinish::Done { .. }), "{finished:?}");
    check(archive, &model).await;
    model.commit(archive, &log.on_one([does("v", Kind::Unshare)]), &rules).await;
    check(archive, &model).await;
}
