"""The book of queues: what publishers and consumers of AMQP queues tried and saw, and its audits (total-queue algebra)."""
from collections import Counter, defaultdict
from typing import NamedTuple


class Published(NamedTuple):
    """A publisher's attempt, to each of `queues`. Confirmed, refused or neither: unknown."""
    publisher: str
    seq: int
    queues: tuple

    @property
    def value(self):
        return f"{self.publisher}/{self.seq}"


class Delivered(NamedTuple):
    queue: str
    value: str
    redelivered: bool
    shape: str  # everything else: headers, content type, delivery mode


class QueueBook:
    def __init__(self):
        self.published, self.confirmed, self.refused = [], [], []
        self.delivered = []  # in the order it was logged
        self.left = {}  # queue -> messages the broker counts after the drain

    def counts(self):
        return f"{len(self.published)} published, {len(self.confirmed)} confirmed, {len(self.refused)} refused, " \
               f"{len(self.delivered)} delivered"


def lost(book):
    """A confirmed message that did not reach every queue it was routed to."""
    there = {(d.queue, d.value) for d in book.delivered}
    return [f"{p.value} not in {queue}" for p in book.confirmed for queue in p.queues if (queue, p.value) not in there]


def invented(book):
    """A message that nobody published to that queue, or that was refused."""
    routed = {(q, p.value) for p in book.published for q in p.queues} - {(q, p.value) for p in book.refused for q in p.queues}
    return [f"{d.value} in {d.queue}" for d in book.delivered if (d.queue, d.value) not in routed]


def repeated(book):
    """A second delivery that does not say that it is one."""
    times, found = Counter(), []
    for delivered in book.delivered:
        place = delivered.queue, delivered.value
        if times[place] and not delivered.redelivered:
            found.append(f"{delivered.value} in {delivered.queue}, delivery {times[place] + 1}")
        times[place] += 1
    return found


def reordered(book):
    """First deliveries of one publisher in one queue in another order than it published them."""
    numbers = {p.value: p for p in book.published}
    last, known, found = {}, set(), []
    for delivered in book.delivered:
        published = numbers.get(delivered.value)
        if published is None or (delivered.queue, delivered.value) in known:
            continue
        known.add((delivered.queue, delivered.value))
        before = last.get((published.publisher, delivered.queue), -1)
        if published.seq < before:
            found.append(f"{delivered.value} in {delivered.queue} after number {before}")
        last[published.publisher, delivered.queue] = max(before, published.seq)
    return found


def torn(book):
    """A publish of unknown outcome that reached some of its queues and not all: here a publish is one fact.

    Only Ottla promises that."""
    there = defaultdict(set)
    for d in book.delivered:
        there[d.value].add(d.queue)
    return [f"{p.value} only in {sorted(there[p.value])}" for p in book.published
            if there[p.value] and there[p.value] != set(p.queues)]


def drifted(book):
    """Headers or properties differ from what was published."""
    return [f"{d.value} in {d.queue}: {d.shape}" for d in book.delivered if d.shape != shape_of(d.value)]


def left_over(book):
    """A queue that is not empty after everything was taken and acknowledged."""
    return [f"{queue}: {count}" for queue, count in book.left.items() if count]


def shape_of(value):
    """What a publisher sends with a value, as a consumer should see it."""
    return f"2 text/plain ledger={value}"


AUDITS = [lost, invented, repeated, reordered, torn, drifted, left_over]
RABBITMQ_AUDITS = [audit for audit in AUDITS if audit is not torn]
