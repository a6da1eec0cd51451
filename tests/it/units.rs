//! The systemd units of `examples/deploy`, read by systemd itself: it ignores a setting that stands in the wrong section,
//! and says so only to whoever asks.

use std::fs;
use std::process::Command;

use tempest_tests::{Folder, repository, tempest_binary};

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = Folder::new();
    let mut units = Vec::new();
    for entry in fs::read_dir(repository().join("examples/deploy")).expect("the units").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".service") && !name.ends_with(".socket") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).expect("a unit is text");
        // It looks whether the program is there.
        let text = text.replace("/usr/local/bin/tempest", &tempest_binary().display().to_string());
        fs::write(folder.join(&name), text).expect("written");
        units.push(folder.join(&name));
    }
    assert_eq!(units.len(), 3, "{units:?}");
    let mut verify = Command::new("systemd-analyze");
    // The folder comes first, systemd's own units behind it.
    verify.arg("verify").args(&units).env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    let output = verify.output().expect("systemd-analyze, which ./dev test installs");
    let said = String::from_utf8_lossy(&output.stderr);
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("tempest-")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
}
