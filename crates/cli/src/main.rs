//! The command `ottla`: one file for each command.

mod admin;
mod broker;
mod consume;
mod database;
mod dead_letters;
mod demo;
mod events;
mod exit;
mod group;
mod inspect;
mod kafka;
mod produce;
mod relay;
mod saga;
mod serve;
mod table;
mod time;
mod topic;
mod tour;
mod txn;
mod verify;

use std::process::ExitCode;

use clap::Command;

fn main() -> ExitCode {
    let matches = Command::new("ottla")
        .about("An event broker that Kafka clients and RabbitMQ clients connect to unchanged")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand(serve::command())
        .subcommand(tour::command())
        .subcommand(demo::command())
        .subcommand(topic::command())
        .subcommand(produce::command())
        .subcommand(consume::command())
        .subcommand(group::command())
        .subcommand(txn::command())
        .subcommand(relay::command())
        .subcommand(events::command())
        .subcommand(saga::command())
        .subcommand(dead_letters::command())
        .subcommands(admin::commands())
        .subcommand(inspect::command())
        .subcommand(verify::command())
        .get_matches();
    let outcome = match matches.subcommand() {
        Some(("serve", arguments)) => serve::run(arguments),
        Some(("topic", arguments)) => topic::run(arguments),
        Some(("produce", arguments)) => produce::run(arguments),
        Some(("consume", arguments)) => consume::run(arguments),
        Some(("group", arguments)) => group::run(arguments),
        Some(("txn", arguments)) => txn::run(arguments),
        Some(("demo", arguments)) => demo::run(arguments),
        Some(("relay", arguments)) => relay::run(arguments),
        Some(("events", arguments)) => events::run(arguments),
        Some(("saga", arguments)) => saga::run(arguments),
        Some(("dead-letters", arguments)) => dead_letters::run(arguments),
        Some(("inspect", arguments)) => inspect::run(arguments),
        Some(("verify", arguments)) => verify::run(arguments),
        Some((name, arguments)) => admin::run(name, arguments).unwrap_or_else(tour::run),
        None => tour::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
