//! The changes of `tests/mutants` still fit the code, name tests that are there, and leave no promise of the table out.
//!
//! Trying them takes long (`./dev mutants --push`); what would make such a run worthless is found out here, at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempest_tests::mutants::{push, rows};
use tempest_tests::repository;

#[test]
fn every_change_fits_the_code_as_it_is() {
    let all = push().expect("lists that can be read");
    let wrong: Vec<String> = all.iter().filter_map(|mutant| mutant.applied(repository()).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: BTreeSet<&str> = all.iter().map(|mutant| mutant.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a name is one change's");
    for mutant in &all {
        assert!(mutant.promise.ends_with('.') && !mutant.test.is_empty(), "{mutant:?}");
    }
}

#[test]
fn every_test_that_a_change_names_is_there() {
    let mut missing = Vec::new();
    for mutant in push().expect("lists that can be read") {
        for test in &mutant.test {
            if !["tests/it", "worker-sdk/rust/tests/it"].iter().any(|folder| has_test(folder, test)) {
                missing.push(format!("{}: {test}", mutant.name));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Whether this binary's folder has a test of this whole name.
fn has_test(folder: &str, name: &str) -> bool {
    let Some((module, function)) = name.rsplit_once("::") else { return false };
    let path = repository().join(folder).join(module.replace("::", "/"));
    let has = |file: &Path| fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {function}(")));
    has(&path.with_extension("rs")) || has(&path.join("mod.rs"))
}

#[test]
fn every_promise_of_the_table_has_a_change_that_takes_it_away() {
    let (rows, all) = (rows(), push().expect("lists that can be read"));
    assert!(rows.len() > 10, "the table is found: {rows:?}");
    let taken: BTreeSet<&str> = all.iter().filter_map(|mutant| mutant.row.as_deref()).collect();
    for (row, claims) in &rows {
        assert!(!claims || taken.contains(row.as_str()), "no change takes away what the row \"{row}\" says");
    }
    for row in taken {
        assert!(rows.iter().any(|(name, claims)| name == row && *claims), "the table has no promise \"{row}\"");
    }
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is a README");
    let said = format!("{} changes", all.len());
    assert!(readme.contains(&said), "README.md says under the table how many there are: {said}");
}
