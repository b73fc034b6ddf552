//! A minimal client of MongoDB's wire protocol, to read documents and to send commands to members: one message for
//! each command. The test does not use the driver for this, because the driver is a part of what is tested.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bson::{Document, doc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The opcode of `OP_MSG`, the only kind of message that is used.
const OP_MSG_CODE: i32 = 2013;
/// The greatest length of an answer, in bytes: more than the server's limit of 48 MB for a message.
const MAX_MESSAGE: usize = 64 << 20;
/// The time limit of a member's answer to a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The number of documents that a batch asks for; the server ends a batch at 16 MiB by itself.
const BATCH_DOCUMENTS: i32 = 50_000;

/// A connection to one member of the replica set.
pub struct Member {
    stream: TcpStream,
    requests: i32,
}

impl Member {
    /// Connects to the member on this port of 127.0.0.1.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(ANSWER_TIMEOUT, TcpStream::connect(("127.0.0.1", port))).await??;
        Ok(Self { stream, requests: 0 })
    }

    /// Runs a command in a database and returns the answer; an answer that is not `ok` is an error.
    pub async fn command(&mut self, database: &str, mut command: Document) -> anyhow::Result<Document> {
        command.insert("$db", database);
        let name = command.keys().next().cloned().unwrap_or_default();
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.send_and_receive(&command))
            .await
            .with_context(|| format!("{name}: no answer within {ANSWER_TIMEOUT:?}"))??;
        let ok = answer.get("ok").and_then(|ok| ok.as_f64().or_else(|| ok.as_i32().map(f64::from)));
        ensure!(ok == Some(1.0), "{name}: {}", answer.get_str("errmsg").unwrap_or("failed"));
        Ok(answer)
    }

    async fn send_and_receive(&mut self, command: &Document) -> anyhow::Result<Document> {
        self.requests += 1;
        let body = bson::to_vec(command)?;
        let mut message = Vec::with_capacity(body.len() + 21);
        let length = i32::try_from(body.len() + 21)?;
        for word in [length, self.requests, 0, OP_MSG_CODE, 0] {
            message.extend_from_slice(&word.to_le_bytes());
        }
        message.push(0);
        message.extend_from_slice(&body);
        self.stream.write_all(&message).await?;
        let length = usize::try_from(self.stream.read_i32_le().await?)?;
        ensure!((26..=MAX_MESSAGE).contains(&length), "an answer of {length} bytes");
        let mut rest = vec![0; length - 4];
        self.stream.read_exact(&mut rest).await?;
        // The answer's header has two ids, the opcode, the flags, and the kind of its only section.
        ensure!(rest[8..12] == OP_MSG_CODE.to_le_bytes() && rest[16] == 0, "an answer of an unknown form");
        Ok(Document::from_reader(&rest[17..])?)
    }

    /// Returns all documents of a collection that `filter` matches, with the read concern `majority`.
    pub async fn find(
        &mut self,
        database: &str,
        collection: &str,
        filter: Document,
        projection: Document,
        sort: Document,
    ) -> anyhow::Result<Vec<Document>> {
        let command = doc! {
            "find": collection, "filter": filter, "projection": projection, "sort": sort, "batchSize": BATCH_DOCUMENTS,
            "readConcern": { "level": "majority" },
        };
        let mut answer = self.command(database, command).await?;
        let mut found = Vec::new();
        loop {
            let cursor = answer.get_document("cursor")?;
            let batch = cursor.get_array("firstBatch").or_else(|_| cursor.get_array("nextBatch"))?;
            for document in batch {
                found.push(document.as_document().context("a document")?.clone());
            }
            let id = cursor.get_i64("id")?;
            if id == 0 {
                return Ok(found);
            }
            let more = doc! { "getMore": id, "collection": collection, "batchSize": BATCH_DOCUMENTS };
            answer = self.command(database, more).await?;
        }
    }
}

/// A replica set, by the ports on which its members really listen (not the proxies' ports).
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    ports: Vec<u16>,
}

impl ReplicaSet {
    /// Returns the set whose members listen on these ports.
    pub const fn new(ports: Vec<u16>) -> Self {
        Self { ports }
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Connects to the member with the index `nth`, counted from 0.
    pub async fn member(&self, nth: usize) -> anyhow::Result<Member> {
        Member::connect(self.ports[nth]).await
    }

    /// Returns the index of the member that is primary; `None` if there is no primary.
    pub async fn primary(&self) -> Option<usize> {
        for nth in 0..self.ports.len() {
            let hello = async {
                let mut member = self.member(nth).await?;
                member.command("admin", doc! { "hello": 1 }).await
            };
            let hello = tokio::time::timeout(Duration::from_secs(2), hello).await;
            if hello.is_ok_and(|said| said.is_ok_and(|said| said.get_bool("isWritablePrimary") == Ok(true))) {
                return Some(nth);
            }
        }
        None
    }

    /// Waits until there is a primary and connects to it; returns its index and the connection. After `patience`
    /// without a primary it is an error.
    pub async fn wait_for_primary(&self, patience: Duration) -> anyhow::Result<(usize, Member)> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some(nth) = self.primary().await
                && let Ok(member) = self.member(nth).await
            {
                return Ok((nth, member));
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the replica set has no primary after {patience:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
