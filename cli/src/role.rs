//! One service as a process of its own.

use anyhow::Context;
use clap::Args;
use liverank_protocol::roles::Role;
use liverank_runtime::{ServiceContext, admin, server};
use tokio::net::TcpListener;

use crate::cli::RoleArgs;
use crate::stores::{StoreArgs, StoreUser};

/// Runs a service on the stores that `open` makes of their settings, until it is asked to end and has drained.
pub fn run<C: Args, B, F: Future<Output = anyhow::Result<()>>>(
    role: Role,
    settings: RoleArgs<C>,
    open: impl AsyncFnOnce(StoreArgs, StoreUser) -> anyhow::Result<B>,
    service: impl FnOnce(C, B, TcpListener, ServiceContext) -> F,
) -> anyhow::Result<std::process::ExitCode> {
    let name = role.name();
    let RoleArgs { listen, config, stores, process } = settings;
    let admin_listen = process.admin_listen;
    process.run(move |shell| async move {
        // Both before anything else: a port in use is told at once, and before a store is touched.
        let address = listen.unwrap_or(([127, 0, 0, 1], 0).into());
        let listener = server::bind(address, name).await?;
        let admin_listener = server::bind(admin_listen, &format!("{name}'s admin port")).await?;
        let stores = open(stores, role.into()).await?;
        tracing::info!(service = name, listen = %address, admin = %admin_listen, "started");
        let health = shell.health.clone();
        let draining = shell.shutdown.clone();
        let serving = async {
            tokio::select! {
                served = service(config, stores, listener, shell.clone()) => served,
                served = admin::run(admin_listener, shell.clone()) => served,
                () = async { draining.cancelled().await; health.draining(); std::future::pending().await } => Ok(()),
            }
        };
        serving.await.with_context(|| name.to_owned())?;
        tracing::info!(service = name, "drained");
        Ok(())
    })
}
