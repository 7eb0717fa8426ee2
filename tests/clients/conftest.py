"""A topic of its own for each test, and clients as functions."""
import os
import subprocess
import time
import uuid

import pytest
from clients import CLIENTS


def call(name, command, *arguments, values=None):
    """Runs a command of a client; returns the lines it printed, split at tabs."""
    line = [*map(str, CLIENTS[name].prepare()), command, *map(str, arguments)]
    text = None if values is None else "".join(f"{key}={value}\n" for key, value in values)
    done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=90,
                          stdin=subprocess.DEVNULL if text is None else None)
    assert done.returncode == 0, f"{name} {command} {arguments}: exit {done.returncode}\n{done.stderr[-3000:]}"
    return [tuple(row.split("\t")) for row in done.stdout.splitlines()]


@pytest.fixture
def topic():
    """A topic of one partition that is ready to be used."""
    name = f"clients-{uuid.uuid4().hex[:12]}"
    call("confluent-kafka", "create", name, 1)
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
