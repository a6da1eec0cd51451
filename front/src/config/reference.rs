//! The reference: a configuration that has every setting with its default, and a comment for each.
//!
//! It is a part of the program, so that it is that of this version, and tests hold it to what the readers ask for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use super::load;

/// The text of `front/reference.toml`.
pub const REFERENCE: &str = include_str!("../../reference.toml");

/// How the reference writes the default of a setting; None: it is one that is absent by default.
pub(super) fn default_of(key: &str) -> Option<&'static str> {
    static DEFAULTS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
        let parsed = load::parse_text("reference.toml", REFERENCE, Path::new("."))
            .expect("the reference is a good configuration; tests hold it");
        let written = parsed.held.iter().filter(|held| held.origin != super::Origin::Default);
        written.map(|held| (held.key().to_owned(), held.written().to_owned())).collect()
    });
    DEFAULTS.get(key).map(String::as_str)
}
