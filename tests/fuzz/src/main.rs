//! The fuzzer: libFuzzer with one target, which `TEMPEST_FUZZ` names. One program for all of them, since linking the front
//! takes longer than fuzzing a target in the tests does. It puts the golden messages into the folder `TEMPEST_FUZZ_SEEDS`.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempest_fuzz::{TARGETS, Target, corpus, find};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("TEMPEST_FUZZ").unwrap_or_default();
    let names = TARGETS.map(|target| target.name).join(", ");
    find(&name).unwrap_or_else(|| panic!("TEMPEST_FUZZ is {name:?}, and not one of {names}"))
});

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("TEMPEST_FUZZ_SEEDS").map(PathBuf::from) {
            for (name, input) in corpus::golden_of(TARGET.name) {
                std::fs::write(folder.join(name), input).expect("the folder of the seeds is writable");
            }
        }
    },
    |data: &[u8]| (TARGET.run)(data)
);
