//! What targets begin with: the golden messages, what fuzzing has found since, and what once broke them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// An input and where it comes from.
pub type Input = (String, Vec<u8>);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All inputs of a target.
pub fn of(target: &str) -> Vec<Input> {
    [golden_of(target), kept(target)].concat()
}

/// The golden messages that a target may begin with.
pub fn golden_of(target: &str) -> Vec<Input> {
    let files: &[&str] = match target {
        "answers" => &["answers", "msgpack_answers"],
        "jobs" => &["jobs", "msgpack_jobs"],
        "sse" => &["events"],
        _ => &[],
    };
    files.iter().flat_map(|file| golden(file)).collect()
}

/// What lies in the folders of a target.
pub fn kept(target: &str) -> Vec<Input> {
    let folders = ["corpus", "regressions"].map(|folder| root().join(folder).join(target));
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| entries(folder)).collect();
    files.sort();
    let read = |path: PathBuf| fs::read(&path).ok().map(|bytes| (path.display().to_string(), bytes));
    files.into_iter().filter_map(read).collect()
}

/// Names of the folders in a folder of this package.
pub fn folders(name: &str) -> Vec<String> {
    let dirs = entries(&root().join(name)).into_iter().filter(|path| path.is_dir());
    dirs.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The messages of a file of golden vectors.
fn golden(file: &str) -> Vec<Input> {
    let path = root().join("../../worker-sdk/vectors").join(format!("{file}.json"));
    let text = fs::read(&path).unwrap_or_default();
    let root: Value = serde_json::from_slice(&text).unwrap_or_default();
    let vectors = root["vectors"].as_array().cloned().unwrap_or_default();
    vectors.iter().filter_map(|vector| Some((format!("{file}-{}", vector["name"].as_str()?), bytes(vector)?))).collect()
}

fn bytes(vector: &Value) -> Option<Vec<u8>> {
    if let Some(digits) = vector["hex"].as_str() {
        let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        return (0..digits.len()).step_by(2).map(byte).collect();
    }
    // Those in base64 are few and say nothing new to a fuzzer.
    vector["text"].as_str().map(|text| text.as_bytes().to_vec())
}
