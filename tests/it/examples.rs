//! Every example is complete: a README that names only what is there, a configuration without faults.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempest_tests::{Folder, prepare_raw_workers, repository, tempest};

fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("examples")).expect("there are examples").flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn each_has_a_readme_whose_links_lead_somewhere() {
    for folder in examples() {
        let readme = folder.join("README.md");
        let text = fs::read_to_string(&readme).unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = link.starts_with("http") || file.is_empty();
            assert!(outside || folder.join(file).exists(), "{}: {link}", readme.display());
        }
    }
}

#[test]
fn each_configuration_is_without_fault() {
    let dir = Folder::new();
    let mut checked = 0;
    for file in examples().iter().map(|folder| folder.join("tempest.toml")).filter(|file| file.exists()) {
        tempest(&dir, &["config", "check", file.to_str().expect("text")], &[], "").ok();
        checked += 1;
    }
    assert!(checked >= 2, "hello and clock at least");
}

#[test]
fn preparing_twice_does_nothing_the_second_time() {
    prepare_raw_workers();
    let output = Command::new(repository().join("examples/raw/prepare")).output().expect("it runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}
