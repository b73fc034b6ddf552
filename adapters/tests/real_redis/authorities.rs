//! A Redis whose certificate changes to one of another authority while the stores are in use.

use std::path::Path;

use super::own_server::{Authority, OwnServer, replace_file};
use super::*;

/// A Redis that takes TLS on its port, and an operator's connection by its socket.
struct TlsRedis {
    server: OwnServer,
    operator: MultiplexedConnection,
}

impl TlsRedis {
    async fn start(authority: &Authority) -> Self {
        let server = OwnServer::start(Path::new("redis-server"), |port, directory| {
            write_certificate(directory, authority);
            let file = |name: &str| directory.join(name).display().to_string();
            let settings = [
                ("--bind", "127.0.0.1".to_owned()),
                ("--port", "0".to_owned()),
                ("--tls-port", port.to_string()),
                ("--tls-auth-clients", "no".to_owned()),
                ("--tls-cert-file", file("server.pem")),
                ("--tls-key-file", file("server.key")),
                ("--unixsocket", file("socket")),
                ("--dir", file("")),
                ("--save", String::new()),
            ];
            settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
        });
        let socket = server.directory.path().join("socket");
        let client = redis::Client::open(format!("redis+unix://{}", socket.display())).unwrap();
        let begun = Instant::now();
        let operator = loop {
            match client.get_multiplexed_async_connection().await {
                Ok(connection) => break connection,
                Err(error) => assert!(begun.elapsed() < TEST_TIMEOUT, "it starts: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Self { server, operator }
    }

    async fn run_command(&mut self, words: &[&str]) {
        cmd(words[0]).arg(&words[1..]).query_async::<()>(&mut self.operator).await.unwrap();
    }

    /// Shows a certificate of `authority` from now on, and closes all connections.
    async fn change_certificate(&mut self, authority: &Authority) {
        let directory = self.server.directory.path().to_owned();
        write_certificate(&directory, authority);
        let file = |name: &str| directory.join(name).display().to_string();
        let (certificate, key) = (file("server.pem"), file("server.key"));
        self.run_command(&["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key]).await;
        self.run_command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    }
}

fn write_certificate(directory: &Path, authority: &Authority) {
    let (certificate, key) = authority.issue_certificate();
    replace_file(&directory.join("server.pem"), &certificate);
    replace_file(&directory.join("server.key"), &key);
}

/// Reads until the store answers as `is_reached` says.
async fn read_until(store: &RedisRanking, what: &str, is_reached: impl Fn(&Result<(), String>) -> bool) {
    let begun = Instant::now();
    loop {
        let read = store.checkpoint().await;
        if let Err(error) = &read {
            assert!(error.is_transient(), "{error}");
        }
        let read = read.map(drop).map_err(|error| error.to_string());
        if is_reached(&read) {
            return;
        }
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}: {read:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_another_authority_take_no_restart() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let mut redis = TlsRedis::start(&first).await;
    let file = redis.server.directory.path().join("trusted.pem");
    replace_file(&file, &first.certificate);
    let link = RedisLink::new(RedisConfig {
        url: format!("rediss://127.0.0.1:{}", redis.server.port).into(),
        is_cluster: false,
        prefix: String::new(),
        ca_file: Some(file.clone()),
    });
    let store = RedisRanking::new(link.unwrap());
    read_until(&store, "it is trusted", Result::is_ok).await;

    redis.change_certificate(&second).await;
    let is_untrusted =
        |read: &Result<(), String>| read.as_ref().is_err_and(|error| error.contains("UnknownIssuer"));
    read_until(&store, "it is not trusted", is_untrusted).await;
    // A file that cannot be used changes nothing.
    replace_file(&file, "nonsense");
    read_until(&store, "it is still not trusted", is_untrusted).await;
    replace_file(&file, &format!("{}{}", first.certificate, second.certificate));
    read_until(&store, "it is trusted again", Result::is_ok).await;

    replace_file(&file, "nonsense");
    redis.change_certificate(&first).await;
    read_until(&store, "what was trusted stays so", Result::is_ok).await;
}
