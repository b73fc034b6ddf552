//! Runs one service as a process of its own.

use anyhow::{Context, ensure};
use clap::Args;
use liverank_protocol::access::{self, KnownCaller};
use liverank_protocol::roles::Role;
use liverank_runtime::{ServiceContext, admin, server};
use tokio::net::TcpListener;

use crate::judged::CheckedSettings;
use crate::process::RoleArgs;
use crate::stores::{RequiredStores, StoreArgs};

/// The error if a process that calls others, or is called by them, was started without an identity.
const NO_IDENTITY_ERROR: &str = "this process calls others or is called by them, and the processes of a system recognise each other by an identity: set \
    --identity-key-file to a file with 32 random bytes or more, the same for all (`openssl rand -hex 32 > identity.key`); on \
    Kubernetes --identity-token-file and --identity-jwks-file";

/// Runs a service until it was asked to end and has drained. `open` opens the stores that the service needs.
pub fn run<C: Args + CheckedSettings, B, F: Future<Output = anyhow::Result<()>>>(
    role: Role,
    settings: RoleArgs<C>,
    open: impl AsyncFnOnce(StoreArgs, RequiredStores) -> anyhow::Result<B>,
    service: impl FnOnce(C, B, TcpListener, ServiceContext) -> F,
) -> anyhow::Result<std::process::ExitCode> {
    let name = role.name();
    let RoleArgs { listen, config, stores, process } = settings;
    let admin_listen = process.admin_listen;
    let who = access::CallerRole::from(role);
    let has_identity = process.identity.any_given();
    ensure!(has_identity || !matches!(role, Role::Gateway | Role::Manager | Role::Reader), NO_IDENTITY_ERROR);
    process.run(move |mut shell| async move {
        // A reader's identity has its id, which the reader itself finds out.
        if let Some(caller) = KnownCaller::of_role(who).filter(|_| has_identity) {
            shell.identity = shell.identity.acting_as(&caller)?;
        }
        // The settings are checked first: an error must name what is wrong, not what happens to be in the way. Opening
        // these stores connects to nothing yet, so a port in use is reported before a store is asked for anything.
        let address = listen.unwrap_or(([127, 0, 0, 1], 0).into());
        let stores = open(stores, role.into()).await?;
        config.check_settings(address, &shell.identity)?;
        let listener = server::bind_listener(address, name, "--listen").await?;
        let admin_listener = server::bind_listener(admin_listen, &format!("{name}'s admin port"), "--admin-listen").await?;
        tracing::info!(service = name, listen = %address, admin = %admin_listen, "started");
        let health = shell.health.clone();
        let draining = shell.shutdown.clone();
        let serving = async {
            tokio::select! {
                served = service(config, stores, listener, shell.clone()) => served,
                served = admin::run(admin_listener, shell.clone()) => served,
                () = async { draining.cancelled().await; health.note_draining(); std::future::pending().await } => Ok(()),
            }
        };
        serving.await.with_context(|| name.to_owned())?;
        tracing::info!(service = name, "drained");
        Ok(())
    })
}
