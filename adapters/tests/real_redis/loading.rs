//! Assignments that are loaded while the connection to Redis is lost.

use super::logins::FileUser;
use super::*;

/// The number of assignments: they come in some thirty pieces.
const ASSIGNMENTS: usize = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assignments_are_not_loaded_on_over_another_connection() {
    let mut user = FileUser::new("secret").await;
    let store = Arc::new(RedisAssignments::new(connected(user.link()).await));
    store.assign_video(&video("v"), None, &[reader_share("r")], 0, None).await.unwrap();
    let key = user.key("assignments");
    let json: String = user.admin.run_command(&["HGET", &key, "v"]).await;
    let ids: Vec<String> = (1..ASSIGNMENTS).map(|number| format!("v{number}")).collect();
    for ids in ids.chunks(1_000) {
        let fields = ids.iter().flat_map(|id| [id.as_str(), &json]);
        let command: Vec<&str> = ["HSET", &key].into_iter().chain(fields).collect();
        user.admin.run_command::<()>(&command).await;
    }
    let mut was_lost_between_pieces = false;
    for _ in 0..200 {
        let loading = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.load_assignments().await }
        });
        user.kill_connections().await;
        match loading.await.unwrap() {
            Ok(loaded) => assert_eq!(loaded.assignments.len(), ASSIGNMENTS),
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                was_lost_between_pieces |= error.to_string().contains("while the assignments were read");
            }
        }
        if was_lost_between_pieces {
            break;
        }
    }
    assert!(was_lost_between_pieces, "no connection was lost between two pieces, 200 times");
    user.admin.run_command::<()>(&["DEL", &key]).await;
    user.delete().await;
}
