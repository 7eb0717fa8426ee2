"""Groups of each client: members share the partitions, hand them over, and resume where they committed.

A rebalance is mostly waiting for heartbeats, so the stories of all clients run at once, each with its own topic and group."""
import collections
import concurrent.futures
import os
import subprocess
import threading
import time
import uuid

import pytest
from clients import KAFKA_CLIENTS
from conftest import kafka as call
from conftest import wait_for
from confluent_kafka import Producer

MEMBERS = [(name, protocol) for name, client in KAFKA_CLIENTS.items() for protocol in client.protocols]
ALL = {0, 1, 2, 3}
PATIENCE = 100  # seconds for one step; eleven clients start at once on two cores


class Member:
    """A process of a client that sits in a group."""

    def __init__(self, name, protocol, topic, group):
        more = [] if protocol == "classic" else [protocol]
        command = list(map(str, [*KAFKA_CLIENTS[name].prepare(), "member", topic, group, *more]))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.has, self.got, self.lines, self.errors = set(), [], [], collections.deque(maxlen=40)
        threading.Thread(target=self.listen, daemon=True).start()
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())
            word, _, rest = line.strip().partition(" ")
            if word == "has":
                self.has = {int(number) for number in rest.split(",") if number}
            elif word == "got":
                self.got.append(rest.split(" ", 1)[1])

    def leave(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0, self.told()

    def told(self):
        return "\n".join([f"exit {self.process.poll()}", *self.lines[-40:], *self.errors])


def produce(topic, values):
    producer = Producer({"bootstrap.servers": os.environ["KAFKA"]})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % 4)
    assert producer.flush(30) == 0


def until(what, right, *members):
    deadline = time.monotonic() + PATIENCE
    while not right():
        assert time.monotonic() < deadline, f"not {what}:\n" + "\n--\n".join(member.told() for member in members)
        time.sleep(0.05)


def story(name, protocol):
    topic = f"members-{uuid.uuid4().hex[:12]}"
    group = f"g-{topic}"
    call("confluent-kafka", "create", topic, 4)
    wait_for(topic, partitions=4)
    started = []

    def join():
        started.append(Member(name, protocol, topic, group))
        return started[-1]

    def shared(*members):
        return all(member.has for member in members) and sorted(place for member in members for place in member.has) == sorted(ALL)

    def arrives(values, *members):
        """Each value comes once, to one of them, and nothing else does."""
        before = sum(len(member.got) for member in members)
        produce(topic, values)
        until("all came", lambda: sum(len(member.got) for member in members) >= before + len(values), *members)
        came = [value for member in members for value in member.got if value in set(values)]
        assert sorted(came) == sorted(values), "\n--\n".join(member.told() for member in members)
    try:
        first = join()
        until("the first has all", lambda: shared(first), first)
        arrives([f"alone {n}" for n in range(20)], first)
        second = join()
        until("both have some", lambda: shared(first, second), first, second)
        arrives([f"shared {n}" for n in range(20)], first, second)
        assert not [value for value in second.got if value.startswith("alone")], "what was committed came again:\n" + second.told()
        second.leave()
        until("the first has all again", lambda: shared(first), first)
        arrives([f"again {n}" for n in range(20)], first)
        first.leave()
        produce(topic, ["nobody was there"])
        third = join()
        until("the third came", lambda: third.got, third)
        until("the third has all", lambda: shared(third), third)
        arrives([f"later {n}" for n in range(8)], third)
        assert third.got[0] == "nobody was there" and len(third.got) == 9, third.told()
        third.leave()
    finally:
        for member in started:
            if member.process.poll() is None:
                member.process.kill()


@pytest.fixture(scope="module")
def stories():
    for name, _ in MEMBERS:
        KAFKA_CLIENTS[name].prepare()
    with concurrent.futures.ThreadPoolExecutor(len(MEMBERS)) as pool:
        yield {member: pool.submit(story, *member) for member in MEMBERS}


@pytest.mark.parametrize("name,protocol", MEMBERS)
def test_members_share_hand_over_and_resume(stories, name, protocol):
    stories[name, protocol].result()
