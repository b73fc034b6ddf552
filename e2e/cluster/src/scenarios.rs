//! What is tried, in order, on one installation.

use std::process::ExitCode;
use std::time::Instant;

use futures::future::LocalBoxFuture;

use crate::kube::Kube;
use crate::world::{NAME, NAMESPACE_NAME, OPERATOR_NAMESPACE, Settings, World};

mod at_rest;
mod crowd;
mod deletion;
mod flow;
mod hibernation;
mod install;
mod kills;
mod load_loss;
mod many;
mod objects;
mod operators;
mod pods;
mod repair;
mod restarts;
mod rules;
mod shards;
mod tls;

/// The command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Only these, on what stands already.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All but these.
    #[arg(long, value_delimiter = ',')]
    except: Vec<String>,
    /// Goes through the chosen scenarios so many times, from `install` on each time, and says of each time how it went.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
}

/// Answers the figures that it has to tell.
type Scenario = for<'a> fn(&'a World) -> LocalBoxFuture<'a, anyhow::Result<String>>;

/// In this order: each leaves the system as the next one needs it, ready and without an audience; the last ones take it
/// away.
const SCENARIOS: [(&str, Scenario); 20] = [
    ("rules", |world| Box::pin(rules::refuse_exactly(world))),
    ("install", |world| Box::pin(install::to_ready(world))),
    ("helm-test", |world| Box::pin(install::helm_test(world))),
    ("flow", |world| Box::pin(flow::in_and_out(world))),
    ("repair-deleted", |world| Box::pin(repair::deleted(world))),
    ("repair-edited", |world| Box::pin(repair::edited(world))),
    ("restarts", |world| Box::pin(restarts::only_the_right_pods(world))),
    ("objects", |world| Box::pin(objects::come_and_go(world))),
    ("pods", |world| Box::pin(pods::as_their_users_want_them(world))),
    ("load-loss", |world| Box::pin(load_loss::falls_back(world))),
    ("hibernation", |world| Box::pin(hibernation::to_zero_and_back(world))),
    ("tls", |world| Box::pin(tls::sealed(world))),
    ("crowd", |world| Box::pin(crowd::moves_and_misses_nothing(world))),
    ("kills", |world| Box::pin(kills::in_the_middle_of_a_drain(world))),
    ("at-rest", |world| Box::pin(at_rest::asks_for_nothing(world))),
    ("many", |world| Box::pin(many::fit_in_memory(world))),
    ("shards", |world| Box::pin(shards::shared_by_two(world))),
    ("operator-upgrade", |world| Box::pin(operators::upgrade_restarts_nothing(world))),
    ("deletion", |world| Box::pin(deletion::needs_no_operator(world))),
    ("operator-gone", |world| Box::pin(operators::gone_and_all_goes_on(world))),
];

/// Runs them, and closes with "N passed, N failed".
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let known = |name: &String| SCENARIOS.iter().any(|(scenario, _)| scenario == name);
    if let Some(unknown) = args.only.iter().chain(&args.except).find(|name| !known(name)) {
        anyhow::bail!("no scenario is called {unknown}");
    }
    let kube = Kube::start().await?;
    let mut world = World { kube, settings: args.settings.clone(), run: run_name() };
    let mut bad = Vec::new();
    for nth in 1..=args.repeat {
        // Its own topics and databases: nothing of the time before is found.
        world.run = run_name();
        let failures = run_once(&args, &mut world, args.repeat > 1).await;
        if args.repeat > 1 {
            let verdict = if failures.is_empty() { "passed".to_owned() } else { failures.join("; ") };
            say(&format!("run {nth} of {}: {verdict}", args.repeat));
        }
        if !failures.is_empty() {
            bad.push(nth);
        }
    }
    if args.repeat > 1 {
        let all = args.repeat;
        say(&format!("{} of {all} runs passed; failed: {bad:?}", all - bad.len()));
    }
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers what failed. `anew`: on a system that is installed first, whatever is chosen.
async fn run_once(args: &Args, world: &mut World, anew: bool) -> Vec<String> {
    let (mut passed, mut failed) = (0, 0);
    // Said again at the end: what was looked at because of them is long.
    let mut failures = Vec::new();
    for (name, scenario) in SCENARIOS {
        let wanted =
            args.only.is_empty() || args.only.iter().any(|only| only == name) || (anew && name == "install");
        if !wanted || args.except.iter().any(|except| except == name) {
            continue;
        }
        let start = Instant::now();
        let result = scenario(world).await;
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(figures) if figures.is_empty() => say(&format!("ok {name} ({seconds:.0} s)")),
            Ok(figures) => say(&format!("ok {name} ({seconds:.0} s, {figures})")),
            Err(error) => {
                let failure = format!("FAILED {name} ({seconds:.0} s): {error:#}");
                say(&failure);
                failures.push(failure);
                diagnose(world).await;
                failed += 1;
                // The others are to find what they expect, whatever state this one has left.
                world.run = run_name();
                if name == "install" {
                    break;
                }
                if name != "rules"
                    && let Err(error) = self::anew(world).await
                {
                    let why =
                        format!("the system could not be made anew, and nothing more is tried: {error:#}");
                    failures.push(why);
                    diagnose(world).await;
                    break;
                }
                continue;
            }
        }
        passed += 1;
    }
    for failure in &failures {
        say(failure);
    }
    say(&format!("\n{passed} passed, {failed} failed"));
    failures
}

fn run_name() -> String {
    format!("e{:06x}", rand::random::<u32>() & 0x00ff_ffff)
}

/// A system as after the first two scenarios.
async fn anew(world: &World) -> anyhow::Result<()> {
    install::to_ready(world).await?;
    flow::in_and_out(world).await.map(drop)
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// What somebody who was not there has to know.
async fn diagnose(world: &World) {
    let looks: [&[&str]; 10] = [
        &[
            "--namespace",
            NAMESPACE_NAME,
            "logs",
            "--selector=app.kubernetes.io/component=manager",
            "--tail=40",
            "--prefix",
        ],
        &[
            "--namespace",
            NAMESPACE_NAME,
            "logs",
            "--selector=app.kubernetes.io/component=reader",
            "--tail=15",
            "--prefix",
        ],
        &["--namespace", NAMESPACE_NAME, "get", "services,deployments", "--output=wide"],
        &["--namespace", NAMESPACE_NAME, "get", "rkc", NAME, "--output=jsonpath={.status}"],
        &[
            "get",
            "pods",
            "--all-namespaces",
            "--output=wide",
            "--selector=app.kubernetes.io/managed-by=liverank-operator,type!=kwok",
        ],
        &["--namespace", OPERATOR_NAMESPACE, "get", "pods,leases", "--output=wide"],
        &[
            "get",
            "nodes",
            "--output=custom-columns=:.metadata.name,:.status.conditions[*].type,:.status.conditions[*].status",
        ],
        // A namespace that does not go says what of it is left.
        &["get", "namespace", NAMESPACE_NAME, "--output=jsonpath={.status}"],
        &[
            "--namespace",
            NAMESPACE_NAME,
            "get",
            "events",
            "--sort-by=.lastTimestamp",
            "--output=custom-columns=:.lastTimestamp,:.type,:.reason,:.message",
        ],
        &[
            "--namespace",
            OPERATOR_NAMESPACE,
            "logs",
            "--selector=app.kubernetes.io/name=liverank-operator",
            "--tail=30",
            "--prefix",
        ],
    ];
    let load = world.load().await.map_or_else(|error| format!("{error:#}"), |load| load.to_string());
    tracing::info!("what a manager says: {load}");
    let report = crate::audience::report(world).await;
    tracing::info!("what the audience says: {report:?}");
    for look in looks {
        if let Ok(output) = world.kube.kubectl(look, None).await {
            let lines: Vec<&str> = output.text.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            tracing::info!("kubectl {}\n{last}{}", look.join(" "), output.errors);
        }
    }
}
