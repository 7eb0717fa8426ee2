//! `ottla group reset`: where a group shall stand, shown first and done on `--execute`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use ottla_client::{
    ClientError, Cluster, EARLIEST, ErrorCode, Group, GroupKind, LATEST, Positions, TopicPartition,
};
use serde_json::json;

use super::{has_members, positions};
use crate::exit::{Code, Failure};
use crate::kafka::{self, failure, output, text};
use crate::{table, time};

pub(super) fn command(group: Arg) -> Command {
    Command::new("reset")
        .about("Puts a group without members elsewhere; shows what it would do unless --execute")
        .arg(group)
        .arg(
            Arg::new("topic")
                .long("topic")
                .short('t')
                .action(ArgAction::Append)
                .value_name("TOPIC[:P,P…]")
                .help("only this topic, or these partitions of it; can be repeated"),
        )
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("earliest|latest|OFFSET")
                .help("the first record, the end, or this offset"),
        )
        .arg(
            Arg::new("to-time").long("to-time").value_name("TIME").help(
                "the first record at or after 2026-11-23T10:00:00Z (or milliseconds since 1970)",
            ),
        )
        .arg(
            Arg::new("ago")
                .long("ago")
                .value_name("DURATION")
                .help("the first record at most this old, as 90s, 30m, 12h or 7d"),
        )
        .arg(
            Arg::new("shift")
                .long("shift")
                .value_name("N")
                .allow_negative_numbers(true)
                .value_parser(clap::value_parser!(i64))
                .help("this many records forwards, or backwards if negative"),
        )
        .group(ArgGroup::new("where").args(["to", "to-time", "ago", "shift"]).required(true))
        .arg(
            Arg::new("execute")
                .long("execute")
                .action(ArgAction::SetTrue)
                .help("do it; without, nothing is changed"),
        )
}

/// Where the group shall stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// At this time: [`EARLIEST`], [`LATEST`] or milliseconds since 1970.
    Time(i64),
    /// At this offset.
    Offset(i64),
    /// So many records from where it stands.
    Shift(i64),
}

/// One partition before and after.
#[derive(Debug, PartialEq, Eq)]
struct Move {
    at: TopicPartition,
    from: Option<i64>,
    to: i64,
    end: i64,
    /// The target lay outside of what the partition holds.
    clamped: bool,
}

pub(super) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let target = target(arguments)?;
    let mut cluster = kafka::connect(arguments)?;
    let id = text(arguments, "group");
    let group = cluster.group(&id).map_err(failure)?;
    let now = match &group {
        Some(group) => standing(&mut cluster, group)?,
        None => Positions::new(),
    };
    let asked = arguments.get_many::<String>("topic").into_iter().flatten();
    let places = chosen(&mut cluster, &id, asked, &now)?;
    let moves = plan(&mut cluster, &places, &now, target)?;
    let execute = arguments.get_flag("execute");
    if execute {
        let offsets = moves.iter().map(|planned| (planned.at.clone(), planned.to)).collect();
        let done = match &group {
            Some(Group { kind: GroupKind::Share, .. }) => cluster.start_share(&id, &offsets),
            _ => cluster.commit(&id, &offsets),
        };
        done.map_err(|error| not_moved(&id, error))?;
    }
    show(arguments, &id, group.is_none(), &moves, execute)
}

fn target(arguments: &ArgMatches) -> Result<Target, Failure> {
    let wrong = |what: String| Failure::new(Code::Usage, what);
    if let Some(shift) = arguments.get_one::<i64>("shift") {
        return Ok(Target::Shift(*shift));
    }
    if let Some(given) = arguments.get_one::<String>("to-time") {
        let parsed = time::parse(given)
            .ok_or_else(|| wrong(format!("--to-time {given}: not a time as 2026-11-23T10:00:00Z")));
        return parsed.map(Target::Time);
    }
    if let Some(given) = arguments.get_one::<String>("ago") {
        let duration = time::duration(given)
            .ok_or_else(|| wrong(format!("--ago {given}: not a duration as 90s, 30m, 12h, 7d")))?;
        return Ok(Target::Time((time::now_ms() - duration).max(0)));
    }
    match text(arguments, "to").as_str() {
        "earliest" => Ok(Target::Time(EARLIEST)),
        "latest" => Ok(Target::Time(LATEST)),
        given => match given.parse() {
            Ok(offset @ 0..) => Ok(Target::Offset(offset)),
            _ => Err(wrong(format!("--to {given}: not earliest, latest or an offset"))),
        },
    }
}

/// Where an existing group stands; it must have no members.
fn standing(cluster: &mut Cluster, group: &Group) -> Result<Positions, Failure> {
    let details = cluster.describe_group(group).map_err(failure)?;
    if !details.members.is_empty() {
        return Err(has_members(&group.id));
    }
    positions(cluster, group)
}

/// The partitions that are to be reset: those asked for, or all in which the group stands.
fn chosen<'a>(
    cluster: &mut Cluster,
    id: &str,
    asked: impl Iterator<Item = &'a String>,
    now: &Positions,
) -> Result<Vec<TopicPartition>, Failure> {
    let mut places = BTreeSet::new();
    let mut named = false;
    for given in asked {
        named = true;
        let (topic, only) = partitions(given)?;
        let known = cluster.topic(&topic, false).map_err(failure)?;
        let known: BTreeSet<i32> = known.partitions.iter().map(|leader| leader.partition).collect();
        if let Some(missing) = only.iter().find(|partition| !known.contains(*partition)) {
            let what = format!("topic {topic} has no partition {missing}");
            return Err(Failure::new(Code::Usage, what)
                .remedy(format!("`ottla topic describe {topic}` shows its partitions")));
        }
        let wanted = if only.is_empty() { known } else { only };
        let place = |partition| TopicPartition { topic: topic.clone(), partition };
        places.extend(wanted.into_iter().map(place));
    }
    if !named {
        places.extend(now.keys().cloned());
    }
    if places.is_empty() {
        let what = format!("group {id} stands nowhere yet");
        return Err(Failure::new(Code::Usage, what)
            .remedy("name the topics it shall begin in with --topic TOPIC[:PARTITION,…]"));
    }
    Ok(places.into_iter().collect())
}

/// `TOPIC` or `TOPIC:P,P`; no partitions are all.
fn partitions(given: &str) -> Result<(String, BTreeSet<i32>), Failure> {
    let Some((topic, list)) = given.split_once(':') else {
        return Ok((given.to_owned(), BTreeSet::new()));
    };
    let numbers = list.split(',').map(|part| part.trim().parse().ok().filter(|p: &i32| *p >= 0));
    let numbers: Option<BTreeSet<i32>> = numbers.collect();
    let numbers = numbers.ok_or_else(|| {
        Failure::new(Code::Usage, format!("--topic {given}: not TOPIC or TOPIC:0,1,2"))
    })?;
    Ok((topic.to_owned(), numbers))
}

fn plan(
    cluster: &mut Cluster,
    places: &[TopicPartition],
    now: &Positions,
    target: Target,
) -> Result<Vec<Move>, Failure> {
    let starts = cluster.offsets_at(places, EARLIEST).map_err(failure)?;
    let ends = cluster.offsets_at(places, LATEST).map_err(failure)?;
    let times = match target {
        Target::Time(at) => cluster.offsets_at(places, at).map_err(failure)?,
        _ => BTreeMap::new(),
    };
    let mut moves = Vec::new();
    for at in places {
        let found = |all: &Positions| all.get(at).copied().unwrap_or(0);
        let (start, end) = (found(&starts), found(&ends));
        let from = now.get(at).copied();
        let wanted = match (target, from) {
            (Target::Time(_), _) => match found(&times) {
                -1 => end, // nothing is that young
                offset => offset,
            },
            (Target::Offset(offset), _) => offset,
            (Target::Shift(by), Some(from)) => from.saturating_add(by),
            (Target::Shift(_), None) => {
                let what = format!("the group does not stand in {at}: nothing to shift");
                return Err(Failure::new(Code::Usage, what)
                    .remedy("use --to earliest, latest or an offset for it"));
            }
        };
        let to = wanted.clamp(start, end.max(start));
        moves.push(Move { at: at.clone(), from, to, end, clamped: to != wanted });
    }
    Ok(moves)
}

/// The group got members in the meantime, or the broker refuses for another reason.
fn not_moved(id: &str, error: ClientError) -> Failure {
    match error {
        ClientError::Refused {
            code: ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::NON_EMPTY_GROUP,
            ..
        } => has_members(id),
        other => failure(other),
    }
}

fn show(
    arguments: &ArgMatches,
    id: &str,
    is_new: bool,
    moves: &[Move],
    executed: bool,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let moves = moves.iter().map(|planned| {
            json!({
                "topic": planned.at.topic,
                "partition": planned.at.partition,
                "from": planned.from,
                "to": planned.to,
                "end": planned.end,
                "clamped": planned.clamped,
            })
        });
        let moves: Vec<_> = moves.collect();
        let shown = json!({"group": id, "executed": executed, "partitions": moves});
        return writeln!(out, "{shown}").map_err(output);
    }
    let row = |planned: &Move| {
        let from = planned.from.map_or("-".to_owned(), |from| from.to_string());
        let note = if planned.clamped { "to what the partition holds" } else { "" };
        let lag = (planned.end - planned.to).to_string();
        let (topic, partition) = (planned.at.topic.clone(), planned.at.partition.to_string());
        vec![topic, partition, from, planned.to.to_string(), lag, note.to_owned()]
    };
    let rows: Vec<_> = moves.iter().map(row).collect();
    let header = ["TOPIC", "PARTITION", "FROM", "TO", "LAG", "LIMITED"];
    table::write(&mut out, &header, &rows).map_err(output)?;
    let verdict = match (executed, is_new) {
        (true, _) => format!("group {id} stands there now"),
        (false, true) => {
            format!("nothing was changed, and there is no group {id} yet: add --execute to make it")
        }
        (false, false) => "nothing was changed: add --execute to do it".to_owned(),
    };
    writeln!(out, "\n{verdict}").map_err(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_name_its_partitions() {
        assert_eq!(partitions("orders").unwrap(), ("orders".to_owned(), BTreeSet::new()));
        let (topic, only) = partitions("orders:2,0").unwrap();
        assert_eq!((topic.as_str(), only), ("orders", BTreeSet::from([0, 2])));
        for wrong in ["orders:", "orders:a", "orders:-1", "orders:1,"] {
            assert!(partitions(wrong).is_err(), "{wrong}");
        }
    }
}
