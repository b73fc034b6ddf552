//! Prints the test programs that `cargo test` leaves out (those with `test = false` in a manifest), because they need
//! real stores or the whole machine. `testbed/suites/table.py` lists every one, and its own test checks that.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

fn main() -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let said = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    ensure!(said.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&said.stderr));
    let metadata: Value = serde_json::from_slice(&said.stdout)?;
    let names = targets_left_out(&metadata).context("metadata of another shape")?;
    println!(
        "Not run here, for they need the real stores or the machine for themselves: {}.",
        names.join(", ")
    );
    println!("`make test` runs them.");
    Ok(())
}

/// Returns the names of all test targets with `test = false`; `None` if the metadata have another form.
fn targets_left_out(metadata: &Value) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for package in metadata["packages"].as_array()? {
        for target in package["targets"].as_array()? {
            if target["kind"][0] == "test" && target["test"] == false {
                names.push(target["name"].as_str()?);
            }
        }
    }
    Some(names)
}
