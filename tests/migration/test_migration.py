"""A group moves from the classic to the consumer protocol and back, member by member, while it works (KIP-848's online migration).

    python3 -m pytest tests/migration               Ottla (OTTLA names another binary)
    MIGRATION_BROKER=kafka python3 -m pytest …      Apache Kafka

The members are Kafka's own Java client; every record that is written meanwhile comes to exactly one member.
"""
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rig import cache, kafka, maven, ottla  # noqa: E402

PARTITIONS = 4


@pytest.fixture(scope="module")
def broker():
    try:
        classpath = maven.compiled(Path(__file__).with_name("Rolling.java"), maven.classpath(kafka.POM, kafka_version=kafka.VERSION))
        with kafka.Kafka() if os.environ.get("MIGRATION_BROKER") == "kafka" else ottla.Ottla() as started:
            started.command = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                               "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classpath, "Rolling", started.env()["KAFKA"]]
            yield started
    except cache.Missing as missing:
        pytest.fail(str(missing))


class Story:
    """A group, its members by name, and the records that were written for it."""

    def __init__(self, broker):
        self.broker, self.members, self.written = broker, {}, 0
        self.group = self.topic = f"rolling-{uuid.uuid4().hex[:8]}"
        self.client = {"bootstrap.servers": broker.env()["KAFKA"], "log_level": 0}
        admin = AdminClient(self.client)
        admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])[self.topic].result(30)
        self.producer = Producer(self.client)
        self.home = tempfile.TemporaryDirectory(prefix="ottla-migration-")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for name, member in self.members.items():
            member.kill()
            if kind:
                print(f"-- {name}\n{self.said(name)[-1500:]}")
        if kind:
            print(self.broker.log_tail())
        self.home.cleanup()

    def start(self, name, protocol):
        self.members[name] = subprocess.Popen([*self.broker.command, self.group, self.topic, protocol, name], stdin=subprocess.PIPE,
                                              stdout=open(f"{self.home.name}/{name}", "w"), stderr=subprocess.STDOUT)

    def stop(self, name):
        self.members[name].stdin.close()
        assert self.members[name].wait(40) == 0
        assert self.said(name).endswith("left\n"), self.said(name)

    def said(self, name):
        return Path(f"{self.home.name}/{name}").read_text()

    def has(self, name):
        return [line.removeprefix("has ") for line in self.said(name).splitlines() if line.startswith("has ")][-1:]

    def write(self, count=20):
        for number in range(self.written, self.written + count):
            self.producer.produce(self.topic, f"v{number}", partition=number % PARTITIONS)
        self.written += count
        assert self.producer.flush(30) == 0

    def until(self, done, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"{what}: {[(name, self.has(name)) for name in self.members]}"
            time.sleep(0.05)

    def share(self, *names):
        """Waits until these members, and no others, share all partitions; then each record written comes once."""
        def shared():
            parts = [set(filter(None, self.has(name)[0].split(","))) if self.has(name) else set() for name in names]
            return all(parts) and sum(map(len, parts)) == PARTITIONS == len(set().union(*parts))
        self.until(shared, f"no even share of {names}")
        self.write()
        self.until(lambda: set(self.got()) >= {f"v{n}" for n in range(self.written)}, "records are missing")

    def got(self):
        return [line.split()[2] for name in self.members for line in self.said(name).splitlines() if line.startswith("got ")]

    def describe(self):
        """What an administrator sees; the members' rows without the partitions."""
        told = subprocess.run([*self.broker.command, "describe", self.group], capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout.splitlines()

    def assert_each_record_came_once(self):
        got = self.got()
        assert sorted(got) == sorted(set(got)) and len(got) == self.written, [value for value in set(got) if got.count(value) > 1]
        said = [line for name in self.members for line in self.said(name).splitlines()]
        assert not any(line.startswith("error") for line in said)
        if self.broker.name == "Ottla":  # Kafka may tell those that it moves back that their generation is none
            assert not any(line.startswith("lost") for line in said)


def without_partitions(rows):
    return [row.rsplit(" ", 1)[0] for row in rows]


@pytest.mark.parametrize("kind", ["cooperative", "eager"])
def test_a_group_rolls_to_the_new_protocol_and_back(broker, kind):
    with Story(broker) as story:
        one, two = f"{kind}-1", f"{kind}-2"
        story.start(one, "classic")
        story.start(two, "classic")
        story.share(one, two)
        assert without_partitions(story.describe()[1:3]) == [f"{one} -", f"{two} -"]
        assert story.describe()[0] == "Classic consumer Classic Stable 2"
        story.start("new-1", "consumer")
        story.share(one, two, "new-1")
        told = story.describe()
        assert told[0] == "Consumer consumer Consumer Stable 3"
        assert without_partitions(told[1:4]) == [f"{one} false", f"{two} false", "new-1 true"]
        assert told[4] == "classic: The group id does not exist."
        story.stop(one)
        story.stop(two)
        story.share("new-1")
        story.start("new-2", "consumer")
        story.share("new-1", "new-2")
        if kind == "eager":
            return story.assert_each_record_came_once()
        # and back
        story.start(f"{kind}-3", "classic")
        story.share("new-1", "new-2", f"{kind}-3")
        story.stop("new-1")
        story.stop("new-2")
        story.share(f"{kind}-3")
        told = story.describe()
        assert told[0] == "Classic consumer Classic Stable 1" and told[1] == f"{kind}-3 - 0,1,2,3"
        story.assert_each_record_came_once()


def test_a_group_in_the_middle_of_its_move_goes_on_after_its_broker_was_killed(broker):
    with Story(broker) as story:
        story.start("cooperative-1", "classic")
        story.start("new-1", "consumer")
        story.share("cooperative-1", "new-1")
        broker.kill()
        broker.start()
        story.share("cooperative-1", "new-1")
        story.stop("new-1")
        story.share("cooperative-1")


def test_a_static_member_changes_its_protocol_and_keeps_its_name(broker):
    with Story(broker) as story:
        story.start("static-1", "classic")
        story.start("cooperative-2", "classic")
        story.share("static-1", "cooperative-2")
        first = story.members.pop("static-1")
        first.stdin.close()  # a static member goes without a word
        assert first.wait(40) == 0
        story.written = 0
        story.start("static-1", "consumer")
        story.share("static-1", "cooperative-2")
        assert without_partitions(story.describe()[1:3]) == ["cooperative-2 false", "static-1 true"]
