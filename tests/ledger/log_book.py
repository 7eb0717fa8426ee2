"""The book of a log: what producers and readers of Kafka topics tried and saw, and its audits.

All times are `time.monotonic()` of one process. A value is written at most once, so it names its attempt.
"""
from collections import Counter, defaultdict
from typing import NamedTuple


NOTHING_COMMITTED = -1001  # librdkafka's answer for a group without an offset


class Sent(NamedTuple):
    """A producer's attempt. Its outcome is in `acked` (with the offset), `failed` or neither: unknown."""
    producer: str
    partition: int
    seq: int  # counts up per producer and partition

    @property
    def value(self):
        return f"{self.producer}/{self.partition}/{self.seq}"


class Acked(NamedTuple):
    time: float
    sent: Sent
    offset: int


class Seen(NamedTuple):
    """A record as a reader got it; `shape` is everything else: key, headers, timestamp."""
    reader: str
    partition: int
    offset: int
    value: str
    shape: str


class Ends(NamedTuple):
    """The start and end offset of a partition, asked at `time`."""
    time: float
    partition: int
    low: int
    high: int


class Commit(NamedTuple):
    """A committed offset: acknowledged at `time`, or answered to a question asked at `time`."""
    time: float
    partition: int
    offset: int


class LogBook:
    def __init__(self):
        self.sent, self.acked, self.failed, self.fatal = [], [], [], []
        self.polled = []  # by readers that were there all the time, in the order they saw it
        self.final = []  # by a reader that started at the beginning when all was over
        self.ends = []  # in the order they were asked
        self.commits, self.committed = [], []  # acknowledged; answered

    def counts(self):
        return f"{len(self.sent)} sent, {len(self.acked)} acknowledged, {len(self.failed)} failed, " \
               f"{len(self.polled)} polled, {len(self.final)} read at the end, {len(self.ends)} ends, " \
               f"{len(self.commits)} commits, {len(self.committed)} committed offsets asked"


def lost(book):
    """An acknowledged value that is not there at the end."""
    there = {seen.value for seen in book.final}
    return [f"{acked.sent.value} at {acked.offset}" for acked in book.acked if acked.sent.value not in there]


def invented(book):
    """A value that nobody sent, or that was refused."""
    sent = {sent.value for sent in book.sent} - {sent.value for sent in book.failed}
    return [f"{seen.value} at {seen.partition}:{seen.offset}" for seen in book.polled + book.final if seen.value not in sent]


def duplicate(book):
    """One value at two offsets: the producers are idempotent."""
    places = defaultdict(set)
    for seen in book.polled + book.final:
        places[seen.value].add((seen.partition, seen.offset))
    return [f"{value} at {sorted(found)}" for value, found in places.items() if len(found) > 1]


def inconsistent(book):
    """Two values at one offset, among acknowledgements and all reads."""
    values = defaultdict(set)
    for acked in book.acked:
        values[acked.sent.partition, acked.offset].add(acked.sent.value)
    for seen in book.polled + book.final:
        values[seen.partition, seen.offset].add(seen.value)
    return [f"{place}: {sorted(found)}" for place, found in values.items() if len(found) > 1]


def reordered(book):
    """A producer's values in one partition in another order than it sent them."""
    last, found = {}, []
    numbers = {sent.value: sent for sent in book.sent}
    for seen in sorted(set((s.partition, s.offset, s.value) for s in book.final)):
        sent = numbers.get(seen[2])
        if sent is None:
            continue  # invented: said elsewhere
        before = last.get((sent.producer, sent.partition))
        if before is not None and before >= sent.seq:
            found.append(f"{sent.value} at {seen[1]} after number {before}")
        last[sent.producer, sent.partition] = sent.seq
    return found


def phantom(book):
    """A record that a reader saw and that is not there at the end."""
    there = {(seen.partition, seen.offset) for seen in book.final}
    return [f"{seen.value} at {seen.partition}:{seen.offset}" for seen in book.polled
            if (seen.partition, seen.offset) not in there]


def drifted(book):
    """Key, headers or timestamp differ between two reads of one record."""
    shapes = {(seen.partition, seen.offset): seen.shape for seen in book.final}
    return [f"{seen.partition}:{seen.offset}: {seen.shape} became {shapes[seen.partition, seen.offset]}"
            for seen in book.polled if shapes.get((seen.partition, seen.offset), seen.shape) != seen.shape]


def skipped(book):
    """A reader with assigned partitions jumped or went back; without transactions offsets have no gap."""
    found = []
    for kind in (book.polled, book.final):
        last = {}
        for seen in kind:
            expected = last.get((seen.reader, seen.partition), -1) + 1
            if seen.offset != expected:
                found.append(f"{seen.reader} at {seen.partition}: {seen.offset} instead of {expected}")
            last[seen.reader, seen.partition] = seen.offset
    return found


def regressed(book):
    """A start or end offset went back, or an end is below what was acknowledged before it was asked."""
    found, last = [], {}
    acked = defaultdict(list)
    for entry in book.acked:
        acked[entry.sent.partition].append((entry.time, entry.offset))
    position, least = Counter(), defaultdict(int)
    for entries in acked.values():
        entries.sort()
    for ends in sorted(book.ends):
        low, high = last.get(ends.partition, (0, 0))
        if ends.low < low or ends.high < high:
            found.append(f"{ends.partition}: {(low, high)} became {(ends.low, ends.high)}")
        last[ends.partition] = (max(low, ends.low), max(high, ends.high))
        entries = acked[ends.partition]
        while position[ends.partition] < len(entries) and entries[position[ends.partition]][0] < ends.time:
            least[ends.partition] = max(least[ends.partition], entries[position[ends.partition]][1] + 1)
            position[ends.partition] += 1
        if ends.high < least[ends.partition]:
            found.append(f"{ends.partition}: end {ends.high}, acknowledged up to {least[ends.partition]}")
    return found


def uncommitted(book):
    """A committed offset below one that was acknowledged before it was asked. Commits only grow."""
    found = []
    events = sorted([(c.time, 0, c) for c in book.commits] + [(c.time, 1, c) for c in book.committed])
    least = defaultdict(lambda: NOTHING_COMMITTED)
    for _, asked, commit in events:
        if asked and commit.offset < least[commit.partition]:
            found.append(f"{commit.partition}: {commit.offset}, acknowledged was {least[commit.partition]}")
        elif not asked:
            least[commit.partition] = max(least[commit.partition], commit.offset)
    return found


def refused(book):
    """An idempotent producer met an error it cannot go on from."""
    return list(book.fatal)


AUDITS = [lost, invented, duplicate, inconsistent, reordered, phantom, drifted, skipped, regressed, uncommitted, refused]
