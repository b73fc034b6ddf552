//! Tests the inputs of processes: the settings of their own stores, in files that never change.

use std::collections::BTreeSet;

use liverank_core::moderation::CommentRules;
use liverank_operator::build::{CURRENT_REVISION, Component, Kind, Object, Store};
use liverank_operator::crd::Jwks;
use liverank_protocol::roles::{self, Role};
use serde_json::{Value, json};

use crate::fixtures::{
    all_clusters, build_objects, build_objects_at, cluster, component_settings, container, find_object,
    objects_of_kind, pod,
};

#[test]
fn a_component_has_the_secrets_and_settings_of_its_own_stores_only() {
    let objects = build_objects(&cluster("full"));
    for object in objects_of_kind(&objects, Kind::Deployment) {
        let component = object.component.unwrap();
        let text =
            format!("{} {}", json!(pod(object)), component_settings(&objects, component)).to_lowercase();
        for store in Store::ALL {
            // What shows that a component is given the store.
            let marks = match store {
                Store::Kafka => ["kafka-password-file", "kafka-ca", "kafka-group"],
                Store::Redis => ["redis-url-file", "redis-ca", "redis-prefix"],
                Store::Mongodb => ["mongodb-uri-file", "mongodb-ca", "mongodb-database"],
            };
            for mark in marks {
                let has = component.stores().contains(&store);
                assert_eq!(text.contains(mark), has, "{mark} at {}", component.name());
            }
        }
        let calls = matches!(component, Component::Gateway | Component::Reader);
        assert_eq!(text.contains("identity-token"), calls, "{}", component.name());
        // The last two verify callers only if viewers need tokens: then they accept viewers of gateways only.
        let is_asked = matches!(
            component,
            Component::Manager | Component::Statistics | Component::Comment | Component::Websocket
        );
        assert_eq!(text.contains("identity-jwks-file"), is_asked, "{}", component.name());
        let has_viewers = matches!(component, Component::Comment | Component::Websocket | Component::Reader);
        assert_eq!(text.contains("viewers-by-gateway"), has_viewers, "{}", component.name());
        let viewers = component == Component::Gateway;
        assert_eq!(text.contains("auth-jwks"), viewers, "{}", component.name());
    }
}

#[test]
fn credentials_of_stores_are_in_no_environment() {
    const CREDENTIALS: [&str; 3] = ["LIVERANK_REDIS", "LIVERANK_MONGODB", "LIVERANK_KAFKA_PASSWORD"];
    let cluster = cluster("full");
    for (revision, are_files) in [(4, false), (CURRENT_REVISION, true)] {
        let objects = build_objects_at(&cluster, revision);
        for object in objects_of_kind(&objects, Kind::Deployment) {
            let component = object.component.unwrap();
            let settings = component_settings(&objects, component);
            let container = container(object);
            let named: Vec<String> =
                container.env.into_iter().flatten().map(|variable| variable.name).collect();
            let given = CREDENTIALS.iter().any(|credential| named.iter().any(|name| name == credential));
            let has_stores = !component.stores().is_empty();
            assert_eq!(given, has_stores && !are_files, "{} at {revision}", component.name());
            for (setting, store) in [
                ("redis-url-file", Store::Redis),
                ("mongodb-uri-file", Store::Mongodb),
                ("kafka-password-file", Store::Kafka),
            ] {
                let file = settings.get(setting).and_then(|path| path.as_str());
                assert_eq!(file.is_some(), are_files && component.stores().contains(&store), "{setting}");
                // The folder of the file is a mounted Secret.
                let Some((folder, _)) = file.and_then(|file| file.rsplit_once('/')) else { continue };
                let mounts = container.volume_mounts.iter().flatten();
                let mount = mounts.into_iter().find(|mount| mount.mount_path == folder).unwrap();
                let volumes = pod(object).volumes.unwrap();
                let volume = volumes.iter().find(|volume| volume.name == mount.name).unwrap();
                assert!(volume.secret.is_some() && mount.read_only == Some(true), "{setting}");
            }
        }
    }
}

/// Returns the name of the `ConfigMap` that a Deployment's pods mount.
fn mounted_config_map(object: &Object) -> String {
    let volumes = pod(object).volumes.unwrap();
    volumes.into_iter().find_map(|volume| volume.config_map).unwrap().name
}

#[test]
fn a_config_map_is_immutable_and_a_change_makes_another() {
    for (_, objects) in all_clusters() {
        for object in objects_of_kind(&objects, Kind::Deployment) {
            let config = objects_of_kind(&objects, Kind::ConfigMap)
                .find(|it| it.name == mounted_config_map(object))
                .unwrap();
            assert_eq!(config.component, object.component);
            assert_eq!(config.body["immutable"], json!(true));
        }
    }
    let mut cluster = cluster("minimal");
    let old = build_objects(&cluster);
    cluster.spec.scoring.trending_half_life_minutes = 7;
    let new = build_objects(&cluster);
    for component in Component::ROLL_OUT_ORDER {
        let of = |objects: &[Object]| mounted_config_map(find_object(objects, Kind::Deployment, component));
        let same = of(&old) == of(&new);
        assert_eq!(same, component != Component::Consumer, "{}", component.name());
    }
    // A Deployment whose turn has not come keeps its template, and in it the name of its file.
    let live = &find_object(&old, Kind::Deployment, Component::Consumer).body;
    let held = find_object(&new, Kind::Deployment, Component::Consumer).with_template_of(live);
    assert_eq!(
        mounted_config_map(&held),
        mounted_config_map(find_object(&old, Kind::Deployment, Component::Consumer))
    );
}

#[test]
fn two_clusters_with_default_names_share_nothing_in_their_stores() {
    let names = |namespace: &str, name: &str| {
        let mut cluster = cluster("minimal");
        (cluster.metadata.namespace, cluster.metadata.name) = (Some(namespace.into()), Some(name.into()));
        let settings = component_settings(&build_objects(&cluster), Component::Consumer);
        ["redis-prefix", "mongodb-database", "kafka-group"]
            .map(|key| settings[key].as_str().unwrap().to_owned())
    };
    let first = names("tv", "live");
    assert_eq!(first, ["tv.live.", "tv_live", "liverank.tv.live"]);
    for other in [names("tv", "more"), names("radio", "live")] {
        assert!(first.iter().zip(&other).all(|(a, b)| a != b), "{first:?} {other:?}");
    }
}

/// Returns the settings that a process is given: the keys of its file, and its own variables and flags by the same
/// names.
fn given_settings(objects: &[Object], object: &Object) -> BTreeSet<String> {
    let component = object.component.unwrap();
    let container = container(object);
    let variables = container.env.into_iter().flatten().map(|variable| variable.name);
    let variables = variables.filter_map(|name| {
        Some(
            name.strip_prefix("LIVERANK_")
                .filter(|_| name != "LIVERANK_CONFIG")?
                .to_lowercase()
                .replace('_', "-"),
        )
    });
    let flags = container.args.into_iter().flatten();
    let flags = flags.filter_map(|flag| Some(flag.strip_prefix("--")?.split('=').next()?.to_owned()));
    let keys =
        component_settings(objects, component).as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    keys.into_iter().chain(variables).chain(flags).filter(|name| name != "config").collect()
}

/// Returns the settings that the processes of these objects are given, each with its role.
fn all_given_settings(objects: &[Object]) -> BTreeSet<(Role, String)> {
    let deployments = objects_of_kind(objects, Kind::Deployment);
    let of_deployment = |object: &Object| {
        let role = object.component.unwrap().role();
        given_settings(objects, object).into_iter().map(move |name| (role, name))
    };
    deployments.flat_map(of_deployment).collect()
}

/// Returns the settings that the processes of these objects are given, and that the table of roles lacks.
pub fn settings_that_are_in_no_table(objects: &[Object]) -> Vec<String> {
    let given = all_given_settings(objects).into_iter();
    let lacking = given.filter(|(role, name)| roles::find_setting(*role, name).is_none());
    lacking.map(|(role, name)| format!("{name} of {}", role.name())).collect()
}

#[test]
fn every_setting_that_is_written_is_in_the_table_of_roles() {
    let mut by_url = cluster("full");
    let url = "https://issuer.example.org/jwks.json".to_owned();
    by_url.spec.auth.jwks = Some(Jwks { secret_key: None, url: Some(url) });
    let by_url = build_objects(&by_url);
    // Builders up to revision 4 give the credentials of stores as variables.
    let before = build_objects_at(&cluster("full"), 4);
    let mut written = BTreeSet::new();
    for objects in all_clusters().map(|(_, objects)| objects).chain([by_url, before]) {
        assert_eq!(
            settings_that_are_in_no_table(&objects),
            [""; 0],
            "protocol/src/roles.rs has no such settings"
        );
        written.extend(all_given_settings(&objects));
    }
    let listed =
        roles::SETTINGS.iter().flat_map(|setting| setting.roles.iter().map(|role| (*role, setting.name)));
    let idle: Vec<_> =
        listed.filter(|(role, name)| !written.contains(&(*role, (*name).to_owned()))).collect();
    assert_eq!(idle, [], "listed, and written for no cluster of these tests");
}

#[test]
fn an_image_is_given_only_the_settings_that_its_version_knows() {
    let mut cluster = cluster("full");
    for (image, is_given) in [("liverank:0.0.9", false), ("liverank:0.1.0", true), ("liverank:dev", true)] {
        cluster.spec.image = image.to_owned();
        let settings = component_settings(&build_objects(&cluster), Component::Reader);
        assert_eq!(settings.get("capacity").is_some(), is_given, "{image}");
    }
}

#[test]
fn comment_services_are_given_the_rules_of_comments_as_a_file() {
    let files = |objects: &[Object], component| {
        let mounted = mounted_config_map(find_object(objects, Kind::Deployment, component));
        let object = objects_of_kind(objects, Kind::ConfigMap).find(|it| it.name == mounted).unwrap();
        object.body["data"].as_object().unwrap().clone()
    };
    let mut cluster = cluster("full");
    let objects = build_objects(&cluster);
    for component in Component::ROLL_OUT_ORDER {
        let has_rules = files(&objects, component).contains_key("comment-rules.json");
        assert_eq!(has_rules, component == Component::Comment, "{}", component.name());
    }
    let path = &component_settings(&objects, Component::Comment)["comment-rules-file"];
    assert_eq!(path, "/etc/liverank/config/comment-rules.json");
    let text = files(&objects, Component::Comment)["comment-rules.json"].as_str().unwrap().to_owned();
    let rules = CommentRules::from_json(text.as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(rules).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
    let wanted = json!({
        "slow_seconds": 10, "members_only": true, "max_chars": 500, "own_repeat_seconds": 60, "any_repeat_seconds": 5,
        "hold_all": true, "links": {"action": "hold", "allow": ["example.org"]},
        "words": [{"action": "mask", "words": ["darn*", "go away"]}],
        "patterns": [{"action": "reject", "pattern": r"\d{9,16}"}],
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);
    // Other rules are another object, which is rolled out; without rules there is no file.
    cluster.spec.comment.rules.as_mut().unwrap().slow_seconds = Some(11);
    let other = build_objects(&cluster);
    let of =
        |objects: &[Object]| mounted_config_map(find_object(objects, Kind::Deployment, Component::Comment));
    assert_ne!(of(&objects), of(&other));
    cluster.spec.comment.rules = None;
    let none = build_objects(&cluster);
    assert_eq!(files(&none, Component::Comment).keys().collect::<Vec<_>>(), ["config.yaml"]);
    assert_eq!(component_settings(&none, Component::Comment).get("comment-rules-file"), None);
}
