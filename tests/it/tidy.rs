//! Rules that a compiler does not hold: floors, one home for the Redis client, sizes, headers, clean text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempest_tests::repository;

/// Most lines of one file; a file with one subject rarely needs more than 350.
const MOST_LINES: usize = 500;

/// Modules of `front/src` and their floors: a module imports from lower floors and its own module only.
const FLOORS: &[(&str, u32)] = &[
    ("ident", 0),
    ("config", 0),
    ("error", 0),
    ("backoff", 0),
    ("descriptors", 0),
    ("telemetry", 1),
    ("lifecycle", 1),
    ("listener", 1),
    ("notify", 1),
    ("places", 1),
    ("supervisor", 1),
    ("tls", 1),
    ("broker", 2),
    ("cookies", 1),
    ("origin", 1),
    ("auth", 3),
    ("session", 3),
    ("queue", 3),
    ("hub", 3),
    ("http", 4),
    ("connection", 5),
    ("admin", 5),
    ("server", 6),
    ("embed", 6),
    ("up", 6),
    ("workers", 6),
    ("supervise", 6),
    ("cli", 6),
    ("commands", 6),
    ("reactor", 6),
    ("registry", 6),
    ("reload", 6),
    ("run", 6),
    ("main", 6),
    ("lib", 6),
];

const SOURCE_FOLDERS: [&str; 4] = ["front/src", "worker-sdk/protocol/src", "worker-sdk/rust/src", "tests"];

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "__pycache__"].contains(&name.as_str()) {
                found.extend(files(&path, endings));
            }
        } else if endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let folders = SOURCE_FOLDERS.iter().flat_map(|folder| files(&repository().join(folder), &[".rs"]));
    folders.map(|path| (relative(&path), fs::read_to_string(&path).expect("source is text"))).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(repository()).expect("it lies in the repository").display().to_string()
}

/// The code of a file without its unit tests and comments.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn a_module_imports_lower_floors_only() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("front/src/")) {
        let module = path["front/src/".len()..].split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(floor) = floors.get(module.as_str()) else {
            wrong.push(format!("{path}: module {module} has no floor"));
            continue;
        };
        for imported in imported_modules(&code(text)) {
            let lower = floors.get(imported.as_str()).is_some_and(|other| other < floor);
            let own = imported == module || *floor == 6;
            if !lower && !own && floors.contains_key(imported.as_str()) {
                wrong.push(format!("{path} (floor {floor}) imports {imported}"));
            }
        }
    }
    assert_none("floors", &wrong);
}

/// The names behind `crate::`, in paths and in lists in braces.
fn imported_modules(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 1;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => start = true,
                        c if start && depth == 1 && c.is_alphabetic() => {
                            found.push(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            None => found.push(word(rest)),
        }
    }
    found
}

#[test]
fn the_redis_client_library_is_named_in_the_broker_alone() {
    let outside = |path: &str| path.starts_with("front/") && !path.starts_with("front/src/broker/");
    let names = |text: &str| code(text).lines().any(|line| line.contains("fred::") || line.contains("use fred"));
    let found: Vec<_> =
        sources().into_iter().filter(|(path, text)| outside(path) && names(text)).map(|(path, _)| path).collect();
    assert_none("fred outside front/src/broker", &found);
}

#[test]
fn no_file_is_too_long() {
    let long = |(path, text): &(String, String)| {
        let lines = text.lines().count();
        (lines > MOST_LINES).then(|| format!("{path}: {lines} lines"))
    };
    assert_none("files over the limit; split them by subject", &sources().iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn every_module_says_why_it_exists() {
    let bare: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert_none("without a header", &bare);
}

#[test]
fn nothing_unwraps() {
    let found: Vec<_> = sources()
        .iter()
        .flat_map(|(path, text)| {
            let code = code(text);
            let lines: Vec<_> =
                code.lines().filter(|line| line.contains(concat!(".unw", "rap()"))).map(str::to_owned).collect();
            lines.into_iter().map(move |line| format!("{path}: {}", line.trim()))
        })
        .collect();
    assert_none("unwrap outside tests", &found);
}

#[test]
fn no_test_is_skipped() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().any(|line| line.trim_start().starts_with("#[ignore")))
        .map(|(path, _)| path)
        .collect();
    assert_none("ignored tests", &found);
}

#[test]
fn no_file_names_a_machine() {
    let endings = [".rs", ".md", ".toml", ".py", ".rb", ".php", ".go", ".pl", ".mjs", ".sh", ".json", ".html", ".yml"];
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tm", "p/bash")];
    let mut found = Vec::new();
    for path in files(repository(), &endings) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {line}", relative(&path), number + 1));
            }
        }
    }
    assert_none("paths of a machine", &found);
}

#[test]
fn the_python_package_carries_the_scripts_of_the_contract() {
    let copies = files(&repository().join("worker-sdk/python/src/tempest_worker/scripts"), &[".lua"]);
    assert!(!copies.is_empty(), "the package carries no scripts");
    let differs = |copy: &PathBuf| {
        let name = copy.file_name().unwrap_or_default();
        let original = repository().join("worker-sdk/protocol/scripts").join(name);
        (fs::read(copy).ok() != fs::read(original).ok()).then(|| relative(copy))
    };
    assert_none("not equal to worker-sdk/protocol/scripts", &copies.iter().filter_map(differs).collect::<Vec<_>>());
}

#[test]
fn every_dependency_is_declared_once() {
    let mut wrong = Vec::new();
    for path in ["front", "worker-sdk/protocol", "worker-sdk/rust", "tests", "tests/chaos", "examples/embed"] {
        let text = fs::read_to_string(repository().join(path).join("Cargo.toml")).expect("a package has a manifest");
        let dependencies = text.split("dependencies]").skip(1).flat_map(|part| part.split("\n[").next());
        for line in dependencies.flat_map(str::lines).filter(|line| line.contains('=')) {
            if !line.contains("workspace = true") {
                wrong.push(format!("{path}: {line}"));
            }
        }
    }
    assert_none("a version belongs in the workspace's manifest", &wrong);
}
