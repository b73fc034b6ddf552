//! Checks that every implementation of a port runs the port's suite: nothing else would notice an implementation that
//! no test runs. This test finds implementations and calls of suites in the source files.

use std::path::Path;

/// The ports that have a suite here.
const PORTS_WITH_SUITE: [&str; 5] =
    ["archive", "assignment_store", "comment_bus", "event_log", "ranking_store"];

/// Returns the text of every Rust file that stands directly in a directory.
fn read_rust_files(directory: &Path) -> Vec<String> {
    let files =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = files.map(|file| file.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    paths.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_implementation_of_a_port_runs_its_suite() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let texts =
        [read_rust_files(&root.join("adapters/tests")), read_rust_files(&root.join("adapters-testkit/src"))]
            .concat();
    for port in PORTS_WITH_SUITE {
        let source = std::fs::read_to_string(root.join(format!("adapters/src/{port}.rs"))).unwrap();
        let names = source.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 1, "{port}: {names:?}");
        for name in names {
            let (module, suite) = (format!("{name}::"), format!("{port}::suite("));
            assert!(
                texts.iter().any(|text| text.contains(&module) && text.contains(&suite)),
                "no file of adapters/tests or adapters-testkit/src runs {suite}…) on adapters/src/{port}/{name}.rs"
            );
        }
    }
}
