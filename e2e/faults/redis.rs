//! A minimal client of Redis's protocol, to read keys. The test does not use the client library for this, because the
//! library is a part of what is tested.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The time limit of Redis's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to Redis.
pub struct Redis(BufReader<TcpStream>);

/// A value in Redis's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RedisValue {
    Nil,
    Text(String),
    List(Vec<RedisValue>),
}

impl Redis {
    /// Connects to the server on this port of 127.0.0.1.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(ANSWER_TIMEOUT, TcpStream::connect(("127.0.0.1", port))).await??;
        Ok(Self(BufReader::new(stream)))
    }

    async fn run_command(&mut self, words: &[&str]) -> anyhow::Result<RedisValue> {
        let mut message = format!("*{}\r\n", words.len());
        for word in words {
            message.extend([format!("${}\r\n", word.len()).as_str(), word, "\r\n"]);
        }
        tokio::time::timeout(ANSWER_TIMEOUT, async {
            self.0.write_all(message.as_bytes()).await?;
            self.read_answer().await
        })
        .await
        .with_context(|| format!("{}: no answer within {ANSWER_TIMEOUT:?}", words[0]))?
        .with_context(|| words.join(" "))
    }

    async fn read_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.0.read_line(&mut line).await? > 0, "the connection ended");
        Ok(line.trim_end().to_owned())
    }

    /// Reads an answer, whose lists may contain lists.
    async fn read_answer(&mut self) -> anyhow::Result<RedisValue> {
        // The lists that are not complete yet, the outermost first, and how many items each still lacks.
        let mut open: Vec<(Vec<RedisValue>, usize)> = Vec::new();
        loop {
            let line = self.read_line().await?;
            let mut value = match line.strip_prefix('*') {
                Some(count) => {
                    let count = usize::try_from(count.parse::<i64>()?.max(0))?;
                    if count > 0 {
                        open.push((Vec::new(), count));
                        continue;
                    }
                    RedisValue::List(Vec::new())
                }
                None => self.parse_item(line).await?,
            };
            loop {
                let Some((list, lacking)) = open.last_mut() else { return Ok(value) };
                list.push(value);
                *lacking -= 1;
                if *lacking > 0 {
                    break;
                }
                value = RedisValue::List(open.pop().map(|(list, _)| list).unwrap_or_default());
            }
        }
    }

    async fn parse_item(&mut self, line: String) -> anyhow::Result<RedisValue> {
        let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
        match kind {
            "+" | ":" => Ok(RedisValue::Text(rest.to_owned())),
            "$" if rest == "-1" => Ok(RedisValue::Nil),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.0.read_exact(&mut bytes).await?;
                bytes.truncate(bytes.len() - 2);
                Ok(RedisValue::Text(String::from_utf8(bytes)?))
            }
            _ => bail!("Redis answers {line}"),
        }
    }

    async fn read_pairs(&mut self, words: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
        let RedisValue::List(list) = self.run_command(words).await? else {
            bail!("{} answers no list", words[0])
        };
        let mut pairs = BTreeMap::new();
        for pair in list.chunks_exact(2) {
            if let [RedisValue::Text(key), RedisValue::Text(value)] = pair {
                pairs.insert(key.clone(), value.clone());
            }
        }
        Ok(pairs)
    }

    /// Returns all fields of a hash (HGETALL); empty if the key does not exist.
    pub async fn hash(&mut self, key: &str) -> anyhow::Result<BTreeMap<String, String>> {
        self.read_pairs(&["HGETALL", key]).await
    }

    /// Returns all entries of a stream as one text; empty if the key does not exist.
    pub async fn stream_text(&mut self, key: &str) -> anyhow::Result<String> {
        let entries = self.run_command(&["XRANGE", key, "-", "+"]).await?;
        Ok(format!("{entries:?}"))
    }

    /// Returns the members of a sorted set with their scores; empty if the key does not exist.
    pub async fn sorted_set(&mut self, key: &str) -> anyhow::Result<BTreeMap<String, f64>> {
        let pairs = self.read_pairs(&["ZRANGE", key, "0", "-1", "WITHSCORES"]).await?;
        pairs.into_iter().map(|(member, score)| Ok((member, score.parse()?))).collect()
    }
}
