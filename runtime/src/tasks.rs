//! The background tasks of a service, supervised: none of them ends without the service ending too.
//!
//! A service that lost one of its tasks looks healthy and does only part of its work. So a service gives every task
//! that lives as long as the service to [`Tasks`], and runs its server with [`Tasks::run_alongside`]. Short work that a
//! task starts (a `tokio::spawn` of its own, a thread, a store's own task) is covered by [`crate::process`], which ends
//! the process after any panic that is not confined to one connection.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ServiceContext;

/// The background tasks of one service. Tasks that still run are aborted when this is dropped.
pub struct Tasks {
    join_set: JoinSet<()>,
    names_by_id: HashMap<Id, &'static str>,
    shutdown: CancellationToken,
    #[cfg(feature = "failpoints")]
    failpoints: crate::failpoints::Failpoints,
}

impl Tasks {
    /// Creates an empty set of tasks for the service with this context.
    pub fn new(context: &ServiceContext) -> Self {
        Self {
            join_set: JoinSet::new(),
            names_by_id: HashMap::new(),
            shutdown: context.shutdown.clone(),
            #[cfg(feature = "failpoints")]
            failpoints: context.failpoints.clone(),
        }
    }

    /// Starts a task that must run at least until the shutdown. `name` is the task's name in errors.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        #[cfg(feature = "failpoints")]
        let task = self.failpoints.clone().run_or_panic(name, task);
        let started = self.join_set.spawn(task);
        self.names_by_id.insert(started.id(), name);
    }

    /// Names a part of a service that runs within the service's own future: a panic of the part is a panic of the
    /// service. Returns `part` unchanged; in tests, the failpoint `name` makes it panic.
    pub fn supervise_inside<T, F: Future<Output = T>>(
        &self,
        name: &'static str,
        part: F,
    ) -> impl Future<Output = T> + use<T, F> {
        #[cfg(feature = "failpoints")]
        let part = self.failpoints.clone().run_or_panic(name, part);
        #[cfg(not(feature = "failpoints"))]
        let _ = name;
        part
    }

    /// Runs `main` to its end, as long as all tasks live.
    ///
    /// # Errors
    /// Returns the error of `main`, or an error that names the first task that panicked or ended before the shutdown;
    /// `main` is dropped then.
    pub async fn run_alongside<T>(
        &mut self,
        main: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            done = main => done,
            error = self.wait_for_failure() => Err(error),
        }
    }

    /// Waits for at most `limit` until all tasks called `name` have ended. Returns true if these tasks have ended.
    ///
    /// # Errors
    /// A task of the service panicked during the wait.
    pub async fn wait_for_task(&mut self, name: &'static str, limit: Duration) -> anyhow::Result<bool> {
        let finishing = async {
            while self.names_by_id.values().any(|running| *running == name) {
                let Some(ended) = self.join_set.join_next_with_id().await else { break };
                self.name_of_ended_task(ended)?;
            }
            Ok(())
        };
        tokio::time::timeout(limit, finishing)
            .await
            .map_or(Ok(false), |done: anyhow::Result<()>| done.map(|()| true))
    }

    /// Waits until a task panics or ends before the shutdown. Returns the error that names the task.
    async fn wait_for_failure(&mut self) -> anyhow::Error {
        while let Some(ended) = self.join_set.join_next_with_id().await {
            match self.name_of_ended_task(ended) {
                Err(panicked) => return panicked,
                Ok(_) if self.shutdown.is_cancelled() => {}
                Ok(name) => return anyhow::anyhow!("the task `{name}` ended before the shutdown"),
            }
        }
        std::future::pending().await
    }

    /// Returns the name of a task that ended; an error if the task panicked.
    fn name_of_ended_task(&mut self, ended: Result<(Id, ()), JoinError>) -> anyhow::Result<&'static str> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let name = self.names_by_id.remove(&id).unwrap_or("unnamed");
        match ended {
            Ok(_) => Ok(name),
            // The text of a `JoinError` includes the text of the panic.
            Err(error) => Err(anyhow::anyhow!("the task `{name}` failed: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> ServiceContext {
        ServiceContext::new(Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_the_service_with_an_error_that_names_it() {
        let context = context();
        let mut tasks = Tasks::new(&context);
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("sweep", async { panic!("a bug") });
        let main = std::future::pending::<anyhow::Result<()>>();
        let error = tasks.run_alongside(main).await.unwrap_err().to_string();
        assert!(error.contains("`sweep`") && error.contains("a bug"), "{error}");
    }

    #[tokio::test]
    async fn a_task_may_end_after_the_shutdown_and_not_before() {
        let context = context();
        let mut tasks = Tasks::new(&context);
        tasks.spawn("reports", async {});
        let main = std::future::pending::<anyhow::Result<()>>();
        let error = tasks.run_alongside(main).await.unwrap_err().to_string();
        assert_eq!(error, "the task `reports` ended before the shutdown");

        context.shutdown.cancel();
        tasks.spawn("reports", async {});
        let main = async {
            while !tasks_ended().await {}
            Ok(7)
        };
        assert_eq!(tasks.run_alongside(main).await.unwrap(), 7);
    }

    /// Lets other tasks run until they have ended.
    async fn tasks_ended() -> bool {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn one_task_can_be_waited_for() {
        let mut tasks = Tasks::new(&context());
        tasks.spawn("for ever", std::future::pending());
        tasks.spawn("a second", tokio::time::sleep(Duration::from_secs(1)));
        assert!(!tasks.wait_for_task("a second", Duration::from_millis(500)).await.unwrap());
        assert!(tasks.wait_for_task("a second", Duration::from_secs(1)).await.unwrap());
        tasks.spawn("broken", async { panic!("a bug") });
        assert!(tasks.wait_for_task("broken", Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test]
    async fn tasks_end_with_their_owner() {
        let mut tasks = Tasks::new(&context());
        let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        tasks.spawn("holder", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(tasks);
        assert_eq!(gone.recv().await, None);
    }
}
