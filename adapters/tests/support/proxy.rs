//! A TCP proxy in front of a real store, so that a test can take the store away and bring it back.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The way in which the proxy treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Open,
    /// Refuses new connections and has closed the others, as if the store were dead.
    Cut,
    /// Accepts everything and passes nothing on, as if the network swallowed it.
    Stalled,
}

/// A function that may change the frames of one direction: each is a 32-bit length and as many bytes.
pub type Rewrite = fn(&mut [u8], Ports);

/// The store's port and the proxy's.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub store: u16,
    pub proxy: u16,
}

pub struct Proxy {
    pub ports: Ports,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port in front of the store on 127.0.0.1. The store's answers pass through `rewrite`.
    pub async fn before(store: u16, rewrite: Option<Rewrite>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ports = Ports { store, proxy: listener.local_addr().unwrap().port() };
        let (mode, watched) = watch::channel(Mode::Open);
        let task = tokio::spawn(serve_clients(listener, ports, rewrite, watched));
        Self { ports, mode, task }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Cut);
        self.task.abort();
    }
}

async fn serve_clients(
    listener: TcpListener,
    ports: Ports,
    rewrite: Option<Rewrite>,
    mut mode: watch::Receiver<Mode>,
) {
    let mut listener = Some(listener);
    loop {
        if *mode.borrow_and_update() == Mode::Cut {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        if listener.is_none() {
            listener = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, ports.proxy)).await.unwrap());
        }
        tokio::select! {
            accepted = listener.as_ref().unwrap().accept() => {
                let (client, _) = accepted.unwrap();
                tokio::spawn(pass_through(client, ports, rewrite, mode.clone()));
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn pass_through(
    client: TcpStream,
    ports: Ports,
    rewrite: Option<Rewrite>,
    mode: watch::Receiver<Mode>,
) {
    let Ok(store) = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.store)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_store, to_store) = store.into_split();
    let mut watched = mode.clone();
    tokio::select! {
        () = copy_bytes(from_client, to_store, mode.clone()) => {}
        () = async {
            match rewrite {
                Some(rewrite) => copy_frames(from_store, to_client, mode, rewrite, ports).await,
                None => copy_bytes(from_store, to_client, mode).await,
            }
        } => {}
        _ = watched.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn wait_until_flowing(mode: &mut watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| *mode != Mode::Stalled).await;
}

async fn copy_bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        wait_until_flowing(&mut mode).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn copy_frames(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    rewrite: Rewrite,
    ports: Ports,
) {
    while let Ok(length) = from.read_u32().await {
        let mut frame = vec![0; length as usize];
        if from.read_exact(&mut frame).await.is_err() {
            return;
        }
        wait_until_flowing(&mut mode).await;
        rewrite(&mut frame, ports);
        if to.write_u32(length).await.is_err() || to.write_all(&frame).await.is_err() {
            return;
        }
    }
}
