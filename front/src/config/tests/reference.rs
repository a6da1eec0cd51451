//! Holds `front/reference.toml` to the readers: every setting that they ask for is in it, and nothing else.
//!
//! Whoever adds a setting adds it there: with its default, or in a comment where there is none.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::load::{self, Parsed};
use super::super::{Held, Origin, REFERENCE, routes};

const NAME: &str = "front/reference.toml";

/// The reference with its commented settings and tables taken for what they are.
fn complete() -> String {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let word = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        (word && line.contains(" = ")) || (line.starts_with('[') && line.trim_end().contains(']'))
    };
    let bare = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_setting(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    REFERENCE.lines().map(bare).collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> Parsed {
    load::parse_text(NAME, text, Path::new("/base"))
        .unwrap_or_else(|problems| panic!("what the reference says, commented or not, has to be right:\n{problems}"))
}

#[test]
fn every_setting_is_in_the_reference() {
    let looked = read(&complete()).looked;
    let keys = |there: bool| looked.iter().filter(move |(_, found)| *found == there).map(|(key, _)| key.as_str());
    let there: BTreeSet<&str> = keys(true).collect();
    let lacking: BTreeSet<&str> = keys(false).filter(|key| !there.contains(key)).collect();
    let line = |key: &&str| {
        let (table, word) = key.rsplit_once('.').unwrap_or(("the top", key));
        format!(
            "{NAME} lacks {key}: add `{word} = DEFAULT` to {table}, or `# {word} = EXAMPLE` where there is no default"
        )
    };
    assert!(lacking.is_empty(), "\n{}", lacking.iter().map(line).collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_kind_of_route_is_in_the_reference() {
    for kind in routes::kinds().filter(|kind| *kind != "queue") {
        assert!(
            complete().contains(&format!("\nkind = \"{kind}\"")),
            "{NAME} lacks a [[route]] with kind = \"{kind}\""
        );
    }
}

#[test]
fn what_is_not_commented_is_the_default() {
    let Parsed { config: said, held, .. } = read(REFERENCE);
    let Parsed { config: default, held: defaults, .. } = read("");
    let other = |default: &&Held| held.iter().any(|held| held.setting() == default.setting() && !held.is_same(default));
    let wrong: Vec<&str> = defaults.iter().filter(other).map(Held::setting).collect();
    assert!(wrong.is_empty(), "{NAME} says another default than the code for {wrong:?}");
    assert_eq!(format!("{said:#?}"), format!("{default:#?}"));
    // One that is commented although it has a default would not be looked at above.
    let all = read(&complete()).held;
    let unsaid = |held: &&Held| {
        let default = defaults.iter().find(|default| default.key() == held.key());
        let by_reference = held.origin != Origin::Default && !is_given(held.key());
        by_reference && default.is_some_and(|default| default.written() != "not set")
    };
    let hidden: BTreeSet<&str> = all.iter().filter(unsaid).map(Held::key).collect();
    assert!(hidden.is_empty(), "{NAME} has these in comments, although they have defaults: {hidden:?}");
}

/// True where the reference gives the setting outside of comments.
fn is_given(key: &str) -> bool {
    read(REFERENCE).held.iter().any(|held| held.key() == key && held.origin != Origin::Default)
}

#[test]
fn every_setting_has_a_comment() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    let is_setting = |line: &str| !line.starts_with('#') && line.contains(" = ");
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_setting(line)) {
        // Several that belong together share the comment above the first of them.
        let above = lines[..at].iter().rev().find(|line| !is_setting(line)).unwrap_or(&"");
        let explained =
            line.contains(" # ") || (above.starts_with('#') && !above.starts_with("# [")) || above.starts_with("[[");
        assert!(explained, "{NAME}:{}: `{line}` has no comment", at + 1);
    }
}

#[test]
fn a_setting_that_is_missing_is_named() {
    let without = complete().replace("\nheaders = 100\n", "\n");
    assert!(read(&without).looked.contains(&("limits.headers".to_owned(), false)), "so the first test would name it");
}
