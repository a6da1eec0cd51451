//! The bounded load test: idle streams, concurrent requests, memory over many requests and reconnects.
//!
//! Everything runs on this machine, the load itself included, so compare its figures with its own of another day and
//! not with other machines. It prints a table, then one line of JSON. What is measured is the front; the clients here
//! are as cheap as they can be and share no code with it. Usage: `load [full]`.

mod memory;
mod report;
mod requests;
mod stage;
mod streams;

use std::process::ExitCode;

use report::Report;
use stage::Stage;

/// Descriptors that this program and the front may have; also the bound of what is tried.
const MOST_FILES: u64 = 20_000;

fn main() -> ExitCode {
    let full = std::env::args().nth(1).is_some_and(|word| word == "full");
    stage::raise_file_limit(MOST_FILES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let mut report = Report::default();
    runtime.block_on(async {
        let stage = Stage::start("idle streams");
        streams::measure(&stage, &mut report).await;
        stage.end();
        for language in ["rust", "python"] {
            let mut stage = Stage::start(&format!("concurrent requests, {language} worker"));
            requests::measure(language, &mut stage, &mut report).await;
            stage.end();
        }
        let mut stage = Stage::start("memory");
        memory::measure(full, &mut stage, &mut report).await;
        stage.end();
    });
    report.print();
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
