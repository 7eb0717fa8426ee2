//! `ottla group`: list, describe, reset, delete; on any Kafka.

mod reset;

use std::collections::BTreeSet;
use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ottla_client::{
    ClientError, Cluster, ErrorCode, Group, GroupDetails, GroupKind, LATEST, Positions,
    TopicPartition,
};
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::kafka::{self, failure, output, text};
use crate::table;

pub(crate) fn command() -> Command {
    let group = || Arg::new("group").required(true).value_name("GROUP");
    Command::new("group")
        .about("Lists, describes, resets and deletes consumer groups of every kind")
        .subcommand_required(true)
        .arg(kafka::bootstrap().global(true))
        .arg(kafka::json().global(true))
        .subcommand(Command::new("list").about("Lists groups"))
        .subcommand(
            Command::new("describe")
                .about("Shows a group's members, what they read and how far they are behind")
                .arg(group()),
        )
        .subcommand(reset::command(group()))
        .subcommand(
            Command::new("delete")
                .about("Deletes groups without members, their offsets included")
                .arg(group().action(ArgAction::Append)),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list(arguments),
        Some(("describe", arguments)) => describe(arguments),
        Some(("reset", arguments)) => reset::run(arguments),
        Some(("delete", arguments)) => delete(arguments),
        _ => Ok(()), // clap has refused everything else
    }
}

fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let groups = kafka::connect(arguments)?.groups().map_err(failure)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let shown: Vec<Value> = groups.iter().map(summary).collect();
        return writeln!(out, "{}", json!(shown)).map_err(output);
    }
    let row = |group: &Group| {
        let kind = group.kind.to_string();
        vec![group.id.clone(), kind, group.state.clone(), group.protocol.clone()]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    table::write(&mut out, &["GROUP", "KIND", "STATE", "PROTOCOL"], &rows).map_err(output)
}

fn summary(group: &Group) -> Value {
    json!({
        "group": group.id,
        "kind": group.kind.to_string(),
        "state": group.state,
        "protocol": group.protocol,
    })
}

/// One partition of a group.
struct Place {
    at: TopicPartition,
    /// The next offset the group reads; a share group's start offset.
    committed: Option<i64>,
    /// `None` if the topic is gone.
    end: Option<i64>,
    /// Who reads it: one member at most, but in share groups.
    members: Vec<String>,
}

impl Place {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

fn describe(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut cluster = kafka::connect(arguments)?;
    let group = existing(&mut cluster, &text(arguments, "group"))?;
    let details = cluster.describe_group(&group).map_err(failure)?;
    let places = places(&mut cluster, &group, &details)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let shown = described(&group, &details, &places);
        return writeln!(out, "{shown}").map_err(output);
    }
    let count = details.members.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut head = format!("{}: {} group, {}", group.id, group.kind, details.state);
    head.push_str(&format!(", {count} member{plural}"));
    if !details.assignor.is_empty() {
        head.push_str(&format!(", assignor {}", details.assignor));
    }
    if let Some(epoch) = details.epoch {
        head.push_str(&format!(", epoch {epoch}"));
    }
    writeln!(out, "{head}\n").map_err(output)?;
    let position = if group.kind == GroupKind::Share { "START" } else { "COMMITTED" };
    let row = |place: &Place| {
        let number = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        let (topic, partition) = (place.at.topic.clone(), place.at.partition.to_string());
        let (committed, end) = (number(place.committed), number(place.end));
        let members = place.members.join(",");
        vec![topic, partition, committed, end, number(place.lag()), members]
    };
    let rows: Vec<_> = places.iter().map(row).collect();
    let header = ["TOPIC", "PARTITION", position, "END", "LAG", "MEMBER"];
    table::write(&mut out, &header, &rows).map_err(output)?;
    if details.members.is_empty() {
        return Ok(());
    }
    writeln!(out).map_err(output)?;
    let row = |member: &ottla_client::Member| {
        let instance = member.instance.clone().unwrap_or_default();
        let reads = member.assignment.len().to_string();
        vec![member.id.clone(), member.client.clone(), member.host.clone(), reads, instance]
    };
    let rows: Vec<_> = details.members.iter().map(row).collect();
    let header = ["MEMBER", "CLIENT", "HOST", "PARTITIONS", "INSTANCE"];
    table::write(&mut out, &header, &rows).map_err(output)
}

fn described(group: &Group, details: &GroupDetails, places: &[Place]) -> Value {
    let places = places.iter().map(|place| {
        json!({
            "topic": place.at.topic,
            "partition": place.at.partition,
            "committed": place.committed,
            "end": place.end,
            "lag": place.lag(),
            "members": place.members,
        })
    });
    let members = details.members.iter().map(|member| {
        let assignment = member
            .assignment
            .iter()
            .map(|place| json!({"topic": place.topic, "partition": place.partition}));
        json!({
            "member": member.id,
            "instance": member.instance,
            "client": member.client,
            "host": member.host,
            "assignment": assignment.collect::<Vec<_>>(),
        })
    });
    json!({
        "group": group.id,
        "kind": group.kind.to_string(),
        "state": details.state,
        "protocol": group.protocol,
        "assignor": details.assignor,
        "epoch": details.epoch,
        "partitions": places.collect::<Vec<_>>(),
        "members": members.collect::<Vec<_>>(),
    })
}

/// Every partition in which the group stands or that a member reads.
fn places(
    cluster: &mut Cluster,
    group: &Group,
    details: &GroupDetails,
) -> Result<Vec<Place>, Failure> {
    let positions = positions(cluster, group)?;
    let read = details.members.iter().flat_map(|member| member.assignment.iter().cloned());
    let every: BTreeSet<TopicPartition> = positions.keys().cloned().chain(read).collect();
    let every: Vec<TopicPartition> = every.into_iter().collect();
    let ends = present(cluster, &every, LATEST)?;
    let place = |at: TopicPartition| {
        let readers = details.members.iter().filter(|member| member.assignment.contains(&at));
        let members = readers.map(|member| member.id.clone()).collect();
        Place { committed: positions.get(&at).copied(), end: ends.get(&at).copied(), members, at }
    };
    Ok(every.into_iter().map(place).collect())
}

/// Where a group of any kind stands.
fn positions(cluster: &mut Cluster, group: &Group) -> Result<Positions, Failure> {
    match group.kind {
        GroupKind::Share => cluster.share_starts(&group.id),
        _ => cluster.committed(&group.id),
    }
    .map_err(failure)
}

/// Offsets at a time, without those of topics and partitions that are gone.
fn present(
    cluster: &mut Cluster,
    places: &[TopicPartition],
    at: i64,
) -> Result<Positions, Failure> {
    let topics = cluster.topics().map_err(failure)?;
    let exists = |place: &&TopicPartition| {
        let topic = topics.iter().find(|topic| topic.name == place.topic);
        topic.is_some_and(|t| t.partitions.iter().any(|p| p.partition == place.partition))
    };
    let places: Vec<TopicPartition> = places.iter().filter(exists).cloned().collect();
    cluster.offsets_at(&places, at).map_err(failure)
}

/// The group, or what to do when there is none of that name.
fn existing(cluster: &mut Cluster, id: &str) -> Result<Group, Failure> {
    cluster.group(id).map_err(failure)?.ok_or_else(|| {
        Failure::new(Code::Data, format!("there is no group {id}"))
            .remedy("`ottla group list` shows those there are")
    })
}

fn delete(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut cluster = kafka::connect(arguments)?;
    let mut deleted = Vec::new();
    for id in arguments.get_many::<String>("group").into_iter().flatten() {
        cluster.delete_group(id).map_err(|error| not_deleted(id, error))?;
        if !arguments.get_flag("json") {
            writeln!(std::io::stdout(), "deleted group {id}").map_err(output)?;
        }
        deleted.push(id);
    }
    if arguments.get_flag("json") {
        let shown = json!({"deleted": deleted});
        return writeln!(std::io::stdout(), "{shown}").map_err(output);
    }
    Ok(())
}

fn not_deleted(id: &str, error: ClientError) -> Failure {
    match error {
        ClientError::Refused { code: ErrorCode::NON_EMPTY_GROUP, .. } => has_members(id),
        ClientError::Refused { code: ErrorCode::GROUP_ID_NOT_FOUND, .. } => {
            Failure::new(Code::Data, format!("there is no group {id}"))
                .remedy("`ottla group list` shows those there are")
        }
        other => failure(other),
    }
}

fn has_members(id: &str) -> Failure {
    Failure::new(Code::Data, format!("group {id} has members")).remedy(format!(
        "stop them first; `ottla group describe {id}` shows who and where they are"
    ))
}
