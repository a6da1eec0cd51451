//! Pages that clients get instead of the front's own short texts. Which, and where they lie; `http::pages` reads them.

use std::path::{Path, PathBuf};

use super::section::Section;
use super::value::path;

/// A page for some failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// For which.
    pub of: PageOf,
    /// The file, absolute.
    pub file: PathBuf,
}

/// Which failures a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOf {
    /// This status.
    Status(u16),
    /// All that begin with this digit and have no page of their own.
    Class(u16),
}

/// Reads `[errors]`.
pub(super) fn read(section: Section<'_>, base: &Path) -> Vec<ErrorPage> {
    let (source, at) = (section.source, section.at);
    let page = |(name, file): (String, PathBuf)| match page_of(&name) {
        Some(of) => Some(ErrorPage { of, file: base.join(file) }),
        None => {
            source.problem(at, &format!("errors.{name}"), "expected a status from 400 to 599, or 4xx or 5xx");
            None
        }
    };
    section.pairs(path).into_iter().filter_map(page).collect()
}

fn page_of(name: &str) -> Option<PageOf> {
    match name {
        "4xx" => Some(PageOf::Class(4)),
        "5xx" => Some(PageOf::Class(5)),
        name => name.parse().ok().filter(|status| (400..=599).contains(status)).map(PageOf::Status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn pages_are_for_statuses_and_classes() {
        let config =
            Config::from_toml("[errors]\n404 = \"a.html\"\n5xx = \"/b.html\"", Path::new("/base")).expect("good");
        let page = |of, file: &str| ErrorPage { of, file: file.into() };
        assert_eq!(config.errors, [page(PageOf::Status(404), "/base/a.html"), page(PageOf::Class(5), "/b.html")]);
        let bad = "[errors]\n200 = \"a\"\n3xx = \"b\"\n404 = 1";
        assert_eq!(Config::from_toml(bad, Path::new("/")).expect_err("no failures").0.len(), 3);
    }
}
