//! As much of Redis's protocol as it takes to look at keys: the client library is under test, the harness looks with
//! other eyes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection.
pub struct Redis(BufReader<TcpStream>);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Nil,
    Text(String),
    List(Vec<Value>),
}

impl Redis {
    /// Connects to the server on this port of 127.0.0.1.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(ANSWER, TcpStream::connect(("127.0.0.1", port))).await??;
        Ok(Self(BufReader::new(stream)))
    }

    async fn command(&mut self, words: &[&str]) -> anyhow::Result<Value> {
        let mut message = format!("*{}\r\n", words.len());
        for word in words {
            message.extend([format!("${}\r\n", word.len()).as_str(), word, "\r\n"]);
        }
        tokio::time::timeout(ANSWER, async {
            self.0.write_all(message.as_bytes()).await?;
            self.answer().await
        })
        .await
        .with_context(|| format!("{}: no answer within {ANSWER:?}", words[0]))?
        .with_context(|| words.join(" "))
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.0.read_line(&mut line).await? > 0, "the connection ended");
        Ok(line.trim_end().to_owned())
    }

    /// Lists are flat here: what is asked for has none within them.
    async fn answer(&mut self) -> anyhow::Result<Value> {
        let line = self.line().await?;
        let Some(count) = line.strip_prefix('*') else { return self.item(line).await };
        let mut list = Vec::new();
        for _ in 0..count.parse::<i64>()?.max(0) {
            let line = self.line().await?;
            list.push(self.item(line).await?);
        }
        Ok(Value::List(list))
    }

    async fn item(&mut self, line: String) -> anyhow::Result<Value> {
        let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
        match kind {
            "+" | ":" => Ok(Value::Text(rest.to_owned())),
            "$" if rest == "-1" => Ok(Value::Nil),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.0.read_exact(&mut bytes).await?;
                bytes.truncate(bytes.len() - 2);
                Ok(Value::Text(String::from_utf8(bytes)?))
            }
            _ => bail!("Redis answers {line}"),
        }
    }

    async fn pairs(&mut self, words: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
        let Value::List(list) = self.command(words).await? else { bail!("{} answers no list", words[0]) };
        let mut pairs = BTreeMap::new();
        for pair in list.chunks_exact(2) {
            if let [Value::Text(key), Value::Text(value)] = pair {
                pairs.insert(key.clone(), value.clone());
            }
        }
        Ok(pairs)
    }

    /// A hash.
    pub async fn hash(&mut self, key: &str) -> anyhow::Result<BTreeMap<String, String>> {
        self.pairs(&["HGETALL", key]).await
    }

    /// A sorted set: member and score.
    pub async fn sorted_set(&mut self, key: &str) -> anyhow::Result<BTreeMap<String, f64>> {
        let pairs = self.pairs(&["ZRANGE", key, "0", "-1", "WITHSCORES"]).await?;
        pairs.into_iter().map(|(member, score)| Ok((member, score.parse()?))).collect()
    }
}
