//! `liverank top`: shows readers, viewers, hot videos, moves, lag and rates, and updates them, from the gateway's `GET
//! /operate`.
//!
//! | module | does |
//! |---|---|
//! | this one | asks the gateway again and again, until a key ends it |
//! | `picture` | reads the answer |
//! | `screen` | draws it on a terminal |
//! | `text` | writes it where there is no terminal |

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use liverank_runtime::client::Client;
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::peer::{PeerClient, root_cause};
use liverank_runtime::tls::PeerTlsArgs;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::look;
use liverank_runtime::output::{OutputArgs, OutputFormat};
use picture::Picture;

mod picture;
mod screen;
mod text;

/// The time within which the gateway must answer: it waits up to 3 s for the stores itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);

/// The arguments of `liverank top`.
#[derive(Debug, Clone, Args)]
pub struct Top {
    /// The address of a gateway.
    #[arg(long, env = "LIVERANK_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// A viewer's token with the role operator or service, if the system asks viewers for tokens.
    #[arg(long, env = "LIVERANK_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The time between two updates.
    #[arg(long, alias = "interval-seconds", value_name = "DURATION", default_value = "2s",
          value_parser = parser_of_range(Duration::from_secs(1), Duration::from_mins(1)))]
    interval: Duration,
    /// Print the state once, as text.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    tls: PeerTlsArgs,
}

impl Top {
    /// Shows the state of the system until `q` is pressed. Prints it once, as text, with `--once`, in JSON or YAML, or
    /// if standard output is no terminal.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        look::run(async {
            let client = PeerClient::over_tls(&self.tls.open()?).client();
            if self.once || self.output.output != OutputFormat::Table || !std::io::stdout().is_terminal() {
                let answer = self.fetch_overview(&client).await?;
                let picture = Picture::read(&answer)?;
                self.output.print_value(&answer, || text::of(&picture))?;
                return Ok(ExitCode::SUCCESS);
            }
            // If the first request fails, the error is printed on an ordinary screen.
            let first = Picture::read(&self.fetch_overview(&client).await?)?;
            let mut terminal = ratatui::init();
            let ended = self.show_until_quit(&client, &mut terminal, first).await;
            ratatui::restore();
            ended.map(|()| ExitCode::SUCCESS)
        })
    }

    async fn show_until_quit(
        &self,
        client: &Client,
        terminal: &mut ratatui::DefaultTerminal,
        first: Picture,
    ) -> anyhow::Result<()> {
        let (mut picture, mut trouble) = (first, None);
        loop {
            terminal.draw(|frame| screen::draw(frame, &picture, trouble.as_deref()))?;
            let until = Instant::now() + self.interval;
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                if !event::poll(left)? {
                    break;
                }
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let interrupts =
                            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                        if interrupts || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                            return Ok(());
                        }
                    }
                    Event::Resize(..) => {
                        terminal.draw(|frame| screen::draw(frame, &picture, trouble.as_deref()))?;
                    }
                    _ => {}
                }
            }
            match self.fetch_overview(client).await.and_then(|answer| Picture::read(&answer)) {
                Ok(seen) => (picture, trouble) = (seen, None),
                Err(error) => trouble = Some(format!("{error:#}")),
            }
        }
    }

    async fn fetch_overview(&self, client: &Client) -> anyhow::Result<Value> {
        let url = self.url.join("/operate").context("--url")?;
        let mut request = client.get(url).timeout(REQUEST_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| {
            let why = root_cause(&error);
            anyhow::anyhow!("the front door does not answer at {}; set --url: {why}", self.url)
        })?;
        match answer.status() {
            StatusCode::OK => answer.json().await.context("what answers there is not liverank"),
            StatusCode::UNAUTHORIZED => bail!(
                "this system asks viewers for tokens, and {}: --token (LIVERANK_TOKEN), with the role operator",
                if self.token.is_some() { "this one is not good" } else { "none is given" }
            ),
            StatusCode::FORBIDDEN => bail!("the token lacks the role operator or service"),
            StatusCode::NOT_FOUND => bail!("{} is of a release without this, or no front door", self.url),
            status => bail!("the front door answers {status}"),
        }
    }
}
