"""Kafka Connect in distributed mode: two workers, a file source and a file sink, on Ottla and on Apache Kafka.

    python3 -m pytest tests/connect              Ottla (OTTLA names another binary)
    CONNECT_BROKER=kafka python3 -m pytest …     Apache Kafka

Lines appended to one file must arrive in the other while a worker and then the broker is killed. The sink delivers at least once:
no line may be missing, and the first occurrences are in the order of the file (there is one partition).
"""
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rig import cache, kafka, maven, ottla, process  # noqa: E402

POM = Path(__file__).with_name("pom.xml")
GROUP, INTERNAL = "connect-story", ("story-configs", "story-offsets", "story-status")


@pytest.fixture
def broker():
    try:
        classpath = maven.classpath(POM, kafka_version=kafka.VERSION)
        with kafka.Kafka() if os.environ.get("CONNECT_BROKER") == "kafka" else ottla.Ottla() as started:
            started.classpath = classpath
            yield started
    except cache.Missing as missing:
        pytest.fail(str(missing))


class Worker:
    """One distributed worker and its REST listener."""

    def __init__(self, broker, home, name):
        self.port = process.free_port()
        settings = {
            "bootstrap.servers": broker.env()["KAFKA"],
            "group.id": GROUP,
            "listeners": f"http://127.0.0.1:{self.port}",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "config.storage.topic": INTERNAL[0],
            "offset.storage.topic": INTERNAL[1],
            "status.storage.topic": INTERNAL[2],
            "config.storage.replication.factor": 1,
            "offset.storage.replication.factor": 1,
            "offset.storage.partitions": 3,
            "status.storage.replication.factor": 1,
            "offset.flush.interval.ms": 500,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "scheduled.rebalance.max.delay.ms": 1000,
            "consumer.session.timeout.ms": 6000,
            "plugin.discovery": "service_load",
            "plugin.path": str(plugins(broker.classpath, home)),
        }
        properties = home / f"{name}.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.server = process.Server(f"Connect {name}", [
            "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", broker.classpath, "org.apache.kafka.connect.cli.ConnectDistributed", str(properties)], str(home / f"{name}.log"))

    def is_ready(self):
        self.server.wait_until(lambda: self.ask("GET", "/connectors") is not None, 90)
        return self

    def ask(self, method, path, body=None):
        """The answer of the worker's REST interface; `None` while it cannot say (it starts, or the group rebalances)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers={"Content-Type": "application/json"},
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            assert error.code in (404, 409, 500, 503), f"{method} {path}: {error.code} {error.read()}"
            return None


def plugins(classpath, home):
    """The folder of plugins that a worker looks into: the file connectors alone."""
    folder = home / "plugins" / "file"
    if not folder.exists():
        folder.mkdir(parents=True)
        jar = next(Path(path) for path in classpath.split(":") if "/connect-file-" in path)
        (folder / jar.name).symlink_to(jar)
    return folder.parent


def until(done, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, f"no {what} after {seconds} s"
        time.sleep(0.1)
    return found


def connector(worker, name, kind, **config):
    config = {"connector.class": f"org.apache.kafka.connect.file.FileStream{kind}Connector", "tasks.max": "1", **config}
    until(lambda: worker.ask("PUT", f"/connectors/{name}/config", config), f"connector {name}")


def runs(worker, name):
    status = worker.ask("GET", f"/connectors/{name}/status") or {}
    states = [part["state"] for part in [status.get("connector", {"state": ""}), *status.get("tasks", [])]]
    return states == ["RUNNING", "RUNNING"]


def append(file, numbers):
    with open(file, "a") as out:
        out.writelines(f"line {number}\n" for number in numbers)


def arrived(file):
    """The first occurrences of whole lines."""
    return list(dict.fromkeys(line for line in file.read_text().splitlines(True) if line.endswith("\n"))) if file.exists() else []


def test_lines_travel_from_file_to_file_while_a_worker_and_the_broker_are_killed(broker):
    with tempfile.TemporaryDirectory(prefix="ottla-connect-") as home:
        home = Path(home)
        source, sink = home / "source.txt", home / "sink.txt"
        whole = lambda count: until(lambda: arrived(sink) == [f"line {n}\n" for n in range(count)], f"{count} lines")  # noqa: E731
        workers = [Worker(broker, home, "one").is_ready()]
        try:
            append(source, range(100))
            connector(workers[0], "in", "Source", file=str(source), topic="story-lines")
            connector(workers[0], "out", "Sink", file=str(sink), topics="story-lines")
            whole(100)
            workers.append(Worker(broker, home, "two").is_ready())
            until(lambda: len(homes(workers[1])) == 2, "work for the second worker")
            append(source, range(100, 200))
            workers[0].server.kill()
            append(source, range(200, 300))
            whole(300)
            until(lambda: runs(workers[1], "in") and runs(workers[1], "out"), "running connector")
            broker.kill()
            broker.start()
            append(source, range(300, 400))
            whole(400)
            assert_administrators_see(broker)
            assert_source_wrote_in_order(broker)
        except BaseException:
            print(sink.read_text()[-300:] if sink.exists() else "no sink", *(worker.server.tail(60) for worker in workers), broker.log_tail(), sep="\n----\n")
            raise
        finally:
            for worker in workers:
                worker.server.kill()


def homes(worker):
    """Which workers have a connector or a task."""
    told = [worker.ask("GET", f"/connectors/{name}/status") or {} for name in ("in", "out")]
    return {part["worker_id"] for status in told for part in [*status.get("tasks", []), *([status["connector"]] if status else [])]}


def assert_administrators_see(broker):
    """The workers' group is a classic one of type connect, and the three topics are compacted."""
    admin = AdminClient({"bootstrap.servers": broker.env()["KAFKA"], "log_level": 0})
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in INTERNAL]
    for resource, answer in admin.describe_configs(resources).items():
        assert answer.result(20)["cleanup.policy"].value == "compact", resource
    topics = admin.list_topics(timeout=10).topics
    assert [len(topics[topic].partitions) for topic in INTERNAL] == [1, 3, 5]
    tool = kafka.java("org.apache.kafka.tools.GroupsCommand", "--bootstrap-server", broker.env()["KAFKA"], "--list")
    told = cache.run(tool, 60)
    rows = {row.split()[0]: row.split()[1:] for row in told.splitlines() if row.strip()}
    assert rows[GROUP] == ["Classic", "connect"], told
    assert rows["connect-out"][:1] == ["Classic"] and rows["connect-out"][1] == "consumer", told


def assert_source_wrote_in_order(broker):
    """A source without exactly-once may write a line twice, never late or not at all."""
    reader = Consumer({"bootstrap.servers": broker.env()["KAFKA"], "group.id": "reader", "auto.offset.reset": "error", "enable.auto.commit": False})
    reader.assign([TopicPartition("story-lines", 0, 0)])
    end, lines = reader.get_watermark_offsets(TopicPartition("story-lines", 0), timeout=10)[1], []
    while len(lines) < end:
        lines += [message.value().decode() for message in reader.consume(500, 1.0) if not message.error()]
    reader.close()
    assert list(dict.fromkeys(lines)) == [f"line {n}" for n in range(400)]
