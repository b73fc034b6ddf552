//! Checks of planners' orders: terms, cordons, and that a planner whose term is over changes nothing.

use std::sync::Arc;

use liverank_core::ReaderId;
use liverank_core::handover::PlannerLease;

use super::{
    DAY_MICROS, SharedStore, UNUSUAL_IDS, all_assignments, assign_and_expect, highest_safe_epoch, shares_of,
    video,
};
use liverank_adapters::assignment_store::{
    CordonLevel, MAX_EPOCH, PlannerOrders, PlannerTerm, ReaderCordon, SwapOutcome, TermGrant,
};

/// Runs all checks; `fresh` returns a new, empty store for each.
pub(super) async fn suite<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = SharedStore>,
{
    terms_are_minted_by_compare_and_set(fresh().await).await;
    one_concurrent_planner_gets_the_term(fresh().await).await;
    what_an_old_term_orders_is_refused(fresh().await).await;
    a_lost_term_is_taken_over(fresh().await).await;
    an_impossible_term_is_refused(fresh().await).await;
    the_lease_shown_last_is_kept(fresh().await).await;
    cordons_are_kept_as_they_came(fresh().await).await;
}

/// Begins a term, with nobody else trying, and returns it.
pub(super) async fn begin_term(store: &SharedStore, holder: &str, expected: u64, seen: u64) -> u64 {
    match store.mint_term(holder, None, expected, seen).await.unwrap() {
        TermGrant::Held(term) => {
            assert_eq!((term.holder.as_str(), term.beat), (holder, 0));
            term.term
        }
        TermGrant::Lost(other) => panic!("nobody else is there, not {other:?}"),
    }
}

fn planner_term(term: u64, holder: &str, beat: u64) -> PlannerTerm {
    PlannerTerm { term, holder: holder.to_owned(), lease: None, beat }
}

fn reader(id: &str) -> ReaderId {
    ReaderId::parse(id).unwrap()
}

fn cordon(id: &str, closing: CordonLevel) -> ReaderCordon {
    ReaderCordon { reader: reader(id), closing, why: format!("because of \"{id}\"") }
}

async fn terms_are_minted_by_compare_and_set(store: SharedStore) {
    assert_eq!(store.planner_orders().await.unwrap(), PlannerOrders::default());
    assert_eq!(store.mint_term("p", None, 7, 0).await.unwrap(), TermGrant::Lost(None));
    let first = begin_term(&store, "p", 0, 0).await;
    let held = planner_term(first, "p", 0);
    assert_eq!(store.mint_term("q", None, 0, 0).await.unwrap(), TermGrant::Lost(Some(held)));
    let beaten = planner_term(first, "p", 42);
    assert_eq!(store.renew_term(&beaten).await.unwrap(), TermGrant::Held(beaten.clone()));
    assert_eq!(store.planner_orders().await.unwrap().planner_term, Some(beaten));
    let seen = highest_safe_epoch();
    let second = begin_term(&store, "ä \"q\"", first, seen).await;
    assert!(second > seen, "{second} after {seen}");
    let third = begin_term(&store, "r", second, 3).await;
    assert!(third > second);
    let now = planner_term(third, "r", 0);
    assert_eq!(store.renew_term(&planner_term(second, "q", 1)).await.unwrap(), TermGrant::Lost(Some(now)));
}

async fn one_concurrent_planner_gets_the_term(store: SharedStore) {
    let mut expected = 0;
    for _ in 0..20 {
        let tries = (0..8).map(|at| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.mint_term(&format!("p{at}"), None, expected, 0).await.unwrap() })
        });
        let outcomes: Vec<TermGrant> =
            futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        let held: Vec<&PlannerTerm> = outcomes
            .iter()
            .filter_map(|it| if let TermGrant::Held(term) = it { Some(term) } else { None })
            .collect();
        let [held] = held[..] else { panic!("{held:?} took office") };
        assert_eq!(outcomes.iter().filter(|it| **it == TermGrant::Lost(Some(held.clone()))).count(), 7);
        expected = held.term;
    }
}

async fn what_an_old_term_orders_is_refused(store: SharedStore) {
    let old = begin_term(&store, "old", 0, 0).await;
    let new = begin_term(&store, "new", old, 0).await;
    let order = |expected, term| {
        let store = Arc::clone(&store);
        async move { store.assign_video(&video("v"), expected, &shares_of(&["r"]), 0, Some(term)).await.unwrap() }
    };
    assert_eq!(order(None, old).await, SwapOutcome::Fenced(new));
    assert!(all_assignments(&store).await.is_empty(), "it changed nothing");
    let SwapOutcome::Stored(stored) = order(None, new).await else { panic!("the term in force is obeyed") };
    // A manager's own operations need no term, and a conflict is reported to the planner in office, too.
    assign_and_expect(&store, "w", None, &["r"], 0).await;
    assert_eq!(order(None, new).await, SwapOutcome::Conflict(Some(stored.clone())));
    assert_eq!(order(Some(stored.epoch()), old).await, SwapOutcome::Fenced(new));
    let cordon = cordon("r", CordonLevel::Closed);
    assert_eq!(store.set_cordon(old, &reader("r"), Some(&cordon)).await.unwrap(), Some(new));
    assert_eq!(store.planner_orders().await.unwrap().cordons, []);
    assert_eq!(store.set_cordon(new, &reader("r"), Some(&cordon)).await.unwrap(), None);
    assert_eq!(store.set_cordon(old, &reader("r"), None).await.unwrap(), Some(new));
    assert_eq!(store.planner_orders().await.unwrap().cordons, [cordon]);
}

async fn a_lost_term_is_taken_over(store: SharedStore) {
    let lost = highest_safe_epoch();
    let ordered = store.assign_video(&video("v"), None, &shares_of(&["r"]), 0, Some(lost)).await.unwrap();
    assert!(matches!(ordered, SwapOutcome::Stored(_)));
    assert_eq!(store.planner_orders().await.unwrap().planner_term, Some(planner_term(lost, "", 0)));
    let named = planner_term(lost, "p", 9);
    assert_eq!(store.renew_term(&named).await.unwrap(), TermGrant::Held(named));
    assert_eq!(store.set_cordon(lost - 1, &reader("r"), None).await.unwrap(), Some(lost));
    assert!(begin_term(&store, "q", lost, 0).await > lost);
}

async fn an_impossible_term_is_refused(store: SharedStore) {
    for impossible in [highest_safe_epoch() + DAY_MICROS, 1 << 52, MAX_EPOCH, u64::MAX] {
        let ordered = store.assign_video(&video("v"), None, &shares_of(&["r"]), 0, Some(impossible)).await;
        assert!(ordered.is_err_and(|error| !error.is_transient()));
        assert!(store.mint_term("p", None, 0, impossible).await.is_err());
        assert!(store.renew_term(&planner_term(impossible, "p", 1)).await.is_err());
        assert!(store.set_cordon(impossible, &reader("r"), None).await.is_err());
    }
    assert_eq!(store.planner_orders().await.unwrap(), PlannerOrders::default(), "they left no trace");
}

async fn the_lease_shown_last_is_kept(store: SharedStore) {
    let lease = |uid: &str, transitions| Some(PlannerLease { uid: uid.to_owned(), transitions });
    let stored = async || store.planner_orders().await.unwrap().planner_term.unwrap();
    let mint = async |lease: Option<PlannerLease>, expected| match store
        .mint_term("p", lease.as_ref(), expected, 0)
        .await
        .unwrap()
    {
        TermGrant::Held(term) => term,
        TermGrant::Lost(other) => panic!("nobody else is there, not {other:?}"),
    };
    let bare = mint(None, 0).await;
    assert_eq!((bare.lease.clone(), stored().await), (None, bare.clone()));
    let first = mint(lease("ä \"1\"", 3), bare.term).await;
    assert_eq!((first.lease.clone(), stored().await), (lease("ä \"1\"", 3), first.clone()));
    // A planner that did not take office left no lease behind.
    let late = store.mint_term("late", lease("1", 9).as_ref(), bare.term, 0).await.unwrap();
    assert_eq!(late, TermGrant::Lost(Some(first.clone())));
    assert_eq!(stored().await, first);
    // The lease is kept by a beat, by a planner without a lease, and by a term that was lost.
    let beaten = planner_term(first.term, "p", 5);
    let kept = PlannerTerm { lease: first.lease.clone(), ..beaten.clone() };
    assert_eq!(store.renew_term(&beaten).await.unwrap(), TermGrant::Held(kept));
    let without = mint(None, first.term).await;
    assert_eq!(without.lease, first.lease);
    store.set_cordon(without.term + 7, &reader("r"), None).await.unwrap();
    assert_eq!(
        stored().await,
        PlannerTerm { lease: first.lease.clone(), ..planner_term(without.term + 7, "", 0) }
    );
    let told_again =
        PlannerTerm { lease: lease("2", u64::from(u32::MAX)), ..planner_term(without.term + 7, "p", 1) };
    assert_eq!(store.renew_term(&told_again).await.unwrap(), TermGrant::Held(told_again.clone()));
    assert_eq!(stored().await, told_again);
}

async fn cordons_are_kept_as_they_came(store: SharedStore) {
    let term = begin_term(&store, "p", 0, 0).await;
    let mut expected: Vec<ReaderCordon> =
        UNUSUAL_IDS.iter().map(|id| cordon(id, CordonLevel::Draining)).collect();
    for cordon in &expected {
        assert_eq!(store.set_cordon(term, &cordon.reader, Some(cordon)).await.unwrap(), None);
    }
    expected.sort_by(|a, b| a.reader.cmp(&b.reader));
    assert_eq!(store.planner_orders().await.unwrap().cordons, expected);
    expected[3].closing = CordonLevel::Closed;
    assert_eq!(store.set_cordon(term, &expected[3].reader, Some(&expected[3])).await.unwrap(), None);
    let open = expected.remove(0);
    assert_eq!(store.set_cordon(term, &open.reader, None).await.unwrap(), None);
    assert_eq!(store.planner_orders().await.unwrap().cordons, expected);
}
