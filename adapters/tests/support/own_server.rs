//! A store of a test's own, with settings that the test bed's has not, and certificates for it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A server on a free port of 127.0.0.1, with a directory of its own. Dropping this value ends it.
pub struct OwnServer {
    process: Child,
    pub port: u16,
    pub directory: TempDir,
}

impl OwnServer {
    /// Starts `program` with the arguments that `arguments` returns for the port and the directory.
    pub fn start(program: &Path, arguments: impl FnOnce(u16, &Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .args(arguments(port, directory.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { process, port, directory }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate authority.
pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Returns a certificate for servers of this machine, and its key.
    pub fn issue_certificate(&self) -> (String, String) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Replaces a file as a whole.
pub fn replace_file(file: &Path, contents: &str) {
    let whole: PathBuf = file.with_extension("whole");
    std::fs::write(&whole, contents).unwrap();
    std::fs::rename(whole, file).unwrap();
}
