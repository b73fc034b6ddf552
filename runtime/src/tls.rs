//! TLS of this process's ports, and of its connections to other liverank processes, with certificate files that may
//! change at any time.
//!
//! The contents of the files are checked each second. So it does not matter whether a file is overwritten, renamed, or
//! reached by a symbolic link that is exchanged, as the kubelet does. New connections use the current certificates;
//! open connections go on. Broken files at the start are an error. Later they cause a warning and are counted, and the
//! last good certificates stay in use: a mistake in renewing certificates must not end a service.
//!
//! A certificate shows that a process belongs to this system. What the process may do is decided by its token
//! ([`access`](liverank_protocol::access)).
//!
//! | module | has |
//! |---|---|
//! | this one | the flags, and the settings that are made of them |
//! | `material` | reading certificates and keys from files, with errors that name the file |
//! | `validity` | the end of a certificate's validity |
//! | `listener` | TLS of the ports |
//! | `peers` | TLS of connections to other liverank processes |
//! | `reload` | the check of the files each second |

use std::path::PathBuf;

use anyhow::{bail, ensure};

mod listener;
mod material;
mod peers;
mod reload;
#[cfg(test)]
mod tests;
mod validity;

pub use listener::ListenerTls;
use material::{KeyFiles, NamedFile};
pub use peers::PeerTls;
pub use reload::FileReloading;
pub use validity::{certificate_end, first_certificate_end};

/// The flags of TLS of a process.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// The certificate of this process's ports, in PEM, followed by its intermediate certificates.
    ///
    /// All ports of the process then accept TLS only, including the admin port, which shows --peer-cert-file if that is
    /// given, because only other processes use it. This file and all others of this section are read again when they
    /// change.
    #[arg(long, env = "LIVERANK_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of --tls-cert-file, in PEM.
    #[arg(long, env = "LIVERANK_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Accept only clients with a certificate of these authorities, in PEM. The admin port asks for none.
    #[arg(long, env = "LIVERANK_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// TLS of connections to other liverank processes.
    #[command(flatten)]
    pub peers: PeerTlsArgs,
}

/// The flags of TLS for connections to other liverank processes, where their addresses begin with `https://`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct PeerTlsArgs {
    /// The authorities, in PEM, of other liverank processes' certificates. Without it: those that browsers trust.
    #[arg(long, env = "LIVERANK_PEER_CA_FILE", value_name = "FILE")]
    pub peer_ca_file: Option<PathBuf>,
    /// The certificate shown to other liverank processes, in PEM. Without it: that of --tls-cert-file, if there is one.
    #[arg(long, env = "LIVERANK_PEER_CERT_FILE", value_name = "FILE")]
    pub peer_cert_file: Option<PathBuf>,
    /// The key of --peer-cert-file, in PEM.
    #[arg(long, env = "LIVERANK_PEER_KEY_FILE", value_name = "FILE")]
    pub peer_key_file: Option<PathBuf>,
}

/// The TLS settings of a process, made from its flags.
#[derive(Debug, Default)]
pub struct ProcessTls {
    /// TLS of the ports; `None`: the ports serve plain HTTP.
    pub listener_tls: Option<ListenerTls>,
    /// TLS of the admin port, which asks for no client certificates, because probes and scrapers have none; `None`:
    /// plain HTTP.
    pub admin_tls: Option<ListenerTls>,
    /// TLS of connections to other liverank processes.
    pub peer_tls: PeerTls,
    /// The task that reloads all these certificates when their files change.
    pub file_reloading: FileReloading,
}

impl TlsArgs {
    /// Reads all TLS files of the process once, and returns its TLS settings.
    ///
    /// # Errors
    /// A flag is given without the one that it needs; or a file cannot be used: the error names the file and what is
    /// wrong with it.
    pub fn open(&self) -> anyhow::Result<ProcessTls> {
        let own = key_files(
            "--tls-cert-file",
            self.tls_cert_file.as_ref(),
            "--tls-key-file",
            self.tls_key_file.as_ref(),
        )?;
        let clients =
            self.tls_client_ca_file.as_ref().map(|file| NamedFile::new("--tls-client-ca-file", file));
        ensure!(
            own.is_some() || clients.is_none(),
            "--tls-client-ca-file needs --tls-cert-file and --tls-key-file"
        );
        let shown = self.peers.shown_to_peers()?;
        let (peers, watched) = self.peers.read_peer_tls(shown.clone().or_else(|| own.clone()))?;
        let mut reloading = FileReloading::default();
        reloading.watch(watched);
        let Some(own) = own else {
            return Ok(ProcessTls {
                listener_tls: None,
                admin_tls: None,
                peer_tls: peers,
                file_reloading: reloading,
            });
        };
        let (listener, watched) = ListenerTls::from_files(own, clients)?;
        reloading.set_failed_handshakes_counter(listener.failed_handshakes());
        reloading.watch(watched);
        let admin = match shown {
            Some(shown) => {
                let (admin, watched) = listener.with_peer_certificate(shown)?;
                reloading.watch(watched);
                admin
            }
            None => listener.without_client_certificates(),
        };
        Ok(ProcessTls {
            listener_tls: Some(listener),
            admin_tls: Some(admin),
            peer_tls: peers,
            file_reloading: reloading,
        })
    }
}

impl PeerTlsArgs {
    /// Reads the files once, for a command that ends soon and need not reload them.
    ///
    /// # Errors
    /// As [`TlsArgs::open`].
    pub fn open(&self) -> anyhow::Result<PeerTls> {
        Ok(self.read_peer_tls(self.shown_to_peers()?)?.0)
    }

    /// Returns the files of the certificate that these flags name for connections to other processes; `None` if they
    /// name none.
    fn shown_to_peers(&self) -> anyhow::Result<Option<KeyFiles>> {
        key_files(
            "--peer-cert-file",
            self.peer_cert_file.as_ref(),
            "--peer-key-file",
            self.peer_key_file.as_ref(),
        )
    }

    fn read_peer_tls(
        &self,
        shown: Option<KeyFiles>,
    ) -> anyhow::Result<(PeerTls, Option<reload::WatchedFiles>)> {
        let authorities = self.peer_ca_file.as_ref().map(|file| NamedFile::new("--peer-ca-file", file));
        PeerTls::from_files(authorities, shown)
    }
}

/// Returns the files of a certificate and its key; `None` if neither is given. One without the other is an error.
fn key_files(
    cert_flag: &'static str,
    cert: Option<&PathBuf>,
    key_flag: &'static str,
    key: Option<&PathBuf>,
) -> anyhow::Result<Option<KeyFiles>> {
    match (cert, key) {
        (Some(cert), Some(key)) => {
            Ok(Some(KeyFiles { cert: NamedFile::new(cert_flag, cert), key: NamedFile::new(key_flag, key) }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => bail!("{cert_flag} needs {key_flag}"),
        (None, Some(_)) => bail!("{key_flag} needs {cert_flag}"),
    }
}
