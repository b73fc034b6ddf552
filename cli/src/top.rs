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

use clap::Args;
use liverank_protocol::SystemState;
use liverank_runtime::client::Client;
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::peer::PeerClient;
use liverank_runtime::tls::PeerTlsArgs;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::front_door::GatewayAccessArgs;
use crate::look;
use liverank_runtime::output::{OutputArgs, OutputFormat};

mod picture;
mod screen;
mod text;

/// The time between the two requests for a state that is printed only once: a rate needs two states, and the gateway
/// gathers a new state at most once a second.
const SNAPSHOT_SAMPLE_INTERVAL: Duration = Duration::from_millis(1_500);

/// The arguments of `liverank top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    #[command(flatten)]
    gateway: GatewayAccessArgs,
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

impl TopArgs {
    /// Shows the state of the system, with updates, until `q` is pressed. With `--once`, with output in JSON or YAML,
    /// or if standard output is no terminal, prints the state once and ends.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        look::run_on_current_thread(async {
            let client = PeerClient::over_tls(&self.tls.open()?).client();
            if self.once || self.output.output != OutputFormat::Table || !std::io::stdout().is_terminal() {
                let mut answer = self.gateway.fetch_overview(&client).await?;
                if !picture::has_rates(&picture::parse_overview(&answer)?) {
                    tokio::time::sleep(SNAPSHOT_SAMPLE_INTERVAL).await;
                    answer = self.gateway.fetch_overview(&client).await?;
                }
                let state = picture::parse_overview(&answer)?;
                // What came is printed as it is: a later release says more than this one knows.
                self.output.print_value(&answer, || text::overview_text(&state))?;
                return Ok(ExitCode::SUCCESS);
            }
            // If the first request fails, the error is printed on an ordinary screen.
            let first = picture::parse_overview(&self.gateway.fetch_overview(&client).await?)?;
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
        first: SystemState,
    ) -> anyhow::Result<()> {
        let (mut state, mut trouble) = (first, None);
        loop {
            terminal.draw(|frame| screen::draw(frame, &state, trouble.as_deref()))?;
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
                        terminal.draw(|frame| screen::draw(frame, &state, trouble.as_deref()))?;
                    }
                    _ => {}
                }
            }
            match self
                .gateway
                .fetch_overview(client)
                .await
                .and_then(|answer| picture::parse_overview(&answer))
            {
                Ok(seen) => (state, trouble) = (seen, None),
                Err(error) => trouble = Some(format!("{error:#}")),
            }
        }
    }
}
