//! Runs one target under libFuzzer, the one that `LIVERANK_FUZZ_TARGET` names. `fuzz/run` builds and starts this
//! program.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls a function that C knows by its name")]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use liverank_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("LIVERANK_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.unwrap_or_else(|| panic!("LIVERANK_FUZZ_TARGET has to name a target, and {name:?} is none"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
