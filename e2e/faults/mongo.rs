//! As much of MongoDB's wire protocol as it takes to look at documents and to give a member orders: one message a
//! command. The driver is what is under test; the harness looks with other eyes.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bson::{Document, doc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `OP_MSG`.
const OP_MSG_CODE: i32 = 2013;
/// Larger than any answer: the server's limit is 48 MB a message.
const MAX_MESSAGE: usize = 64 << 20;
/// How long a member may take to answer a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Documents a batch; the server ends one at 16 MiB by itself.
const BATCH_DOCUMENTS: i32 = 50_000;

/// A connection to one member.
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

    /// Runs a command in a database.
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
        // Two ids, the operation, the flags, the kind of the one section.
        ensure!(rest[8..12] == OP_MSG_CODE.to_le_bytes() && rest[16] == 0, "an answer of an unknown form");
        Ok(Document::from_reader(&rest[17..])?)
    }

    /// All documents of a collection that `filter` finds, as a majority of members has them.
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

/// The members' real ports, and who of them is primary.
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    ports: Vec<u16>,
}

impl ReplicaSet {
    /// The set whose members listen on these ports.
    pub const fn new(ports: Vec<u16>) -> Self {
        Self { ports }
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Connects to a member, counted from 0.
    pub async fn member(&self, nth: usize) -> anyhow::Result<Member> {
        Member::connect(self.ports[nth]).await
    }

    /// Which member is primary, if one is.
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

    /// Waits until there is a primary, and connects to it.
    pub async fn writable(&self, patience: Duration) -> anyhow::Result<(usize, Member)> {
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
