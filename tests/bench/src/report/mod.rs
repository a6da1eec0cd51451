//! What is made of samples: tables on the terminal and in Markdown, JSON, charts. It must not measure.

mod aims;
mod chart;
mod curve;
mod figures;
mod markdown;

use std::fs;
use std::path::Path;

pub(crate) use self::figures::text;
use serde_json::{Value, json};

use crate::machine;
use crate::plan::{Size, Table};
use crate::run::Results;

/// A table with its results.
pub(crate) type Done = (Table, Results);

/// Writes `report.md`, `report.json` and the charts into `folder`, and returns the text of the report.
pub(crate) fn write(folder: &Path, size: Size, command: &str, done: &[Done]) -> std::io::Result<String> {
    fs::create_dir_all(folder)?;
    let mut text = format!("`{command}` on {}, {} rounds.\n\n", machine::describe(), size.rounds());
    text += &aims::table(done);
    for (table, results) in done {
        text += &markdown::table(table, results, size);
        for (name, svg) in chart::all(table, results).into_iter().chain(curve::all(table, results)) {
            fs::write(folder.join(&name), svg)?;
            text += &format!("![{name}]({name})\n\n");
        }
    }
    fs::write(folder.join("report.md"), &text)?;
    let tables: Vec<_> = done.iter().map(|(table, results)| as_json(table, results)).collect();
    let all = json!({ "command": command, "machine": machine::describe(), "rounds": size.rounds(), "tables": tables });
    fs::write(folder.join("report.json"), format!("{all:#}\n"))?;
    Ok(text)
}

fn as_json(table: &Table, results: &Results) -> Value {
    let pair = |((contender, case), rest): (&(String, String), Value)| json!({ "contender": contender, "case": case, "values": rest });
    json!({
        "name": table.name,
        "samples": results.samples.iter().map(|(key, samples)| pair((key, json!(samples)))).collect::<Vec<_>>(),
        "failures": results.failures.iter().map(|(key, errors)| pair((key, json!(errors)))).collect::<Vec<_>>(),
        "missing": results.missing,
        "tuning": results.tuning,
    })
}
