//! The configuration file of each component: the flags of its role, as YAML. A component gets no setting that it does
//! not use, so that a changed setting restarts no other component.

use std::collections::BTreeMap;

use liverank_protocol::roles::{self, ReleaseVersion};
use liverank_runtime::config::OPERATOR_FILE_HEADER;
use serde_json::{Value, json};

use super::lifetime::PodTermination;
use super::scope::Scope;
use super::{ADMIN_PORT, Component, Store, identity, names, object, secrets, tls};
use crate::crd::{Board, Kafka, RankingClusterSpec, RedisTopology};

/// The folder of the configuration file in a pod.
pub(super) const FOLDER: &str = "/etc/liverank/config";
/// The name of the configuration file in `FOLDER`.
const FILE: &str = "config.yaml";
/// The name of the file with the rules of comments in `FOLDER`.
const RULES_FILE: &str = "comment-rules.json";

/// Returns the path of the configuration file in a pod.
pub(super) fn file_path() -> String {
    format!("{FOLDER}/{FILE}")
}

/// Returns the text of the configuration file of `component`. Keys are sorted, so that the same settings give the same
/// text. The first line marks the file as written by the operator: a process ignores unknown keys in such a file.
pub(super) fn file(scope: Scope<'_>, component: Component) -> String {
    let settings = serde_yaml::to_string(&settings(scope, component));
    format!("{OPERATOR_FILE_HEADER}\n{}", settings.expect("plain values under string keys are YAML"))
}

/// Returns the files of `component`, by their names: the configuration file, and the rules of comments if there are any.
pub(super) fn files(scope: Scope<'_>, component: Component) -> BTreeMap<String, String> {
    let rules = comment_rules(scope, component).map(|rules| (RULES_FILE.to_owned(), rules));
    [(FILE.to_owned(), file(scope, component))].into_iter().chain(rules).collect()
}

/// Returns the rules that every comment has to keep, as JSON; `None` if there are none, and for all components that do not
/// check comments.
fn comment_rules(scope: Scope<'_>, component: Component) -> Option<String> {
    let rules = scope.spec.comment.rules.as_ref().filter(|_| component == Component::Comment)?;
    Some(format!("{:#}\n", Value::Object(rules.declaration())))
}

/// Returns the name of the `ConfigMap` that holds the files of `component`.
pub(super) fn object_name(scope: Scope<'_>, component: Component) -> String {
    let config = file(scope, component);
    let content = match comment_rules(scope, component) {
        None => json!(config),
        Some(rules) => json!([config, rules]),
    };
    names::config_map_name(scope.name, component, &object::hash(&content))
}

/// Returns the settings of `component` by the names of its flags.
fn settings(scope: Scope<'_>, component: Component) -> BTreeMap<&'static str, Value> {
    let mut settings = BTreeMap::from([
        ("admin-listen", json!(format!("0.0.0.0:{ADMIN_PORT}"))),
        ("drain-seconds", json!(PodTermination::of(component, scope.spec).drain)),
        ("log-format", json!("json")),
    ]);
    if let Some(filter) = &scope.pod_settings(component).log_level {
        settings.insert("log", json!(filter));
    }
    settings.extend(tracing(scope.spec));
    if let Some(port) = component.http_port() {
        settings.insert("listen", json!(format!("0.0.0.0:{port}")));
    }
    for store in component.stores() {
        settings.extend(store_settings(scope, *store));
    }
    for file in secrets::files(scope.spec, scope.input.revision, component) {
        settings.insert(file.setting, json!(file.path()));
    }
    settings.extend(peers(scope, component));
    settings.extend(identity::identity_settings(scope, component));
    settings.extend(tls::tls_settings(scope, component));
    settings.extend(boards(scope.spec, component));
    settings.extend(component_settings(scope, component));
    // An image that does not know a setting yet would refuse to start with it.
    let version = ReleaseVersion::of_image(&scope.spec.image);
    settings.retain(|name, _| roles::knows_setting(component.role(), name, version));
    settings
}

/// Returns the settings for sending traces, which every component gets; empty if tracing is off.
fn tracing(spec: &RankingClusterSpec) -> Vec<(&'static str, Value)> {
    let Some(tracing) = &spec.monitoring.tracing else { return Vec::new() };
    let ratio = f64::from(tracing.sampling_rate_per_million) / 1e6;
    vec![
        ("otlp-endpoint", json!(tracing.endpoint)),
        ("trace-ratio", json!(ratio.to_string())),
        ("traces-per-minute", json!(tracing.traces_per_minute)),
    ]
}

fn store_settings(scope: Scope<'_>, store: Store) -> Vec<(&'static str, Value)> {
    let spec = scope.spec;
    match store {
        Store::Kafka => vec![
            ("kafka", json!(spec.kafka.bootstrap_servers)),
            ("kafka-topic", json!(spec.kafka.topic)),
            // Two clusters on one Kafka must not share out each other's partitions.
            ("kafka-group", json!(format!("liverank.{}.{}", scope.namespace, scope.name))),
        ],
        Store::Redis => {
            let cluster =
                (spec.redis.topology == RedisTopology::Cluster).then_some(("redis-cluster", json!(true)));
            let own = || names::default_redis_prefix(scope.namespace, scope.name);
            let prefix = spec.redis.prefix.clone().unwrap_or_else(own);
            cluster.into_iter().chain([("redis-prefix", json!(prefix))]).collect()
        }
        Store::Mongodb => {
            let own = || names::default_database(scope.namespace, scope.name);
            vec![("mongodb-database", json!(spec.mongodb.database.clone().unwrap_or_else(own)))]
        }
    }
}

/// Returns the URLs of the other components that `component` calls, including those that are switched off. So switching
/// a component off or on restarts no other component; until it is back, its callers report it as unavailable.
fn peers(scope: Scope<'_>, component: Component) -> Vec<(&'static str, Value)> {
    component
        .talks_to()
        .iter()
        .filter_map(|peer| {
            let setting = match peer {
                Component::Manager => "manager-url",
                Component::Comment => "comment-url",
                Component::Websocket => "websocket-url",
                Component::Statistics => "statistics-url",
                // The managers return the addresses of a video's readers.
                Component::Reader | Component::Consumer | Component::Gateway => return None,
            };
            Some((setting, json!(scope.service_url(*peer)?)))
        })
        .collect()
}

/// Returns the declared boards, for the components that fill or show them; `None` for all other components.
fn boards(spec: &RankingClusterSpec, component: Component) -> Option<(&'static str, Value)> {
    let has_boards = matches!(component, Component::Consumer | Component::Gateway | Component::Websocket);
    if !has_boards || spec.boards.is_empty() {
        return None;
    }
    let boards: Vec<Value> = spec.boards.iter().map(Board::declaration).collect();
    Some(("boards", json!(Value::Array(boards).to_string())))
}

/// Returns the settings of the topics that are exported to other systems.
fn exports(spec: &RankingClusterSpec) -> impl Iterator<Item = (&'static str, Value)> {
    let Kafka { export_comments, export_boards, .. } = &spec.kafka;
    let topics = [("export-comments", export_comments), ("export-boards", export_boards)];
    topics.into_iter().filter_map(|(setting, topic)| Some((setting, json!(topic.as_ref()?))))
}

/// Returns the settings that only `component` has.
fn component_settings(scope: Scope<'_>, component: Component) -> Vec<(&'static str, Value)> {
    let spec = scope.spec;
    match component {
        Component::Manager => {
            let budget = spec.readers.rebalance.max_viewers_moved_per_minute;
            vec![("max-viewers-moved-per-minute", json!(budget))]
        }
        Component::Consumer => {
            let scoring = &spec.scoring;
            let unique: Vec<&str> = scoring.unique.iter().map(|kind| kind.name()).collect();
            let unique = (!unique.is_empty()).then(|| ("unique", json!(unique.join(","))));
            let weights = [
                ("weight-view", json!(scoring.view.to_string())),
                ("weight-like", json!(scoring.like.to_string())),
                ("weight-comment", json!(scoring.comment.to_string())),
                ("weight-share", json!(scoring.share.to_string())),
                ("weight-watch-short", json!(scoring.watch_time_short.to_string())),
                ("weight-watch-long", json!(scoring.watch_time_long.to_string())),
                ("watch-threshold-ms", json!(scoring.watch_time_threshold_seconds.thousandths())),
                ("trending-half-life-minutes", json!(scoring.trending_half_life_minutes)),
            ];
            weights.into_iter().chain(unique).chain(exports(spec)).collect()
        }
        Component::Reader => vec![("capacity", json!(spec.readers.viewers_per_reader))],
        Component::Comment => {
            let hook = spec.comment.hook.as_ref().map(|hook| {
                [
                    ("comment-hook-url", json!(hook.url)),
                    ("comment-hook-timeout-ms", json!(hook.timeout_milliseconds)),
                    ("comment-hook-when-away", json!(hook.when_away.flag())),
                ]
            });
            let rules = spec.comment.rules.as_ref();
            let rules = rules.map(|_| ("comment-rules-file", json!(format!("{FOLDER}/{RULES_FILE}"))));
            hook.into_iter().flatten().chain(rules).collect()
        }
        Component::Gateway => {
            let viewers = secrets::checks_users(spec, component).then_some(&spec.auth);
            let url = secrets::jwks_url(spec, component).map(|url| ("auth-jwks-url", json!(url)));
            let issuer = viewers.and_then(|auth| auth.issuer.as_ref()).map(|it| ("auth-issuer", json!(it)));
            let audience =
                viewers.and_then(|auth| auth.audience.as_ref()).map(|it| ("auth-audience", json!(it)));
            url.into_iter().chain(issuer).chain(audience).collect()
        }
        Component::Websocket | Component::Statistics => Vec::new(),
    }
}
