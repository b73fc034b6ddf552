//! Runs the suites on the stores of `liverank up` that are in memory, and on the assignments in a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{AssignmentStore, CommentBus, RankingStore};

#[tokio::test]
async fn embedded_ranking_passes_the_ranking_store_suite() {
    crate::ranking_store::suite(|| async { Arc::new(EmbeddedRanking::new()) as Arc<dyn RankingStore> }).await;
}

#[tokio::test]
async fn embedded_bus_passes_the_comment_bus_suite() {
    crate::comment_bus::suite(|| async { Arc::new(EmbeddedBus::new()) as Arc<dyn CommentBus> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_assignments_pass_the_assignment_store_suite() {
    crate::assignment_store::suite(|| async {
        Arc::new(EmbeddedAssignments::new()) as Arc<dyn AssignmentStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_assignments_on_a_file_pass_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    let stores = AtomicUsize::new(0);
    crate::assignment_store::suite(|| async {
        let store = stores.fetch_add(1, Ordering::Relaxed);
        let store = EmbeddedAssignments::open(&directory.path().join(store.to_string())).unwrap();
        Arc::new(store) as Arc<dyn AssignmentStore>
    })
    .await;
}
