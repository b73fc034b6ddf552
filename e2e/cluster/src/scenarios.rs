//! The list of the scenarios, and the loop that runs them in order on one installation, some of them beside others.

use std::process::ExitCode;
use std::time::Instant;

use futures::future::{LocalBoxFuture, join_all};

use crate::kube::KubeClient;
use crate::world::{CLUSTER_NAME, ClusterWorld, HarnessSettings, NAMESPACE_NAME, OPERATOR_NAMESPACE};

mod at_rest;
mod contested;
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
mod ownership;
mod pods;
mod proposals;
mod repair;
mod restarts;
mod rules;
mod shards;
mod sick;
mod tls;
mod versions;
mod zones;

/// The command line arguments of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct ScenarioArgs {
    #[command(flatten)]
    settings: HarnessSettings,
    /// Runs only these scenarios, on the installation that is there.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Runs all scenarios except these.
    #[arg(long, value_delimiter = ',')]
    except: Vec<String>,
    /// Runs the chosen scenarios so many times, from `install` on each time, and says of each time how it went.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
}

/// A scenario; returns figures for its line of the output, such as times, or an empty string.
type Scenario = for<'a> fn(&'a ClusterWorld) -> LocalBoxFuture<'a, anyhow::Result<String>>;

/// A scenario with its name.
type NamedScenario = (&'static str, Scenario);

/// The scenarios with their names, in the order in which they run. Each scenario leaves the system ready and without
/// viewers, as the next one needs it; the last ones delete the system.
const SCENARIOS: [NamedScenario; 26] = [
    ("rules", |world| Box::pin(rules::check_rules(world))),
    ("install", |world| Box::pin(install::install_until_ready(world))),
    ("versions", |world| Box::pin(versions::both_served(world))),
    ("flow", |world| Box::pin(flow::check_flow(world))),
    ("repair-deleted", |world| Box::pin(repair::check_deleted_children(world))),
    ("repair-edited", |world| Box::pin(repair::check_edited_fields(world))),
    ("restarts", |world| Box::pin(restarts::check_restarts(world))),
    // The second lane, and what runs beside it.
    ("helm-test", |world| Box::pin(install::run_helm_test(world))),
    ("tls", |world| Box::pin(tls::check_sealed_cluster(world))),
    ("ownership", |world| Box::pin(ownership::by_owner_and_not_by_labels(world))),
    ("contested", |world| Box::pin(contested::told_and_not_fought_for_ever(world))),
    ("objects", |world| Box::pin(objects::check_objects(world))),
    ("pods", |world| Box::pin(pods::check_pod_settings(world))),
    ("proposals", |world| Box::pin(proposals::approved_refused_and_expired(world))),
    ("load-loss", |world| Box::pin(load_loss::check_fallback(world))),
    // Before `hibernation`, which makes all pods anew: without zones, as the nodes have none by then.
    ("zones", |world| Box::pin(zones::check_zones(world))),
    ("hibernation", |world| Box::pin(hibernation::check_hibernation(world))),
    // Before `crowd` and `kills`, which end operators: one that has just started requests more for some minutes.
    ("at-rest", |world| Box::pin(at_rest::check_requests_at_rest(world))),
    ("crowd", |world| Box::pin(crowd::check_crowd(world))),
    ("kills", |world| Box::pin(kills::check_kills_during_drain(world))),
    ("many", |world| Box::pin(many::check_operator_memory(world))),
    ("sick", |world| Box::pin(sick::check_healthy_beside_sick(world))),
    ("shards", |world| Box::pin(shards::check_shards(world))),
    ("operator-upgrade", |world| Box::pin(operators::check_operator_upgrade(world))),
    ("deletion", |world| Box::pin(deletion::check_namespace_deletion(world))),
    ("operator-gone", |world| Box::pin(operators::check_uninstalled_operator(world))),
];

/// The scenarios that run only where `--only` names them. `versions` installs the operator three times, which the time limit
/// of all has no room for.
const ONLY_BY_NAME: [&str; 1] = ["versions"];

/// The scenarios of the second lane, which runs beside [`BESIDE_SECOND_LANE`]: they have clusters of their own in other
/// namespaces, and mostly wait. Neither they nor those beside them install, scale or kill operators, change nodes, stop
/// stores, measure requests, memory or times of operators, or have viewers in the audience.
const SECOND_LANE: [&str; 2] = ["helm-test", "tls"];
/// The scenarios, one after the other, beside which the second lane runs. They change the cluster under test only.
const BESIDE_SECOND_LANE: [&str; 4] = ["ownership", "contested", "objects", "pods"];

/// Scenarios that run at the same time, in lanes: those of a lane run one after the other.
type Stage = Vec<Vec<NamedScenario>>;

/// Returns the stages of these scenarios: a scenario by itself, or the two lanes.
fn stages_of(scenarios: impl IntoIterator<Item = NamedScenario>) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for scenario in scenarios {
        let is_second = SECOND_LANE.contains(&scenario.0);
        if !is_second && !BESIDE_SECOND_LANE.contains(&scenario.0) {
            stages.push(vec![vec![scenario]]);
            continue;
        }
        if stages.last().is_none_or(|stage| stage.len() == 1) {
            stages.push(vec![Vec::new(), Vec::new()]);
        }
        stages.last_mut().expect("one was pushed")[usize::from(is_second)].push(scenario);
    }
    stages
}

/// Runs the chosen scenarios and prints "N passed, N failed" at the end. The exit code is a failure if any scenario
/// failed.
pub async fn run_scenarios(args: ScenarioArgs) -> anyhow::Result<ExitCode> {
    let known = |name: &String| SCENARIOS.iter().any(|(scenario, _)| scenario == name);
    if let Some(unknown) = args.only.iter().chain(&args.except).find(|name| !known(name)) {
        anyhow::bail!("no scenario is called {unknown}");
    }
    let kube = KubeClient::start().await?;
    let mut world = ClusterWorld { kube, settings: args.settings.clone(), run: run_name() };
    let mut bad = Vec::new();
    for nth in 1..=args.repeat {
        // Each run has its own topics and databases, so that it finds nothing of an earlier run.
        world.run = run_name();
        let failures = run_once(&args, &mut world, args.repeat > 1).await;
        if args.repeat > 1 {
            let verdict = if failures.is_empty() { "passed".to_owned() } else { failures.join("; ") };
            print_line(&format!("run {nth} of {}: {verdict}", args.repeat));
        }
        if !failures.is_empty() {
            bad.push(nth);
        }
    }
    if args.repeat > 1 {
        let all = args.repeat;
        print_line(&format!("{} of {all} runs passed; failed: {bad:?}", all - bad.len()));
    }
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the chosen scenarios once; returns a description of each failure. With `anew`, `install` runs first even if it
/// is not chosen.
async fn run_once(args: &ScenarioArgs, world: &mut ClusterWorld, anew: bool) -> Vec<String> {
    let is_chosen = |(name, _): &NamedScenario| {
        let named = args.only.iter().any(|only| only == name) || (anew && *name == "install");
        let wanted = named || (args.only.is_empty() && !ONLY_BY_NAME.contains(name));
        wanted && !args.except.iter().any(|except| except == name)
    };
    let (mut passed, mut failed) = (0, 0);
    // Failures are printed again at the end, because the diagnosis after each of them is long.
    let mut failures = Vec::new();
    'stages: for mut lanes in stages_of(SCENARIOS.into_iter().filter(is_chosen)) {
        while lanes.iter().any(|lane| !lane.is_empty()) {
            let shared: &ClusterWorld = world;
            let ended = join_all(lanes.iter().map(|lane| run_lane(shared, lane))).await;
            passed += ended.iter().map(|it| it.passed).sum::<usize>();
            lanes = ended.iter().map(|it| it.rest.clone()).collect();
            let stopped: Vec<&str> = ended.iter().filter_map(|it| Some(it.failure.as_ref()?.0)).collect();
            failed += stopped.len();
            failures.extend(ended.iter().filter_map(|it| Some(it.failure.as_ref()?.1.clone())));
            if stopped.is_empty() {
                continue;
            }
            // After a failure the system is installed anew, so that the other scenarios find the state that they
            // expect.
            world.run = run_name();
            if stopped.contains(&"install") {
                break 'stages;
            }
            if stopped != ["rules"]
                && let Err(error) = install_anew(world).await
            {
                let why = format!("the system could not be made anew, and nothing more is tried: {error:#}");
                failures.push(why);
                print_diagnosis(world).await;
                break 'stages;
            }
        }
    }
    for failure in &failures {
        print_line(failure);
    }
    print_line(&format!("\n{passed} passed, {failed} failed"));
    failures
}

/// The result of a lane, which ends with its first failure.
struct LaneResult {
    passed: usize,
    /// The scenario that failed, and the description of its failure.
    failure: Option<(&'static str, String)>,
    /// The scenarios after the one that failed.
    rest: Vec<NamedScenario>,
}

/// Runs scenarios one after the other until one fails, and prints a line for each.
async fn run_lane(world: &ClusterWorld, lane: &[NamedScenario]) -> LaneResult {
    for (nth, (name, scenario)) in lane.iter().enumerate() {
        let start = Instant::now();
        let result = scenario(world).await;
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(figures) if figures.is_empty() => print_line(&format!("ok {name} ({seconds:.0} s)")),
            Ok(figures) => print_line(&format!("ok {name} ({seconds:.0} s, {figures})")),
            Err(error) => {
                let failure = format!("FAILED {name} ({seconds:.0} s): {error:#}");
                print_line(&failure);
                print_diagnosis(world).await;
                let (failure, rest) = (Some((*name, failure)), lane[nth + 1..].to_vec());
                return LaneResult { passed: nth, failure, rest };
            }
        }
    }
    LaneResult { passed: lane.len(), failure: None, rest: Vec::new() }
}

fn run_name() -> String {
    format!("e{:06x}", rand::random::<u32>() & 0x00ff_ffff)
}

/// Installs the system anew and waits until it is as it is after `install` and `flow`.
async fn install_anew(world: &ClusterWorld) -> anyhow::Result<()> {
    install::install_until_ready(world).await?;
    flow::check_flow(world).await.map(drop)
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn print_line(line: &str) {
    println!("{line}");
}

/// Prints logs, objects and events for somebody who was not there when the scenario failed.
async fn print_diagnosis(world: &ClusterWorld) {
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
        &["--namespace", NAMESPACE_NAME, "get", "rkc", CLUSTER_NAME, "--output=jsonpath={.status}"],
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
        // The status of a namespace that cannot be deleted says what is left in it.
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
    let load = world.manager_load().await.map_or_else(|error| format!("{error:#}"), |load| load.to_string());
    tracing::info!("what a manager says: {load}");
    let report = crate::audience::report(world).await;
    tracing::info!("what the audience says: {report:?}");
    for look in looks {
        if let Ok(output) = world.kube.run_kubectl(look, None).await {
            let lines: Vec<&str> = output.stdout.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            tracing::info!("kubectl {}\n{last}{}", look.join(" "), output.stderr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(stages: &[Stage]) -> Vec<Vec<Vec<&'static str>>> {
        let lane = |lane: &Vec<NamedScenario>| lane.iter().map(|it| it.0).collect();
        stages.iter().map(|stage| stage.iter().map(lane).collect()).collect()
    }

    #[test]
    fn two_lanes_run_once_and_all_others_are_by_themselves() {
        let stages = names_of(&stages_of(SCENARIOS));
        let lanes: Vec<_> = stages.iter().filter(|stage| stage.len() > 1).collect();
        assert_eq!(lanes, [&[BESIDE_SECOND_LANE.to_vec(), SECOND_LANE.to_vec()]]);
        assert!(stages.iter().filter(|stage| stage.len() == 1).all(|stage| stage[0].len() == 1));
        assert_eq!(stages.iter().flatten().flatten().count(), SCENARIOS.len());
    }

    #[test]
    fn chosen_scenarios_keep_their_lanes() {
        let chosen = SCENARIOS.into_iter().filter(|it| ["flow", "pods", "tls", "crowd"].contains(&it.0));
        let expected = vec![vec![vec!["flow"]], vec![vec!["pods"], vec!["tls"]], vec![vec!["crowd"]]];
        assert_eq!(names_of(&stages_of(chosen)), expected);
    }
}
