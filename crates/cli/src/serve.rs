//! `ottla serve`: the broker until it is told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ottla_server::config::{Config, SETTINGS};
use ottla_server::{ServeError, Server, Startup};

use crate::exit::{Code, Failure};

pub(crate) fn command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        Arg::new(setting.key).long(setting.key).value_name("VALUE").help(setting.about)
    });
    Command::new("serve")
        .about("Serves Kafka and RabbitMQ clients over one durable log")
        .args(settings)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("settings as TOML [default: ottla.toml, if it exists]"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("check settings, ports and data directory, and exit"),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut config = configure(arguments)?;
    let check = arguments.get_flag("check");
    if check {
        config.ready_file = None; // nobody may take a check for a broker
    }
    start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Io, error))?;
    runtime.block_on(async {
        let server = Server::start(config.clone()).await.map_err(explain)?;
        if check {
            eprintln!("ottla: settings, ports and data directory are in order");
            return server.stop().await.map_err(explain);
        }
        banner(server.startup());
        server.run_until(stop_signal()).await.map_err(explain)
    })
}

fn configure(arguments: &ArgMatches) -> Result<Config, Failure> {
    let mut config = Config::default();
    let refused = |error: ottla_server::config::ConfigError| Failure::new(Code::Config, error);
    match arguments.get_one::<String>("config") {
        Some(path) => config.read_file(&PathBuf::from(path)).map_err(refused)?,
        None => {
            let path = PathBuf::from("ottla.toml");
            if path.exists() {
                config.read_file(&path).map_err(refused)?;
            }
        }
    }
    config.read_environment(std::env::vars()).map_err(refused)?;
    for setting in SETTINGS {
        if let Some(value) = arguments.get_one::<String>(setting.key) {
            config.set("command line", setting.key, value).map_err(refused)?;
        }
    }
    Ok(config)
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("OTTLA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// What a person needs to connect: the bound addresses, and one line per protocol to try.
fn banner(startup: &Startup) {
    eprintln!("ottla {} on {}", env!("CARGO_PKG_VERSION"), startup.data.display());
    for address in &startup.kafka {
        eprintln!("  Kafka     {address}");
    }
    for address in &startup.amqp {
        eprintln!("  RabbitMQ  {address}");
    }
    for address in &startup.http {
        eprintln!("  HTTP      http://{address}/api");
    }
    if let Some(address) = startup.kafka.first() {
        eprintln!("  try: kcat -b {address} -L");
    }
    if let Some(address) = startup.amqp.first() {
        eprintln!(
            "  try: python3 -c \"import pika; print(pika.BlockingConnection(pika.URLParameters('amqp://guest:guest@{address}/')))\""
        );
    }
}

/// The first of TERM and INT.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// What each failure to serve means for a person: cause, remedy, exit code.
fn explain(error: ServeError) -> Failure {
    let code = match &error {
        ServeError::AddressInUse { .. } | ServeError::Locked { .. } => Code::CantCreate,
        ServeError::Permission { .. } => Code::NoPermission,
        ServeError::NewerFormat { .. } | ServeError::Corrupt { .. } => Code::Data,
        ServeError::Address { .. } => Code::Config,
        _ => Code::Io,
    };
    let remedy = error.remedy();
    let failure = Failure::new(code, error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}
