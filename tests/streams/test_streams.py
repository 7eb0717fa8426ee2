"""Kafka Streams with exactly_once_v2: the same word count on Ottla and on Apache Kafka.

    python3 -m pytest tests/streams              Ottla (OTTLA names another binary)
    STREAMS_BROKER=kafka python3 -m pytest …     Apache Kafka

The application and the broker are killed in the middle. With its cache off, the application writes every count it comes to:
what a reader of committed records finds for a word that occurs n times must be 1, 2, …, n, each once and in order.
"""
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rig import cache, kafka, maven, ottla, process  # noqa: E402

HERE = Path(__file__).parent
WORDS = "tea milk sugar cup spoon kettle water leaf pot plate".split()
LINES, PARTITIONS = 600, 3  # lines of each of the four parts of the story


@pytest.fixture
def broker():
    try:
        classpath = maven.compiled(HERE / "WordCount.java", maven.classpath(HERE / "pom.xml", kafka_version=kafka.VERSION))
        with kafka.Kafka() if os.environ.get("STREAMS_BROKER") == "kafka" else ottla.Ottla() as started:
            started.classpath = classpath
            yield started
    except cache.Missing as missing:
        pytest.fail(str(missing))


class Application:
    """One instance of the word count."""

    def __init__(self, broker, name, state, protocol, log):
        self.server = process.Server("WordCount", [
            "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", broker.classpath, "WordCount", broker.env()["KAFKA"], name, state, protocol], log)

    def is_running(self):
        self.server.wait_until(lambda: "state RUNNING" in self.server.tail(10_000), 60)
        return self


class Story:
    def __init__(self, broker, home):
        self.client = {"bootstrap.servers": broker.env()["KAFKA"], "log_level": 0, "reconnect.backoff.max.ms": 200}
        self.name, self.chance, self.sent = f"wc-{uuid.uuid4().hex[:8]}", random.Random(7), Counter()
        self.lines, self.counts = f"{self.name}-lines", f"{self.name}-counts"
        self.broker, self.home = broker, Path(home)
        admin = AdminClient(self.client)
        for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in (self.lines, self.counts)]).values():
            made.result(30)
        self.producer = Producer({**self.client, "enable.idempotence": True})
        self.found = defaultdict(list)
        self.reader = Consumer({**self.client, "group.id": f"reader-{self.name}", "isolation.level": "read_committed",
                                "enable.auto.commit": False, "auto.offset.reset": "error"})
        self.reader.assign([TopicPartition(self.counts, partition, 0) for partition in range(PARTITIONS)])

    def application(self, state, protocol):
        return Application(self.broker, self.name, self.home / state, protocol, self.home / f"{state}.log")

    def send(self):
        for _ in range(LINES):
            words = self.chance.choices(WORDS, k=5)
            self.sent.update(words)
            self.producer.produce(self.lines, " ".join(words), partition=self.chance.randrange(PARTITIONS))
        assert self.producer.flush(60) == 0

    def read_until(self, count, seconds=90):
        deadline = time.monotonic() + seconds
        while sum(map(len, self.found.values())) < count:
            assert time.monotonic() < deadline, f"{sum(map(len, self.found.values()))} of {count} counts after {seconds} s"
            for message in self.reader.consume(1000, 0.2):
                assert not message.error() or message.error().retriable() or message.error().code() < 0, message.error()
                if not message.error():
                    self.found[message.key().decode()].append(int(message.value()))

    def assert_exact(self):
        self.read_until(self.sent.total())
        assert {word: self.found[word] for word in WORDS} == {word: list(range(1, self.sent[word] + 1)) for word in WORDS}

    def topics(self):
        return {name for name in AdminClient(self.client).list_topics(timeout=10).topics if name.startswith(self.name)}


@pytest.mark.parametrize("protocol", ["classic"])
def test_a_word_count_is_exact_when_it_and_its_broker_are_killed(broker, protocol):
    with tempfile.TemporaryDirectory(prefix="ottla-streams-") as home:
        story = Story(broker, home)
        running = [story.application("one", protocol).is_running()]
        try:
            story.send()
            story.read_until(story.sent.total() // 3)  # in the middle: the application dies with its transactions open
            running[0].server.kill()
            running[0] = story.application("one", protocol)
            story.send()
            story.read_until(story.sent.total() * 2 // 3)
            broker.kill()
            broker.start()
            story.send()
            story.assert_exact()
            running.append(story.application("two", protocol).is_running())  # takes over half, from the changelog
            story.send()
            story.read_until(story.sent.total() - LINES * 4)
            running[0].server.kill()
            story.assert_exact()
            assert running[1].server.stop() == 143, running[1].server.tail()
            made = {f"{story.name}-words-repartition", f"{story.name}-counted-changelog"}
            assert story.topics() == {story.lines, story.counts, *made}
        except BaseException:
            print(*(application.server.tail(60) for application in running), broker.log_tail(), sep="\n----\n")
            raise
        finally:
            for application in running:
                application.server.kill()
