//! A MongoDB of a test's own that asks for rights and speaks TLS: the test bed's does neither.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mongodb::options::ClientOptions;

use super::own_server::{Authority, OwnServer, replace_file};
use super::*;

/// The life of a transaction at this server, which is a minute by default.
pub const TRANSACTION_LIFE: Duration = Duration::from_secs(10);
/// The name of the database of these tests.
pub const DATABASE: &str = "rights";
const ROOT_PASSWORD: &str = "of-root";

pub struct OwnMongod {
    server: OwnServer,
    /// A client that may do everything.
    pub root: Client,
}

impl OwnMongod {
    /// Starts a replica set of one member, whose certificate is of `authority`, and which has the user `root` alone.
    pub async fn start(authority: &Authority) -> Self {
        let program = std::env::var_os("LIVERANK_TEST_MONGOD")
            .expect("LIVERANK_TEST_MONGOD is not set: eval \"$(testbed/testbed env)\"");
        let server = OwnServer::start(Path::new(&program), |port, directory| {
            std::fs::create_dir(directory.join("data")).unwrap();
            let key = directory.join("key");
            std::fs::write(&key, "c2VjcmV0LW9mLXRoZS1tZW1iZXJz").unwrap();
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).unwrap();
            write_certificate(directory, authority);
            let file = |name: &str| directory.join(name).display().to_string();
            let life = format!("transactionLifetimeLimitSeconds={}", TRANSACTION_LIFE.as_secs());
            let settings = [
                ["--bind_ip", "127.0.0.1"].map(str::to_owned),
                ["--port".to_owned(), port.to_string()],
                ["--dbpath".to_owned(), file("data")],
                ["--keyFile".to_owned(), file("key")],
                ["--tlsCertificateKeyFile".to_owned(), file("server.pem")],
                ["--tlsCAFile".to_owned(), file("authority.pem")],
                ["--tlsMode", "preferTLS"].map(str::to_owned),
                ["--replSet", "rs0"].map(str::to_owned),
                ["--oplogSize", "128"].map(str::to_owned),
                ["--wiredTigerCacheSizeGB", "0.25"].map(str::to_owned),
                ["--setParameter".to_owned(), life],
                ["--setParameter", "diagnosticDataCollectionEnabled=false"].map(str::to_owned),
            ];
            let flags = ["--auth", "--nounixsocket", "--quiet", "--tlsAllowConnectionsWithoutCertificates"];
            settings.concat().into_iter().chain(flags.map(str::to_owned)).collect()
        });
        // Until there is a user, whoever comes from this machine may make the first one.
        let first = client_at(&format!("mongodb://127.0.0.1:{}/?directConnection=true", server.port)).await;
        let admin = first.database("admin");
        let member = doc! { "_id": 0, "host": format!("127.0.0.1:{}", server.port) };
        let set = doc! { "replSetInitiate": { "_id": "rs0", "members": [member] } };
        until_ok("the set is made", async || admin.run_command(set.clone()).await).await;
        let user = doc! { "createUser": "root", "pwd": ROOT_PASSWORD, "roles": ["root"] };
        until_ok("there is a primary", async || admin.run_command(user.clone()).await).await;
        let root = client_at(&uri_of("root", ROOT_PASSWORD, "admin", server.port)).await;
        Self { server, root }
    }

    /// Makes a user with these roles in [`DATABASE`].
    pub async fn make_user(&self, name: &str, password: &str, roles: &[&str]) {
        let user = doc! { "createUser": name, "pwd": password, "roles": roles };
        self.root.database(DATABASE).run_command(user).await.unwrap();
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Returns the address for a user of [`DATABASE`].
    pub fn uri(&self, user: &str, password: &str) -> String {
        uri_of(user, password, DATABASE, self.server.port)
    }

    /// Returns a path for a file of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.server.directory.path().join(name)
    }

    /// Makes the server show a certificate of `authority` from now on.
    pub async fn change_certificate(&self, authority: &Authority) {
        write_certificate(self.server.directory.path(), authority);
        self.root.database("admin").run_command(doc! { "rotateCertificates": 1 }).await.unwrap();
    }
}

fn uri_of(user: &str, password: &str, database: &str, port: u16) -> String {
    format!("mongodb://{user}:{password}@127.0.0.1:{port}/?directConnection=true&authSource={database}")
}

/// Writes the server's certificate. The server trusts the authority, as it has to with certificates.
fn write_certificate(directory: &Path, authority: &Authority) {
    let (certificate, key) = authority.issue_certificate();
    replace_file(&directory.join("server.pem"), &format!("{certificate}{key}"));
    replace_file(&directory.join("authority.pem"), &authority.certificate);
}

async fn client_at(uri: &str) -> Client {
    let mut options = ClientOptions::parse(uri).await.unwrap();
    options.server_selection_timeout = Some(TEST_TIMEOUT);
    Client::with_options(options).unwrap()
}

/// Repeats what fails while the server starts.
async fn until_ok<T>(what: &str, attempt: impl AsyncFn() -> Result<T, mongodb::error::Error>) {
    let begun = Instant::now();
    while let Err(error) = attempt().await {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
