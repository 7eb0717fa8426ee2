//! `ottla topic`: list, create, describe, alter, delete; on any Kafka.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ottla_client::messages::create_partitions::CreatePartitionsTopic;
use ottla_client::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use ottla_client::messages::delete_topics::DeleteTopicState;
use ottla_client::messages::describe_configs::DescribeConfigsResource;
use ottla_client::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use ottla_client::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use ottla_client::{ClientError, Cluster, Response};
use serde_json::json;

use crate::exit::{Code, Failure};
use crate::kafka::{self, failure, output, text, unexpected};
use crate::table;

pub(crate) fn command() -> Command {
    let name = || Arg::new("name").required(true).value_name("TOPIC");
    let set = || {
        Arg::new("config")
            .long("config")
            .short('c')
            .action(ArgAction::Append)
            .value_name("NAME=VALUE")
            .help("a setting; can be repeated")
    };
    let partitions = || {
        Arg::new("partitions")
            .long("partitions")
            .short('p')
            .value_name("N")
            .value_parser(clap::value_parser!(i32).range(1..))
    };
    Command::new("topic")
        .about("Lists, creates, describes, alters and deletes topics")
        .subcommand_required(true)
        .arg(kafka::bootstrap().global(true))
        .arg(kafka::json().global(true))
        .subcommand(Command::new("list").about("Lists topics"))
        .subcommand(
            Command::new("create")
                .about("Creates a topic")
                .arg(name())
                .arg(partitions().help("how many partitions; the broker's default without"))
                .arg(
                    Arg::new("replication-factor")
                        .long("replication-factor")
                        .value_name("N")
                        .value_parser(clap::value_parser!(i16).range(1..)),
                )
                .arg(set()),
        )
        .subcommand(Command::new("describe").about("Shows a topic and its settings").arg(name()))
        .subcommand(
            Command::new("alter")
                .about("Changes settings or adds partitions")
                .arg(name())
                .arg(partitions().help("grow to this many partitions"))
                .arg(set())
                .arg(
                    Arg::new("reset")
                        .long("reset")
                        .action(ArgAction::Append)
                        .value_name("NAME")
                        .help("give a setting its default again; can be repeated"),
                ),
        )
        .subcommand(Command::new("delete").about("Deletes a topic and its records").arg(name()))
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list(arguments),
        Some(("create", arguments)) => create(arguments),
        Some(("describe", arguments)) => describe(arguments),
        Some(("alter", arguments)) => alter(arguments),
        Some(("delete", arguments)) => delete(arguments),
        _ => Ok(()), // clap has refused everything else
    }
}

fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let topics = kafka::connect(arguments)?.topics().map_err(failure)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let shown: Vec<_> = topics
            .iter()
            .map(|topic| json!({"name": topic.name, "partitions": topic.partitions.len()}))
            .collect();
        return writeln!(out, "{}", json!(shown)).map_err(output);
    }
    let row = |topic: &ottla_client::Topic| {
        let replicas = topic.partitions.iter().map(|leader| leader.replicas).max().unwrap_or(0);
        vec![topic.name.clone(), topic.partitions.len().to_string(), replicas.to_string()]
    };
    let rows: Vec<_> = topics.iter().map(row).collect();
    table::write(&mut out, &["TOPIC", "PARTITIONS", "REPLICAS"], &rows).map_err(output)
}

fn create(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let configs = settings(arguments)?
        .into_iter()
        .map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
    let topic = CreatableTopic {
        name: name.as_str().into(),
        num_partitions: arguments.get_one("partitions").copied().unwrap_or(-1),
        replication_factor: arguments.get_one("replication-factor").copied().unwrap_or(-1),
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let Response::CreateTopics(answer) = call(arguments, request)? else {
        return Err(unexpected());
    };
    for result in &answer.topics {
        let what = || format!("creating topic {name}");
        ClientError::check(what, result.error_code, result.error_message.as_deref())
            .map_err(failure)?;
    }
    let partitions = answer.topics.first().map_or(-1, |topic| topic.num_partitions);
    done(arguments, &format!("created topic {name} with {partitions} partitions"))
}

fn describe(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let mut cluster = kafka::connect(arguments)?;
    let topic = cluster.topic(&name, false).map_err(failure)?;
    let configs = configs(&mut cluster, &name)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|leader| json!({"partition": leader.partition, "leader": leader.node}))
            .collect();
        let set: serde_json::Map<_, _> = configs
            .into_iter()
            .map(|(name, value, explicit)| (name, json!({"value": value, "set": explicit})))
            .collect();
        let shown = json!({"name": topic.name, "partitions": partitions, "settings": set});
        return writeln!(out, "{shown}").map_err(output);
    }
    writeln!(out, "{}: {} partitions\n", topic.name, topic.partitions.len()).map_err(output)?;
    let row = |(name, value, explicit): &(String, String, bool)| {
        let source = if *explicit { "set on the topic" } else { "default" };
        vec![name.clone(), value.clone(), source.to_owned()]
    };
    let rows: Vec<_> = configs.iter().map(row).collect();
    table::write(&mut out, &["SETTING", "VALUE", "SOURCE"], &rows).map_err(output)
}

/// Name, value, and whether it was set on the topic.
fn configs(cluster: &mut Cluster, name: &str) -> Result<Vec<(String, String, bool)>, Failure> {
    let resource = DescribeConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: name.into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let Response::DescribeConfigs(answer) = cluster.call(request).map_err(failure)? else {
        return Err(unexpected());
    };
    let mut configs = Vec::new();
    for result in answer.results {
        let what = || format!("describing topic {name}");
        ClientError::check(what, result.error_code, result.error_message.as_deref())
            .map_err(failure)?;
        configs.extend(result.configs.into_iter().map(|config| {
            let value = config.value.map(|value| value.to_string()).unwrap_or_default();
            (config.name.to_string(), value, config.config_source == SOURCE_TOPIC)
        }));
    }
    configs.sort();
    Ok(configs)
}

fn alter(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let mut cluster = kafka::connect(arguments)?;
    if let Some(count) = arguments.get_one::<i32>("partitions") {
        grow(&mut cluster, &name, *count)?;
    }
    let set = settings(arguments)?.into_iter().map(|(name, value)| AlterableConfig {
        name: name.into(),
        config_operation: OPERATION_SET,
        value: Some(value.into()),
    });
    let reset = arguments.get_many::<String>("reset").into_iter().flatten().map(|name| {
        let config_operation = OPERATION_DELETE;
        AlterableConfig { name: name.as_str().into(), config_operation, value: None }
    });
    let configs: Vec<_> = set.chain(reset).collect();
    if !configs.is_empty() {
        let resource = AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: name.as_str().into(),
            configs,
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let Response::IncrementalAlterConfigs(answer) = cluster.call(request).map_err(failure)?
        else {
            return Err(unexpected());
        };
        for result in &answer.responses {
            let what = || format!("altering topic {name}");
            ClientError::check(what, result.error_code, result.error_message.as_deref())
                .map_err(failure)?;
        }
    }
    done(arguments, &format!("altered topic {name}"))
}

fn grow(cluster: &mut Cluster, name: &str, count: i32) -> Result<(), Failure> {
    let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
    let request = CreatePartitionsRequest {
        topics: vec![topic],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let Response::CreatePartitions(answer) = cluster.call(request).map_err(failure)? else {
        return Err(unexpected());
    };
    for result in &answer.results {
        let what = || format!("adding partitions to topic {name}");
        ClientError::check(what, result.error_code, result.error_message.as_deref())
            .map_err(failure)?;
    }
    Ok(())
}

fn delete(arguments: &ArgMatches) -> Result<(), Failure> {
    let name = text(arguments, "name");
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.as_str().into()), ..Default::default() }],
        topic_names: vec![name.as_str().into()],
        timeout_ms: TIMEOUT_MS,
    };
    let Response::DeleteTopics(answer) = call(arguments, request)? else {
        return Err(unexpected());
    };
    for result in &answer.responses {
        let what = || format!("deleting topic {name}");
        ClientError::check(what, result.error_code, result.error_message.as_deref())
            .map_err(failure)?;
    }
    done(arguments, &format!("deleted topic {name}"))
}

fn call(
    arguments: &ArgMatches,
    request: impl Into<ottla_client::Request>,
) -> Result<Response, Failure> {
    kafka::connect(arguments)?.call(request).map_err(failure)
}

fn done(arguments: &ArgMatches, what: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{}", json!({"done": what})).map_err(output);
    }
    writeln!(out, "{what}").map_err(output)
}

fn settings(arguments: &ArgMatches) -> Result<Vec<(String, String)>, Failure> {
    let given = arguments.get_many::<String>("config").into_iter().flatten();
    given
        .map(|setting| {
            let parts = setting
                .split_once('=')
                .ok_or_else(|| Failure::new(Code::Usage, format!("`{setting}` is not NAME=VALUE")));
            parts.map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

const RESOURCE_TOPIC: i8 = 2;
const SOURCE_TOPIC: i8 = 1;
const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
const TIMEOUT_MS: i32 = 30_000;
