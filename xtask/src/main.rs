//! Automation of this repository: `cargo xtask tidy|compat|codegen|proof`.

use std::io::Write as _;
use std::process::ExitCode;

mod codegen;
mod compat;
mod proof;
mod root;
mod tidy;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match command.as_str() {
        "tidy" if rest.is_empty() => report_tidy(),
        "compat" => compat::run(&rest),
        "proof" => proof::run(&rest),
        "codegen" if rest.is_empty() => report_codegen(),
        _ => usage(),
    }
}

fn report_codegen() -> ExitCode {
    match codegen::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("codegen: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    say("usage: cargo xtask tidy                    checks the rules of docs/style.md section 3");
    say("       cargo xtask compat [--only NAME]…   runs foreign programs and real brokers");
    say("       cargo xtask codegen                 writes the Kafka messages from their tables");
    say(
        "       cargo xtask proof [--minutes N]     proves for longer, writes docs/proof/<date>.md",
    );
    ExitCode::from(64)
}

fn report_tidy() -> ExitCode {
    let findings = tidy::check(&root::folder());
    for finding in &findings {
        say(&finding.to_string());
    }
    if findings.is_empty() {
        say("tidy: ok");
        return ExitCode::SUCCESS;
    }
    say(&format!("tidy: {} findings", findings.len()));
    ExitCode::FAILURE
}

/// Prints a line; a reader that has gone away is no error of ours.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
