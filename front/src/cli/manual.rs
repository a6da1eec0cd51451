//! Holds the lists in README.md to what the code says: the settings that are flags, and the metrics.
//!
//! Each list stands between two markers, `<!-- NAME -->` and `<!-- /NAME -->`. With `UPDATE_MANUAL=1` in the environment
//! the tests write the lists instead of comparing them.

use tempest::config::options;
use tempest::telemetry::Metrics;

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// The lists by the names of their markers.
fn lists() -> [(&'static str, String); 3] {
    [("options", options::markdown()), ("worker-options", options::worker_markdown()), ("metrics", Metrics::markdown())]
}

/// The text before, between and after a list's markers; `None` where the manual has no such list.
fn section<'m>(manual: &'m str, name: &str) -> Option<(&'m str, &'m str, &'m str)> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let at = manual.find(&begin)? + begin.len();
    let length = manual[at..].find(&end)?;
    Some((&manual[..at], &manual[at..at + length], &manual[at + length..]))
}

#[test]
fn the_manual_says_what_the_code_says() {
    // A manual that is not there yet says nothing wrong.
    let Ok(mut manual) = std::fs::read_to_string(MANUAL) else { return };
    let update = std::env::var_os("UPDATE_MANUAL").is_some();
    for (name, list) in lists() {
        let Some((before, now, after)) = section(&manual, name) else { continue };
        if update {
            manual = format!("{before}{list}{after}");
        } else {
            assert_eq!(now, list, "the list of {name} in README.md is old: run the tests once with UPDATE_MANUAL=1");
        }
    }
    if update {
        std::fs::write(MANUAL, manual).expect("README.md can be written");
    }
}

#[test]
fn a_list_stands_between_its_markers() {
    let manual = "a\n<!-- x -->\nlist\n<!-- /x -->\nb";
    assert_eq!(section(manual, "x"), Some(("a\n<!-- x -->\n", "list\n", "<!-- /x -->\nb")));
    assert_eq!(section(manual, "y"), None);
}
