//! Panics on demand, for tests of the supervision. Compiled with the feature `failpoints` only, which no release has.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// The failpoints of one [`crate::ServiceContext`] and its clones: each supervised task has one, with the task's name.
#[derive(Clone)]
pub struct Failpoints {
    started_tasks: watch::Sender<BTreeSet<&'static str>>,
    armed_failpoint: watch::Sender<Option<&'static str>>,
}

impl Default for Failpoints {
    fn default() -> Self {
        Self { started_tasks: watch::Sender::new(BTreeSet::new()), armed_failpoint: watch::Sender::new(None) }
    }
}

impl Failpoints {
    /// Returns the names of the tasks that were started so far.
    pub fn started_task_names(&self) -> BTreeSet<&'static str> {
        self.started_tasks.borrow().clone()
    }

    /// Waits until every task in `expected` has been started.
    pub async fn wait_until_started(&self, expected: &BTreeSet<&'static str>) {
        // `self` holds the sender, so the channel cannot be closed.
        let _ = self.started_tasks.subscribe().wait_for(|names| names.is_superset(expected)).await;
    }

    /// Makes the task of this name panic: at once if it runs, else when it is started.
    pub fn panic_in(&self, name: &'static str) {
        self.armed_failpoint.send_replace(Some(name));
    }

    /// Runs `task` until it ends, or panics as soon as the failpoint `name` is armed.
    pub(crate) async fn run_or_panic<T>(self, name: &'static str, task: impl Future<Output = T>) -> T {
        self.started_tasks.send_if_modified(|names| names.insert(name));
        let mut armed = self.armed_failpoint.subscribe();
        tokio::select! {
            done = task => done,
            _ = armed.wait_for(|armed| *armed == Some(name)) => panic!("the failpoint of {name}"),
        }
    }
}
