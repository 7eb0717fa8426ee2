"""`ottla group`: the same commands on Ottla and on Apache Kafka."""
import subprocess
import time

import pytest
from rig.kafka import java

KINDS = {"classic": {}, "consumer": {"group.protocol": "consumer"}}


def until(ask, enough):
    """Asks again until the answer is enough; a minute at most."""
    deadline = time.time() + 60
    while not enough(answer := ask()):
        assert time.time() < deadline, answer
        time.sleep(0.3)
    return answer


def rest_of(told, group):
    """Where the group stands: {partition: (committed, lag)}."""
    return {place["partition"]: (place["committed"], place["lag"]) for place in told("group", "describe", group)["partitions"]}


@pytest.fixture
def left(member, topic, name):
    """A group that has committed offset 10 in both partitions, and has no members any more."""
    consumer = member(name, topic, records=20)
    consumer.commit(asynchronous=False)
    consumer.close()
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_shown_with_its_members_and_its_lag(member, topic, name, told, ottla, kind):
    first = member(name, topic, records=20, **{"client.id": "one", **KINDS[kind]})
    first.commit(asynchronous=False)
    listed = [group for group in told("group", "list") if group["group"] == name]
    assert listed == [{"group": name, "kind": kind, "state": "Stable", "protocol": "consumer"}]
    shown = told("group", "describe", name)
    assert shown["state"] == "Stable" and shown["kind"] == kind
    [one] = shown["members"]
    assert one["client"] == "one" and "127.0.0.1" in one["host"]
    assert one["assignment"] == [{"topic": topic, "partition": 0}, {"topic": topic, "partition": 1}]
    assert [(place["partition"], place["committed"], place["end"], place["lag"], place["members"]) for place in shown["partitions"]] \
        == [(0, 10, 10, 0, [one["member"]]), (1, 10, 10, 0, [one["member"]])]
    text = ottla("group", "describe", name).ok()
    assert f"{name}: {kind} group, Stable, 1 member" in text and "COMMITTED" in text and one["member"] in text
    assert name in ottla("group", "list").ok()


def test_offsets_are_moved_only_when_told_so(left, topic, told, ottla):
    assert rest_of(told, left) == {0: (10, 0), 1: (10, 0)}
    planned = told("group", "reset", left, "--to", "earliest")
    assert planned["executed"] is False
    assert [(place["partition"], place["from"], place["to"]) for place in planned["partitions"]] == [(0, 10, 0), (1, 10, 0)]
    assert "nothing was changed: add --execute" in ottla("group", "reset", left, "--to", "earliest").ok()
    assert rest_of(told, left) == {0: (10, 0), 1: (10, 0)}
    assert told("group", "reset", left, "--to", "earliest", "--execute")["executed"] is True
    assert rest_of(told, left) == {0: (0, 10), 1: (0, 10)}


def test_a_group_goes_to_an_offset_a_time_or_a_distance_in_each_partition(left, topic, told):
    def reset(*arguments):
        told("group", "reset", left, *arguments, "--execute")
        return [committed for committed, _ in rest_of(told, left).values()]
    assert reset("--to", "7", "--topic", f"{topic}:1") == [10, 7]
    assert reset("--shift", "-2") == [8, 5]
    assert reset("--shift", "1", "--topic", f"{topic}:0,1") == [9, 6]
    assert reset("--to-time", "1970-01-01T00:00:03.500Z") == [3, 3]
    assert reset("--to-time", "9000") == [8, 8]
    assert reset("--ago", "1h") == [10, 10]  # nothing is that young: the end
    assert reset("--to", "earliest", "--topic", topic) == [0, 0]
    assert reset("--to", "latest") == [10, 10]


def test_a_reset_stays_within_what_the_partition_holds(left, topic, told):
    planned = told("group", "reset", left, "--to", "99", "--topic", f"{topic}:0")["partitions"]
    assert [(place["to"], place["clamped"]) for place in planned] == [(10, True)]
    planned = told("group", "reset", left, "--shift", "-99")["partitions"]
    assert [(place["to"], place["clamped"]) for place in planned] == [(0, True), (0, True)]


def test_a_reset_makes_a_group_that_did_not_exist(topic, name, told, ottla, member):
    assert f"there is no group {name} yet" in ottla("group", "reset", name, "--topic", topic, "--to", "4").ok()
    told("group", "reset", name, "--topic", topic, "--to", "4", "--execute")
    assert rest_of(told, name) == {0: (4, 6), 1: (4, 6)}
    consumer = member(name, topic, records=12)
    assert consumer.poll(0.2) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_with_members_stays_as_it_is(member, topic, name, told, ottla, kind):
    consumer = member(name, topic, records=20, **KINDS[kind])
    consumer.commit(asynchronous=False)
    ottla("group", "reset", name, "--to", "earliest", "--execute").failed(65, "has members", f"`ottla group describe {name}`")
    ottla("group", "delete", name).failed(65, "has members", "stop them first")
    assert rest_of(told, name) == {0: (10, 0), 1: (10, 0)}


def test_a_group_is_deleted_with_its_offsets(left, told, ottla):
    assert ottla("group", "delete", left).ok() == f"deleted group {left}\n"
    assert left not in [group["group"] for group in told("group", "list")]
    ottla("group", "describe", left).failed(65, f"there is no group {left}", "`ottla group list`")
    ottla("group", "delete", left).failed(65, f"there is no group {left}", "`ottla group list`")


def test_what_cannot_be_meant_is_refused_with_what_to_do(left, topic, name, ottla):
    ottla("group", "reset", left).failed(2, "--to")
    ottla("group", "reset", left, "--to", "yesterday").failed(64, "not earliest, latest or an offset")
    ottla("group", "reset", left, "--to-time", "soon").failed(64, "2026-11-23T10:00:00Z")
    ottla("group", "reset", left, "--ago", "5").failed(64, "30m")
    ottla("group", "reset", left, "--to", "1", "--topic", f"{topic}:7").failed(64, "has no partition 7", f"`ottla topic describe {topic}`")
    ottla("group", "reset", "nobody-" + name, "--to", "1").failed(64, "stands nowhere yet", "--topic")
    ottla("group", "reset", "nobody-" + name, "--shift", "1", "--topic", topic).failed(64, "nothing to shift", "--to")
    ottla("group", "reset", left, "--to", "1", "--topic", "no-such-" + topic).failed(65, "UNKNOWN_TOPIC_OR_PARTITION")


def test_a_share_group_is_shown_reset_and_deleted(topic, name, told, ottla, kafka):
    group = f"share-{name}"
    console = subprocess.Popen(
        java("org.apache.kafka.tools.consumer.ConsoleShareConsumer", "--bootstrap-server", kafka, "--topic", topic, "--group", group,
             loud="off"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        shown = until(lambda: group in [found["group"] for found in told("group", "list")] and told("group", "describe", group),
                      lambda shown: shown and [len(member["assignment"]) for member in shown["members"]] == [2])
        assert (shown["kind"], shown["state"], shown["assignor"]) == ("share", "Stable", "simple")
        assert [place["partition"] for place in shown["members"][0]["assignment"]] == [0, 1]
        ottla("group", "reset", group, "--to", "earliest", "--execute").failed(65, "has members")
    finally:
        console.terminate()
        console.wait(20)
    until(lambda: told("group", "describe", group), lambda shown: not shown["members"])
    told("group", "reset", group, "--to", "3", "--topic", topic, "--execute")
    assert {partition: committed for partition, (committed, _) in rest_of(told, group).items()} == {0: 3, 1: 3}
    told("group", "reset", group, "--to-time", "9000", "--topic", f"{topic}:1", "--execute")
    assert {partition: committed for partition, (committed, _) in rest_of(told, group).items()} == {0: 3, 1: 8}
    assert ottla("group", "delete", group).ok() == f"deleted group {group}\n"
