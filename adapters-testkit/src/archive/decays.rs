//! Checks of the decayed scores of boards with a decay of their own.

use liverank_core::counting::{CountingRules, RecordFingerprint};
use liverank_core::decays::{CountedDecay, Decay};
use liverank_core::{Interaction, Kind, Millis};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::log::{LOG_START_TIME, Model, SimulatedLog, event_of_kind, user, video, view};
use liverank_adapters::Archive;
use liverank_adapters::archive::ReplayFinish;

const HOUR: Millis = 3_600_000;
const IGNORE_PROGRESS: &(dyn Fn(u64, u64) + Send + Sync) = &|_, _| {};

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
    Interaction { user_id: user(&format!("u{who}")), timestamp, ..event_of_kind(&format!("v {id}"), kind) }
}

async fn counted_decay(archive: &dyn Archive, decay: &Decay) -> Option<CountedDecay> {
    archive.archive_meta().await.unwrap().unwrap().decays.find(decay).copied()
}

async fn log2_of(archive: &dyn Archive, id: &str, decay: &Decay) -> f64 {
    archive.video(&video(id)).await.unwrap().unwrap().decayed_scores.log2_of(decay)
}

/// Checks that the archive has the scores of the model, in its videos and in a snapshot.
async fn check_decayed_scores(archive: &dyn Archive, model: &Model) {
    model.check(archive).await;
    let cut = archive.rebuild_archive().read_snapshot(None).await.unwrap();
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
    let meta = archive.set_counted_decays(&decays()).await.unwrap();
    assert_eq!(archive.archive_meta().await.unwrap().as_ref(), Some(&meta));
    assert!(meta.decays.iter().all(|counted| counted.complete_after.is_none()), "nothing was counted before");
    model.decays = meta.decays;
    let mut log = SimulatedLog::new();
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..30 {
        let events: Vec<_> = (0..random.random_range(1..20))
            .map(|_| (random.random_range(0..2), random_event(&mut random, log.now())))
            .collect();
        model.commit(archive, &log.batch(events), &rules).await;
        log.advance_clock(random.random_range(0..2 * HOUR));
    }
    check_decayed_scores(archive, &model).await;
    let scored = model.videos.values().filter(|state| !state.decayed_scores.is_empty()).count();
    assert!(scored > 0, "something decays");
    // A generation that is computed from counts keeps these scores, also with another half-life of `trending`, where
    // that may change.
    archive.rebuild_archive().rescore_videos(&rules, IGNORE_PROGRESS).await.unwrap();
    check_decayed_scores(archive, &model).await;
    archive.rebuild_archive().bump_generation().await.unwrap();
    let event = Interaction { timestamp: log.now(), ..event_of_kind("v 1", Kind::View) };
    model.commit(archive, &log.batch_on_partition_0([event]), &rules).await;
    check_decayed_scores(archive, &model).await;
}

pub async fn a_later_decay_reports_its_start(archive: &dyn Archive) {
    let [hour, day] = decays();
    let mut log = SimulatedLog::new();
    let mut commit = async |at: Millis, kind: Kind| {
        let mut batch = log.batch_on_partition_0([event_of_kind("v", kind)]);
        batch.offset_ranges[0].last_record =
            Some(RecordFingerprint { broker_time: LOG_START_TIME + at, digest: at as u64 });
        archive.commit_batch(&batch).await.unwrap();
    };
    archive.set_counted_decays(&[hour]).await.unwrap();
    commit(7, Kind::Like).await;
    let before = counted_decay(archive, &hour).await.unwrap();
    archive.set_counted_decays(&[hour, day]).await.unwrap();
    let added = counted_decay(archive, &day).await.unwrap();
    assert_eq!(
        (counted_decay(archive, &hour).await, added.complete_after),
        (Some(before), Some(LOG_START_TIME + 7))
    );
    assert_ne!(added.run, before.run);
    assert!(
        log2_of(archive, "v", &hour).await.is_finite() && log2_of(archive, "v", &day).await.is_infinite()
    );
    commit(9, Kind::Like).await;
    let of_one_like = log2_of(archive, "v", &day).await;
    assert!(of_one_like.is_finite(), "from then on");
    // A score that is no longer counted is removed with the next change of the video, and begins anew.
    archive.set_counted_decays(&[hour]).await.unwrap();
    commit(11, Kind::View).await;
    assert!(log2_of(archive, "v", &day).await.is_infinite());
    archive.set_counted_decays(&[hour, day]).await.unwrap();
    let again = counted_decay(archive, &day).await.unwrap();
    assert_eq!(again.complete_after, Some(LOG_START_TIME + 11));
    assert!(again.run != added.run, "marks of the run before say nothing of it");
    commit(13, Kind::Like).await;
    assert!((log2_of(archive, "v", &day).await - of_one_like).abs() < 1e-6, "one like, once");
    assert_eq!(counted_decay(archive, &day).await, Some(again), "nothing was left out since");
    assert!(archive.set_counted_decays(&[]).await.unwrap().decays.is_empty());
}

pub async fn a_replay_makes_decayed_scores_again(archive: &dyn Archive) {
    let rules = unique_rules();
    archive.open(&rules).await.unwrap();
    let mut model = Model::default();
    let mut log = SimulatedLog::new();
    let first = log.batch_on_partition_0([view("v"), event_of_kind("v", Kind::Like)]);
    model.commit(archive, &first, &rules).await;
    archive.set_counted_decays(&decays()).await.unwrap();
    let events = [Kind::Like, Kind::Unlike, Kind::Share].map(|kind| event_of_kind("v", kind));
    let second = log.batch_on_partition_0(events);
    archive.commit_batch(&second).await.unwrap();
    let replay = archive.rebuild_archive().begin_replay(&rules, None, IGNORE_PROGRESS).await.unwrap();
    let meta = replay.archive().archive_meta().await.unwrap().unwrap();
    assert!(meta.decays.iter().all(|counted| counted.complete_after.is_none()), "{meta:?}");
    let mut model = Model::default();
    model.decays = meta.decays;
    model.commit(replay.archive(), &first, &rules).await;
    model.commit(replay.archive(), &second, &rules).await;
    let finished = replay.swap_in(false, IGNORE_PROGRESS).await.unwrap();
    assert!(matches!(finished, ReplayFinish::Done { .. }), "{finished:?}");
    check_decayed_scores(archive, &model).await;
    model.commit(archive, &log.batch_on_partition_0([event_of_kind("v", Kind::Unshare)]), &rules).await;
    check_decayed_scores(archive, &model).await;
}
