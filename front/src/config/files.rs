//! Routes to static folders: which folder, and how its files are sent.
//!
//! What may be seen of a folder, and what never is, is decided where it is read (`http::files`).

use std::path::{Path, PathBuf};

use http::HeaderValue;

use super::path::{PathPattern, Segment};
use super::section::Section;
use super::value::{Read, Value, boolean, list, path, string};

/// What holds for the requests of a route to a folder.
#[derive(Clone, Debug)]
pub struct FilesRoute {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// Names that a folder is shown by; the first that is there.
    pub index: Vec<String>,
    /// The `Cache-Control` of its files.
    pub cache: HeaderValue,
    /// The file that stands in for paths of pages that are not there.
    pub fallback: Option<String>,
    /// A file with `.br`, `.zst` or `.gz` behind its name is sent instead of it to those who take that coding.
    pub precompressed: bool,
    /// Only an answer that names the file reaches it.
    pub internal: bool,
}

impl FilesRoute {
    /// A folder with nothing else said.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            index: vec!["index.html".to_owned()],
            // Kept, but asked about each time: a page that was changed is seen at once.
            cache: HeaderValue::from_static("no-cache"),
            fallback: None,
            precompressed: false,
            internal: false,
        }
    }
}

/// Reads what belongs to a route to a folder.
pub(super) fn read(section: &mut Section<'_>, base: &Path, pattern: Option<&PathPattern>) -> Option<FilesRoute> {
    let ends_well =
        |path: &PathPattern| matches!(path.segments.last(), Some(Segment::Rest(_))) || path.text.ends_with('/');
    if pattern.is_some_and(|path| !ends_well(path)) {
        section
            .problem("path", "expected an end like {file...}, which names the file, or / for the folder's index.html");
    }
    let dir = section.require("dir", path);
    let usual = FilesRoute::new(base.join(dir.as_deref().unwrap_or(base)));
    let route = FilesRoute {
        index: section.get("index", list(file_name), usual.index),
        cache: section.get("cache", header_value, usual.cache),
        fallback: section.optional("fallback", below),
        precompressed: section.get("precompressed", boolean, false),
        internal: section.get("internal", boolean, false),
        dir: usual.dir,
    };
    if route.internal && (section.has("methods") || section.has("host")) {
        section.problem("internal", "expected neither methods nor host beside it: no request of a client gets here");
    }
    dir.map(|_| route)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

fn file_name(value: &Value<'_>) -> Read<String> {
    let name = string(value)?;
    if is_name(&name) { Ok(name) } else { Err(value.wrong("the name of a file, like index.html")) }
}

/// A file below the folder, by names that could be served.
fn below(value: &Value<'_>) -> Read<String> {
    let path = string(value)?;
    if path.split('/').all(is_name) { Ok(path) } else { Err(value.wrong("a file below dir, like index.html")) }
}

/// The value of a header.
pub(super) fn header_value(value: &Value<'_>) -> Read<HeaderValue> {
    let text = string(value)?;
    let printable = !text.is_empty() && text.trim() == text && text.is_ascii();
    let read = if printable { HeaderValue::from_str(&text).ok() } else { None };
    read.ok_or_else(|| value.wrong("the value of a header: visible ASCII characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_be_served_stands_in() {
        let read = |text| below(&Value::text(text)).ok();
        assert_eq!(read("app/index.html").as_deref(), Some("app/index.html"));
        for bad in ["", "/index.html", "../x", "a/../b", ".hidden", "a//b", "a\\b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(file_name(&Value::text("a/b")).is_err());
    }

    #[test]
    fn values_of_headers_are_printable() {
        let read = |text| header_value(&Value::text(text)).is_ok();
        assert!(read("public, max-age=60"));
        assert!(!read("") && !read("a\nb") && !read(" a") && !read("ä"));
    }
}
