"""What a history of Kafka clients may not contain (shared vocabulary: Jepsen's Kafka workload). Pure: events in, findings out.

An event is a dictionary. Every operation has two, with the same `op` (unique in the history): what was about to be done, written
before anything was sent, and what came of it. `at` is CLOCK_MONOTONIC in nanoseconds, the same clock for all processes.

    type    `invoke`, then `ok` (it happened), `fail` (it did not) or `info` (nobody knows: it may still)
    f       `send`      one record, by an idempotent producer
            `txn`       a transaction; its second event tells how it ended, `fail` is an abort
            `asked`     (type `ok` only) the client of transaction `op` calls commit from here on
            `poll`      records that a reader got; `start` marks the first after an assignment or a seek
            `final`     the same, by the reader of everything after the last fault
            `ends`      `low` and `high` of a partition: of committed data if `committed`
            `commit`    an offset of a group, by the one who commits for it, ever larger
            `committed` the offset that the group was said to have; -1 is none
            `generation` the generation or epoch that a member works in
    process who: one client instance; after an unknown outcome it is followed by another of a new name
    sends   of `send` and `txn`: [topic, partition, value], or with an offset at the end once known. Values are unique; what is
            behind a `~` numbers the attempts to write one, of which one may hold. `copy of V` is written by who has read V
    records of `poll` and `final`: [topic, partition, offset, value, shape]; `shape` is all else that a record consists of
    committed of `poll`: read_committed
"""
from collections import defaultdict


class History:
    """The events, and what several checks need of them."""

    def __init__(self, events):
        self.events = sorted(events, key=lambda event: event["at"])
        self.begun = {event["op"]: event for event in self.events if event["type"] == "invoke"}
        self.ended = {event["op"]: event for event in self.events if event["type"] != "invoke" and event["f"] != "asked"}
        self.asked = {event["op"]: event["at"] for event in self.events if event["f"] == "asked"}
        self.writer = {}  # value -> op
        for op, event in self.begun.items():
            for send in [*event.get("sends", []), *self.ended.get(op, {}).get("sends", [])]:
                self.writer[send[2]] = op
        self.reads = self._events("poll") + self._events("final")
        self.final = defaultdict(dict)  # (topic, partition) -> offset -> value
        for event in self._events("final"):
            for topic, partition, offset, value, _ in event["records"]:
                self.final[topic, partition][offset] = value
        self.there = {value for records in self.final.values() for value in records.values()}
        self.number = {place: {offset: number for number, offset in enumerate(sorted(records))}
                       for place, records in self.final.items()}  # of a committed record in its partition

    def _events(self, f, type="ok"):
        return [event for event in self.events if event["f"] == f and event["type"] == type]

    def acked(self):
        """(op, topic, partition, offset, value) of every record that was acknowledged, in a committed transaction or in none."""
        for op, event in self.ended.items():
            if event["type"] == "ok" and event["f"] in ("send", "txn"):
                for send in event["sends"]:
                    if len(send) == 4:
                        yield op, send[0], send[1], send[3], send[2]

    def outcome(self, value):
        """`ok`, `fail` or `info` of the operation that wrote it; `None` if nobody did."""
        op = self.writer.get(value)
        return None if op is None else self.ended.get(op, {"type": "info"})["type"]


def lost(history):
    """An acknowledged record that the last reader did not find; and, of a transaction that ended unknown, a part."""
    found = []
    for op, event in history.ended.items():
        if event["f"] not in ("send", "txn") or event["type"] == "fail":
            continue
        values = [send[2] for send in event["sends"]]
        missing = [value for value in values if value not in history.there]
        if event["type"] == "ok" or len(missing) < len(values):
            found += [f"{value} of {op} ({event['type']})" for value in missing]
    return found


def duplicate(history):
    """One value at two places: every producer is idempotent, and each value was given to one. Also: something was copied twice."""
    places = defaultdict(set)
    for event in history.reads:
        for topic, partition, offset, value, _ in event["records"] if event["committed"] else []:
            places[value.partition("~")[0]].add((topic, partition, offset))
    return [f"{value} at {sorted(found)}" for value, found in places.items() if len(found) > 1]


def uncopied(history):
    """A committed record that the copier, which goes by its committed offsets, has left out."""
    copies = {value.partition("~")[0] for value in history.there if value.startswith(COPY)}
    return [value for value in sorted(history.there) if copies and not value.startswith(COPY) and COPY + value not in copies]


def inconsistent(history):
    """Two values at one offset, among acknowledgements and all reads."""
    values = defaultdict(set)
    for _, topic, partition, offset, value in history.acked():
        values[topic, partition, offset].add(value)
    for event in history.reads:
        for topic, partition, offset, value, _ in event["records"]:
            values[topic, partition, offset].add(value)
    return [f"{place}: {sorted(found)}" for place, found in values.items() if len(found) > 1]


def unexpected(history):
    """A value that nobody sent."""
    return sorted({f"{record[3]} at {record[:3]}" for event in history.reads for record in event["records"] if record[3] not in history.writer})


def aborted_read(history):
    """A value of an aborted transaction, read by somebody who reads what is committed (G1a)."""
    return sorted({f"{record[3]} at {record[:3]}" for event in history.reads if event["committed"]
                   for record in event["records"] if history.outcome(record[3]) == "fail"})


def precommitted_read(history):
    """A value of a transaction, read as committed before its client asked for that; its own reads included."""
    found = []
    for event in history.reads:
        for record in event["records"] if event["committed"] else []:
            op = history.writer.get(record[3])
            if op in history.begun and history.begun[op]["f"] == "txn" and history.asked.get(op, float("inf")) > event["at"]:
                found.append(f"{record[3]} at {record[:3]} by {event['process']}")
    return found


def nonmonotonic_send(history):
    """The offsets of a producer in a partition go back: in order of its sends, also inside a transaction."""
    found, last = [], {}
    for begun in sorted(history.begun.values(), key=lambda event: event["at"]):
        ended = history.ended.get(begun["op"])
        if ended is None or ended["type"] != "ok" or ended["f"] not in ("send", "txn"):
            continue
        for send in ended["sends"]:
            if len(send) == 4:
                topic, partition, value, offset = send
                before = last.get((begun["process"], topic, partition), (-1, None))
                if offset <= before[0]:
                    found.append(f"{begun['process']} {topic}-{partition}: {value} at {offset} after {before[1]} at {before[0]}")
                last[begun["process"], topic, partition] = (offset, value)
    return found


def skipped(history):
    """A reader of committed records jumped or went back between two polls without a new assignment or seek."""
    found, last = [], {}
    for event in history.reads:
        if not event["committed"]:
            continue
        for topic, partition in event.get("start", []):
            last.pop((event["process"], topic, partition), None)
        for topic, partition, offset, value, _ in event["records"]:
            number = history.number.get((topic, partition), {}).get(offset)
            if number is None:
                continue  # a phantom: said elsewhere
            place = event["process"], topic, partition
            if place in last and number != last[place] + 1:
                found.append(f"{event['process']} {topic}-{partition}: {value} is number {number}, after {last[place]}")
            last[place] = number
    return found


def phantom(history):
    """A record read as committed before, and not there at the end."""
    return sorted({f"{record[3]} at {record[:3]}" for event in history.reads if event["committed"]
                   for record in event["records"] if history.final[record[0], record[1]].get(record[2]) != record[3]})


def drifted(history):
    """Key, headers or time of a record differ between two reads."""
    shapes = defaultdict(set)
    for event in history.reads:
        for topic, partition, offset, _, shape in event["records"]:
            shapes[topic, partition, offset].add(shape)
    return [f"{place}: {sorted(found)}" for place, found in shapes.items() if len(found) > 1]


def regressed_end(history):
    """The start, the end or the last stable offset of a partition went back, or lies below what had been read or acknowledged."""
    found, low, high = [], defaultdict(int), defaultdict(int)
    for event in history.events:
        if event["type"] != "ok":
            continue
        if event["f"] == "ends":
            place = event["topic"], event["partition"]
            began = history.begun[event["op"]]["at"]
            if event["low"] < low[place]:
                found.append(f"{place}: start {event['low']} after {low[place]}")
            for kind in {event["committed"], True}:  # the end of all is at least the last stable offset
                at_least = max((end for at, end in _upto(high, place, kind) if at < began), default=0)
                if event["high"] < at_least:
                    found.append(f"{place}: end {event['high']} ({'committed' if event['committed'] else 'all'}) after {at_least}")
            low[place] = max(low[place], event["low"])
            _note(high, place, event["committed"], event["at"], event["high"])
        elif event["f"] in ("poll", "final"):
            for topic, partition, offset, _, _ in event["records"]:
                _note(high, (topic, partition), event["committed"], event["at"], offset + 1)
        elif event["f"] == "send":
            for send in event["sends"]:
                _note(high, (send[0], send[1]), False, event["at"], send[3] + 1)
    return found


def _note(high, place, committed, at, end):
    """Remembers the largest end so far, and when it was first known."""
    steps = high.setdefault((place, committed), [])
    if not steps or end > steps[-1][1]:
        steps.append((at, end))


def _upto(high, place, committed):
    return high.get((place, committed), [])


def regressed_commit(history):
    """A group is said to have an offset below one whose commit was acknowledged before that was asked."""
    found, known = [], defaultdict(list)
    for event in history.events:
        if event["type"] == "ok" and event["f"] == "commit":
            known[event["group"], event["topic"], event["partition"]].append((event["at"], event["offset"]))
        elif event["type"] == "ok" and event["f"] == "committed":
            place = event["group"], event["topic"], event["partition"]
            began = history.begun[event["op"]]["at"]
            least = max((offset for at, offset in known[place] if at < began), default=-1)
            if event["offset"] < least:
                found.append(f"{place}: {event['offset']} after {least}")
    return found


def regressed_generation(history):
    """A member's generation or epoch went back."""
    found, last = [], {}
    for event in history._events("generation"):
        before = last.get(event["process"], 0)
        if event["generation"] < before:
            found.append(f"{event['process']}: {event['generation']} after {before}")
        last[event["process"]] = event["generation"]
    return found


COPY = "copy of "
CHECKS = [lost, duplicate, uncopied, inconsistent, unexpected, aborted_read, precommitted_read, nonmonotonic_send, skipped, phantom, drifted,
          regressed_end, regressed_commit, regressed_generation]


def check(events):
    """Each kind of anomaly that the history contains, with all that was found."""
    history = History(events)
    findings = {kind.__name__: kind(history) for kind in CHECKS}
    return {kind: found for kind, found in findings.items() if found}
