//! The commands that show the state of a running system, and those that give it orders, through its managers.
//!
//! | module | does |
//! |---|---|
//! | this one | connects to the managers; `status`, `moves` |
//! | `plan` | `plan` |
//! | `orders` | `move`, `cordon`, `uncordon`, `drain`, each under a term of its own |

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;
use liverank_core::handover::ReaderShare;
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use liverank_protocol::{ClusterLoad, MoveState, MovesAnswer, ReaderState, RefusalDetails};
use liverank_runtime::identity::args::IdentityArgs;
use liverank_runtime::peer::{ManagerUrls, PeerClient, PeerError, ServiceReplicas};
use liverank_runtime::tls::PeerTlsArgs;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::front_door::{GatewayAccessArgs, counting_trouble_in_overview};
use liverank_runtime::output::{OutputArgs, format_table};

pub mod orders;
pub mod plan;

/// The flags of every command that asks the managers: their addresses, and the caller's identity.
#[derive(Debug, Clone, Args)]
pub struct ManagersArgs {
    /// The addresses of the managers.
    #[command(flatten)]
    pub managers: ManagerUrls,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub identity: IdentityArgs,
    #[command(flatten)]
    pub tls: PeerTlsArgs,
    /// A YAML file with the same settings as these flags; keys of other services are ignored.
    #[arg(long, env = "LIVERANK_CONFIG", help_heading = "Process", value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

/// A client of the managers that shows the token of one role.
pub struct ManagerClient(ServiceReplicas);

impl ManagersArgs {
    /// Returns a client that asks the managers as `role`.
    ///
    /// # Errors
    /// No identity is given, or the key file is that of another caller.
    pub fn client_as_role(&self, role: CallerRole) -> anyhow::Result<ManagerClient> {
        let given = self.identity.any_given();
        anyhow::ensure!(
            given,
            "managers tell this to nobody they do not know: set --identity-key-file (LIVERANK_IDENTITY_KEY_FILE)"
        );
        let caller = KnownCaller::of_role(role).context("a role without a name of its own")?;
        let identity = self.identity.open_identity()?.acting_as(&caller)?;
        let peers = PeerClient::over_tls(&self.tls.open()?).with_token_for(&identity, CalledService::Manager);
        let replicas = ServiceReplicas::new(peers, self.managers.manager_url.clone());
        Ok(ManagerClient(replicas.context("--manager-url needs an address")?))
    }
}

impl ManagerClient {
    /// Sends `GET path` to the managers and returns the answer.
    ///
    /// # Errors
    /// No manager answers, or one refuses; the error says what to do about it.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.0.get(&[path]).await.map_err(|error| self.explain_error(error))
    }

    /// Sends `POST path` with a JSON body to the managers and returns the answer.
    ///
    /// # Errors
    /// The errors are those of [`ManagerClient::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> anyhow::Result<T> {
        self.0.post(&[path], body).await.map_err(|error| self.explain_error(error))
    }

    fn explain_error(&self, error: PeerError) -> anyhow::Error {
        let urls: Vec<&str> = self.0.urls().iter().map(Url::as_str).collect();
        match error {
            PeerError::Unavailable(why) => {
                anyhow!(
                    "no manager answers at {}: {why}; set --manager-url to where they are",
                    urls.join(", ")
                )
            }
            PeerError::Refused { status, detail } => {
                let told = RefusalDetails::parse(&detail).detail;
                let is_unknown = status.as_u16() == 401;
                let hint = if is_unknown {
                    "; --identity-key-file must be the file that the managers have"
                } else {
                    ""
                };
                anyhow!("a manager refuses: {}{hint}", told.unwrap_or(detail))
            }
        }
    }
}

/// Runs `main` to its end on an async runtime with one thread.
pub fn run_on_current_thread<F: Future<Output = anyhow::Result<ExitCode>>>(
    main: F,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(main)
}

/// The arguments of `liverank status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    gateway: GatewayAccessArgs,
    #[command(flatten)]
    managers: ManagersArgs,
}

impl StatusArgs {
    /// Runs `liverank status`: prints the state of the readers and of counting. The exit code is 1 if anything is not as
    /// it should be.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async {
            let mut value: Value = self.managers.client_as_role(CallerRole::Cli)?.get("load").await?;
            let load = ClusterLoad::deserialize(&value)?;
            let client = PeerClient::over_tls(&self.managers.tls.open()?).client();
            let overview = self.gateway.fetch_overview(&client).await;
            value["lag"] = overview.as_ref().map_or(Value::Null, |overview| overview["lag"].clone());
            let counting = overview.and_then(|overview| counting_trouble_in_overview(&overview));
            let mut troubles = find_troubles(&load);
            troubles.extend(counting.as_ref().ok().cloned().flatten());
            self.managers.output.print_value(&value, || {
                let unknown = counting.as_ref().err().map(|why| format!("{why:#}"));
                status_text(&load, &troubles, unknown.as_deref())
            })?;
            Ok(if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        })
    }
}

/// Returns a number followed by the noun, which gets an `s` unless the number is 1.
pub fn number_with_noun(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns a text with the state of the readers, everything that is wrong (`troubles`), and, if the state of counting
/// is unknown, the reason for that (`counting_unknown`).
fn status_text(load: &ClusterLoad, troubles: &[String], counting_unknown: Option<&str>) -> String {
    let percent = |reader: &ReaderState| reader.viewers * 100 / reader.capacity.max(1);
    let has_zones = load.readers.iter().any(|reader| reader.zone.is_some());
    let row = |reader: &ReaderState| {
        let mut cells = vec![
            reader.id.to_string(),
            reader.state.to_string(),
            reader.cordon.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            reader.viewers.to_string(),
            reader.capacity.to_string(),
            format!("{} %", percent(reader)),
            reader.assigned.to_string(),
            format!("{:.1} s", reader.silent_ms as f64 / 1000.0),
        ];
        if has_zones {
            cells.push(reader.zone.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string));
            cells.push(reader.viewers_by_zone.other.to_string());
        }
        cells
    };
    let mut head = vec!["reader", "state", "cordon", "viewers", "capacity", "full", "videos", "heartbeat"];
    if has_zones {
        head.extend(["zone", "by other zones"]);
    }
    let mut text = format_table(&head, &load.readers.iter().map(row).collect::<Vec<_>>());
    let viewers: u64 = load.readers.iter().map(|reader| reader.viewers).sum();
    let planner = load.term.as_ref().map_or("nobody", |term| term.holder.as_str());
    let _ = writeln!(
        text,
        "\n{} of {}; {planner} plans; {} on their way",
        number_with_noun(viewers, "viewer"),
        number_with_noun(load.videos, "video"),
        number_with_noun(load.in_flight, "viewer")
    );
    for trouble in troubles {
        let _ = writeln!(text, "! {trouble}");
    }
    if let Some(why) = counting_unknown {
        let _ = writeln!(text, "? whether records are counted is not known: {why}");
    }
    text
}

/// Describes everything in the managers' report that is not as it should be, one text each.
pub fn find_troubles(load: &ClusterLoad) -> Vec<String> {
    let mut troubles = Vec::new();
    if !load.fresh {
        troubles.push("the manager does not see Redis: all this is what it last saw".to_owned());
    }
    if let Some(hold) = &load.hold {
        troubles.push(format!("nothing is moved: {hold}"));
    }
    if let Some(unserved) = &load.unserved {
        let (requests, since) = (unserved.requests, unserved.since_ms / 1000);
        troubles.push(format!("{requests} requests of the last 10 s found no reader, for {since} s"));
    }
    if load.readers.is_empty() {
        troubles.push("there is no reader".to_owned());
    }
    let full = |reader: &&ReaderState| reader.viewers >= reader.capacity;
    troubles.extend(load.readers.iter().filter(full).map(|reader| format!("{} is full", reader.id)));
    let overdue = load.readers.iter().filter(|reader| reader.drain_overdue);
    troubles.extend(overdue.map(|reader| {
        format!("{} still has {} viewers after the time that a drain may take", reader.id, reader.viewers)
    }));
    let unreachable = load.readers.iter().filter(|reader| reader.unreachable);
    troubles.extend(unreachable.map(|reader| {
        format!("{} reports itself and cannot be reached at {}", reader.id, reader.internal_url)
    }));
    troubles
}

/// The arguments of `liverank moves`.
#[derive(Debug, Clone, Args)]
pub struct MovesArgs {
    #[command(flatten)]
    managers: ManagersArgs,
}

impl MovesArgs {
    /// Prints the moves of videos between readers.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async {
            let value: Value = self.managers.client_as_role(CallerRole::Cli)?.get("moves").await?;
            let answer = MovesAnswer::deserialize(&value)?;
            self.managers.output.print_value(&value, || moves_table(&answer.moves))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn moves_table(moves: &[MoveState]) -> String {
    let readers = |shares: &[ReaderShare]| {
        let names: Vec<String> = shares.iter().map(|share| share.reader.to_string()).collect();
        names.join(",")
    };
    let row = |it: &MoveState| {
        let why = it.detail.as_ref().map_or_else(|| it.why.clone(), |detail| format!("{}; {detail}", it.why));
        vec![
            it.id.to_string(),
            it.videoid.to_string(),
            it.state.to_string(),
            readers(&it.from),
            readers(&it.to),
            format!("{}/{}", it.left, it.viewers),
            format!("{} s", it.age_ms / 1000),
            it.by.to_string(),
            why,
        ]
    };
    let head = ["id", "video", "state", "from", "to", "left", "age", "by", "why"];
    format_table(&head, &moves.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> ClusterLoad {
        serde_json::from_str(
            r#"{"readers":[{"id":"reader-1","public_url":"http://a","internal_url":"http://b","state":"alive","silent_ms":400,
                "fresh":true,"grace_ms":0,"viewers":20000,"capacity":20000,"assigned":3,"highest_epoch":9,"reconnects":0,
                "reconnect_errors":0,"videos":[]}],
                "videos":3,"fresh":true,"highest_epoch":9,"viewers_per_minute":1,"in_flight":2,
                "term":{"term":5,"holder":"manager-a"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn status_is_a_table_and_says_what_is_wrong() {
        let text = status_text(&load(), &find_troubles(&load()), None);
        assert!(text.starts_with("READER    STATE  CORDON  VIEWERS  CAPACITY  FULL"), "{text}");
        assert!(text.contains("reader-1  alive  -       20000    20000     100 %"), "{text}");
        assert!(text.contains("20000 viewers of 3 videos; manager-a plans; 2 viewers on their way"));
        assert!(text.ends_with("! reader-1 is full\n"), "{text}");
        let text = status_text(&load(), &["counting is behind".to_owned()], Some("no gateway"));
        assert!(
            text.ends_with("! counting is behind\n? whether records are counted is not known: no gateway\n"),
            "{text}"
        );
        let mut zoned = load();
        zoned.readers[0].zone = Some("eu-1a".parse().unwrap());
        zoned.readers[0].viewers_by_zone.other = 70;
        let text = status_text(&zoned, &[], None);
        assert!(text.contains("HEARTBEAT  ZONE   BY OTHER ZONES\n"), "{text}");
        assert!(text.contains("0.4 s      eu-1a  70\n"), "{text}");
        let mut late = load();
        late.readers[0].capacity = 40_000;
        late.readers[0].drain_overdue = true;
        let trouble = "reader-1 still has 20000 viewers after the time that a drain may take";
        assert_eq!(find_troubles(&late), [trouble]);
        let mut away = load();
        away.fresh = false;
        away.readers[0].viewers = 0;
        assert_eq!(find_troubles(&away), ["the manager does not see Redis: all this is what it last saw"]);
    }
}
