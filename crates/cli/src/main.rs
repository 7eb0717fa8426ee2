//! The command `ottla`: one file for each command.

mod exit;
mod serve;

use std::process::ExitCode;

use clap::Command;

fn main() -> ExitCode {
    let matches = Command::new("ottla")
        .about("An event broker that Kafka clients and RabbitMQ clients connect to unchanged")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .get_matches();
    let outcome = match matches.subcommand() {
        Some(("serve", arguments)) => serve::run(arguments),
        _ => Ok(()), // clap has refused everything else
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
