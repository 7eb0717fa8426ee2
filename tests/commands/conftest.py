import json
import os
import subprocess
import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rig import ottla as binary

KAFKA = os.environ["KAFKA"]


@pytest.fixture
def kafka():
    return KAFKA


@pytest.fixture
def name():
    """A name no other test has."""
    return f"orders-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic(name):
    """A topic with two partitions of ten records each, told apart by their timestamps: 1000, 2000, … 10000."""
    admin = AdminClient({"bootstrap.servers": KAFKA})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(15)
    producer = Producer({"bootstrap.servers": KAFKA})
    for number in range(10):
        for partition in (0, 1):
            producer.produce(name, f"{number}", partition=partition, timestamp=(number + 1) * 1000)
    assert producer.flush(30) == 0
    return name


class Told:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def ok(self):
        assert self.code == 0, self.err
        return self.out

    def failed(self, code, *words):
        assert self.code == code, f"exit {self.code}: {self.out}{self.err}"
        assert all(word in self.err for word in words), self.err

    def table(self):
        """The last table: a dictionary for each row."""
        lines = self.ok().rstrip("\n").split("\n")
        return [line.split() for line in lines]


@pytest.fixture
def ottla():
    """The command `ottla …` against the broker."""
    def run(*arguments):
        done = subprocess.run([binary.binary(), *map(str, arguments), "--bootstrap", KAFKA], capture_output=True, text=True, timeout=60)
        return Told(done)
    return run


@pytest.fixture
def told(ottla):
    """What the command says to programs."""
    return lambda *arguments: json.loads(ottla(*arguments, "--json").ok())


@pytest.fixture
def member():
    """Starts members of groups; they end with the test."""
    started = []

    def start(group, topic, records=0, **settings):
        consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": group, "auto.offset.reset": "earliest",
                             "enable.auto.commit": False, **settings})
        started.append(consumer)
        consumer.subscribe([topic])
        deadline, read = time.time() + 40, 0
        while time.time() < deadline and (read < records or not consumer.assignment()):
            message = consumer.poll(0.1)
            read += message is not None and not message.error()
        assert consumer.assignment() and read >= records
        return consumer

    yield start
    for consumer in started:
        consumer.close()
