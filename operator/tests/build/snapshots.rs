//! Compares all objects of a few clusters with snapshot files for people; `UPDATE_SNAPSHOTS=1` writes them anew.

use serde_yaml::to_string;

use crate::fixtures::{CLUSTERS, build_objects, cluster, path};

#[test]
fn objects_are_those_of_the_snapshots() {
    let changed: Vec<&str> = CLUSTERS.into_iter().filter(|name| !matches_snapshot(name)).collect();
    assert!(
        changed.is_empty(),
        "{changed:?} differ: UPDATE_SNAPSHOTS=1, and read the difference before committing"
    );
}

fn matches_snapshot(name: &str) -> bool {
    let objects: Vec<String> =
        build_objects(&cluster(name)).iter().map(|object| to_string(&object.body).unwrap()).collect();
    let text = format!(
        "# All objects of tests/build/clusters/{name}.yaml with readers 0 and 3.\n{}",
        objects.join("---\n")
    );
    let file = path(&format!("tests/snapshots/{name}.yaml"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    if let Some((line, (stored, built))) =
        stored.lines().zip(text.lines()).enumerate().find(|(_, (stored, built))| stored != built)
    {
        eprintln!("{}:{}: {stored:?} is now {built:?}", file.display(), line + 1);
    }
    stored == text
}
