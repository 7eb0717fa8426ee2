"""The checker finds each anomaly in a history made for it, alone, and none in a good one."""
import itertools

import pytest

from .check import check

T = "t"


class Book:
    """Writes a history, one step of the clock for each event."""

    def __init__(self):
        self.events, self.clock, self.ops = [], itertools.count(1), itertools.count(1)

    def event(self, op, type, f, process="p", **more):
        self.events.append({"op": op, "type": type, "f": f, "process": process, "at": next(self.clock), **more})

    def send(self, value, offset, outcome="ok", process="p", partition=0):
        op = f"s{next(self.ops)}"
        self.event(op, "invoke", "send", process, sends=[[T, partition, value]])
        ended = [T, partition, value, offset] if outcome == "ok" else [T, partition, value]
        self.event(op, outcome, "send", process, sends=[ended])

    def txn(self, sends, outcome="ok", ask=True, process="x"):
        """`sends`: (value, offset) or (value, offset, partition)."""
        op = f"t{next(self.ops)}"
        places = [(value, offset, *(rest or (0,))) for value, offset, *rest in sends]
        self.event(op, "invoke", "txn", process, sends=[[T, partition, value] for value, _, partition in places])
        if ask:
            self.event(op, "ok", "asked", process)
        self.event(op, outcome, "txn", process, sends=[[T, partition, value, offset] for value, offset, partition in places])

    def read(self, records, f="poll", committed=True, process="r", start=(), shape="same"):
        op = f"r{next(self.ops)}"
        self.event(op, "invoke", f, process)
        records = [[T, *(rest or (0,)), offset, value, shape] for value, offset, *rest in records]
        self.event(op, "ok", f, process, records=records, committed=committed, start=[list(place) for place in start])

    def final(self, records, **more):
        self.read(records, "final", process="f", **more)

    def asked(self, f, process="e", **more):
        op = f"a{next(self.ops)}"
        self.event(op, "invoke", f, process)
        self.event(op, "ok", f, process, topic=T, partition=0, **more)


def good():
    """Sends, transactions with their markers in between, an abort, unknown outcomes, readers of all kinds."""
    book = Book()
    book.asked("ends", low=0, high=0, committed=True)
    book.send("a", 0)
    book.txn([("b", 1), ("c", 2), ("d", 0, 1)])
    book.read([("a", 0), ("b", 1)], start=[(T, 0)])
    book.txn([("no", 4)], outcome="fail", ask=False)
    book.read([("a", 0), ("b", 1), ("c", 2), ("no", 4)], committed=False, process="u")
    book.read([("c", 2)])
    book.send("lost?", None, outcome="info")
    book.send("came", None, outcome="info", process="p2")
    book.txn([("gone", 6)], outcome="info")
    book.asked("ends", low=0, high=7, committed=True)
    book.asked("commit", group="g", offset=3)
    book.asked("committed", group="g", offset=3)
    book.asked("generation", generation=1)
    book.asked("generation", generation=4)
    book.final([("a", 0), ("b", 1), ("c", 2), ("came", 8), ("d", 0, 1)])
    return book


def test_a_good_history_has_no_anomaly():
    assert check(good().events) == {}
    book = good()
    copy_all(book)
    assert check(book.events) == {}


def lost_acknowledged(book):
    book.send("z", 9)


def lost_with_its_transaction(book):
    book.txn([("y", 9)])


def torn_transaction(book):
    book.txn([("y", 9), ("z", 10)], outcome="info")
    book.final([("y", 9)])


def twice_in_the_log(book):
    book.send("z", 9)
    book.final([("z", 9), ("z", 10)])


def copied_twice(book):
    copy_all(book)
    book.txn([("copy of a~9", 9, 1)])
    book.final([("copy of a~9", 9, 1)])


def left_out_by_the_copier(book):
    copy_all(book, but="c")


def copy_all(book, but=None):
    copies = [(f"copy of {value}~1", 2 + n, 1) for n, value in enumerate(value for value in ("a", "b", "c", "came", "d") if value != but)]
    book.txn(copies)
    book.final(copies)


def two_values_at_one_offset(book):
    book.send("z", 9)
    book.send("y", None, outcome="info")
    book.read([("y", 9)], committed=False, process="u")
    book.final([("z", 9)])


def nobody_wrote_it(book):
    book.final([("?", 9)])


def aborted_and_read(book):
    book.txn([("y", 9)], outcome="fail")
    book.final([("y", 9)])


def read_before_it_was_committed(book):
    book.event("t99", "invoke", "txn", "x", sends=[[T, 0, "y"]])
    book.read([("y", 9)], process="new")
    book.event("t99", "ok", "asked", "x")
    book.event("t99", "ok", "txn", "x", sends=[[T, 0, "y", 9]])
    book.final([("y", 9)])


def offsets_of_a_producer_go_back(book):
    book.send("z", 10)
    book.send("y", 9)
    book.final([("y", 9), ("z", 10)])


def offsets_inside_a_transaction_go_back(book):
    book.txn([("z", 10), ("y", 9)])
    book.final([("y", 9), ("z", 10)])


def a_reader_jumps(book):
    book.read([("a", 0), ("c", 2)], process="new", start=[(T, 0)])


def a_reader_goes_back(book):
    book.read([("a", 0), ("b", 1)], process="new", start=[(T, 0)])
    book.read([("b", 1)], process="new")


def read_and_gone(book):
    book.send("z", None, outcome="info", process="p3")
    book.read([("z", 9)], process="new")


def another_time(book):
    book.read([("a", 0)], process="new", shape="other")


def an_end_goes_back(book):
    book.asked("ends", low=0, high=8, committed=False)  # "came" at 8 was read as committed


def a_stable_end_goes_back(book):
    book.asked("ends", low=0, high=20, committed=True)
    book.asked("ends", low=0, high=19, committed=True)


def a_start_goes_back(book):
    book.asked("ends", low=2, high=20, committed=True)
    book.asked("ends", low=1, high=20, committed=True)


def a_commit_is_forgotten(book):
    book.asked("committed", group="g", offset=-1)


def a_generation_comes_again(book):
    book.asked("generation", generation=1)


@pytest.mark.parametrize("plant,kind", [
    (lost_acknowledged, "lost"), (lost_with_its_transaction, "lost"), (torn_transaction, "lost"), (twice_in_the_log, "duplicate"),
    (copied_twice, "duplicate"), (left_out_by_the_copier, "uncopied"),
    (two_values_at_one_offset, "inconsistent"), (nobody_wrote_it, "unexpected"), (aborted_and_read, "aborted_read"),
    (read_before_it_was_committed, "precommitted_read"), (offsets_of_a_producer_go_back, "nonmonotonic_send"),
    (offsets_inside_a_transaction_go_back, "nonmonotonic_send"), (a_reader_jumps, "skipped"), (a_reader_goes_back, "skipped"),
    (read_and_gone, "phantom"), (another_time, "drifted"), (an_end_goes_back, "regressed_end"),
    (a_stable_end_goes_back, "regressed_end"), (a_start_goes_back, "regressed_end"), (a_commit_is_forgotten, "regressed_commit"),
    (a_generation_comes_again, "regressed_generation"),
])
def test_each_anomaly_is_found_and_called_by_its_name(plant, kind):
    book = good()
    plant(book)
    assert list(check(book.events)) == [kind]
