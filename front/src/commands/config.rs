//! `tempest config`: every setting as it holds, and who said so.
//!
//! Secrets are shown as `***`, as everywhere.

use super::table::Table;
use crate::config::{Held, Loaded};

/// A line a setting: where it stands, what it is, where that comes from. The routes that hold without any are named.
pub fn settings(loaded: &Loaded) -> String {
    let mut table = Table::new(&["setting", "value", "from"]);
    for held in &loaded.held {
        table.row([held.setting().to_owned(), held.shown().to_owned(), held.origin.to_string()]);
    }
    if !loaded.held.iter().any(|held| held.key().starts_with("route.")) {
        let routes: Vec<&str> = loaded.config.routes.iter().map(|route| route.path.text.as_str()).collect();
        table.row(["route".to_owned(), routes.join(" "), "default".to_owned()]);
    }
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no file".to_owned(),
    };
    let secrets = loaded.held.iter().filter(|held| held.is_secret()).map(Held::setting);
    let secrets = secrets.collect::<Vec<_>>().join(", ");
    let hidden = if secrets.is_empty() { String::new() } else { format!("\n\nnot shown: secrets of {secrets}") };
    format!("{file}\n\n{}{hidden}", table.text().trim_end())
}
