//! Binary.
use std::process::ExitCode;
fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "guard") {
        return tempest::supervisor::guard::run(args);
    }
    ExitCode::from(2)
}
