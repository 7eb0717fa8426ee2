"""A topic of its own for each test, and clients as functions."""
import os
import subprocess
import time
import uuid

import pytest
from clients import AMQP_CLIENTS, KAFKA_CLIENTS


def kafka(name, command, *arguments, values=None):
    """Runs a command of a Kafka client; returns the lines it printed, split at tabs."""
    lines = None if values is None else [f"{key}={value}" for key, value in values]
    return run([*KAFKA_CLIENTS[name].prepare(), command, *arguments], lines)


def amqp(name, command, *arguments, lines=None):
    """Runs a command of an AMQP client; returns the lines it printed, split at tabs."""
    return run([*AMQP_CLIENTS[name](), command, *arguments], lines)


def run(command, lines):
    text = "" if lines is None else "".join(f"{line}\n" for line in lines)
    done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-3000:]}"
    return [tuple(row.split("\t")) for row in done.stdout.splitlines()]


@pytest.fixture
def topic():
    """A topic of one partition that is ready to be used."""
    name = f"clients-{uuid.uuid4().hex[:12]}"
    kafka("confluent-kafka", "create", name, 1)
    wait_for(name, partitions=1)
    return name


def partitions_of(name):
    """The partitions of a topic that have a leader; 0 for a topic that does not exist."""
    from confluent_kafka.admin import AdminClient
    found = AdminClient({"bootstrap.servers": os.environ["KAFKA"]}).list_topics(timeout=10).topics.get(name)
    return 0 if found is None or found.error else sum(p.leader >= 0 for p in found.partitions.values())


def wait_for(name, partitions):
    deadline = time.monotonic() + 15
    while partitions_of(name) != partitions:
        assert time.monotonic() < deadline, f"{name} has {partitions_of(name)} partitions, not {partitions}"
        time.sleep(0.05)
