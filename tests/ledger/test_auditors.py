"""Each planted anomaly is found by its audit, and a sound book by none."""
import pytest

from . import log_book, queue_book
from .log_book import Acked, Commit, Ends, LogBook, Seen, Sent
from .queue_book import Delivered, Published, QueueBook, shape_of


def found(audits, book):
    return {audit.__name__ for audit in audits if audit(book)}


def sound_log():
    """Two producers, one partition: four values, the last of unknown outcome but there; one reader saw three."""
    book = LogBook()
    book.sent = [Sent("a", 0, 0), Sent("b", 0, 0), Sent("a", 0, 1), Sent("b", 0, 1), Sent("a", 0, 2)]
    book.acked = [Acked(1.0 + i, sent, i) for i, sent in enumerate(book.sent[:3])]
    book.failed = [book.sent[4]]
    book.final = [Seen("end", 0, i, sent.value, f"key {i}") for i, sent in enumerate(book.sent[:4])]
    book.polled = [seen._replace(reader="tail") for seen in book.final[:3]]
    book.ends = [Ends(0.5, 0, 0, 0), Ends(1.5, 0, 0, 2), Ends(9.0, 0, 0, 4)]
    book.commits = [Commit(2.0, 0, 1), Commit(4.0, 0, 3)]
    book.committed = [Commit(1.0, 0, -1001), Commit(3.0, 0, 1), Commit(5.0, 0, 3)]
    return book


def drop_acked(book):
    del book.final[3:], book.final[1]


def send_nothing(book):
    del book.sent[3]


def read_refused(book):
    book.final.append(Seen("end", 0, 4, "a/0/2", ""))


def write_twice(book):
    book.final.append(Seen("end", 0, 4, "a/0/0", ""))


def two_at_one_offset(book):
    book.polled[1] = book.polled[1]._replace(value="b/0/1")


def acked_elsewhere(book):
    book.acked[1] = book.acked[1]._replace(offset=2)


def swap(book):
    book.final[0], book.final[2] = (book.final[0]._replace(value="a/0/1"), book.final[2]._replace(value="a/0/0"))


def vanish_after_read(book):
    book.polled.append(Seen("tail", 0, 3, "b/0/1", "key 3"))
    del book.final[3]


def new_timestamp(book):
    book.final[0] = book.final[0]._replace(shape="key 0, later")


def jump(book):
    del book.polled[1]


def go_back(book):
    book.polled.append(book.polled[0])


def end_goes_back(book):
    book.ends.append(Ends(10.0, 0, 0, 3))


def start_goes_back(book):
    book.ends += [Ends(10.0, 0, 2, 4), Ends(11.0, 0, 1, 4)]


def end_below_acknowledged(book):
    book.ends[1] = Ends(1.5, 0, 0, 0)


def commit_forgotten(book):
    book.committed.append(Commit(6.0, 0, 1))


def producer_stopped(book):
    book.fatal.append("a: out of order")


@pytest.mark.parametrize("plant,audit", [
    (drop_acked, "lost"), (send_nothing, "invented"), (read_refused, "invented"), (write_twice, "duplicate"),
    (two_at_one_offset, "inconsistent"), (acked_elsewhere, "inconsistent"), (swap, "reordered"),
    (vanish_after_read, "phantom"), (new_timestamp, "drifted"), (jump, "skipped"), (go_back, "skipped"),
    (end_goes_back, "regressed"), (start_goes_back, "regressed"), (end_below_acknowledged, "regressed"),
    (commit_forgotten, "uncommitted"), (producer_stopped, "refused"),
])
def test_an_anomaly_of_a_log_is_found(plant, audit):
    book = sound_log()
    plant(book)
    assert audit in found(log_book.AUDITS, book)


def test_a_sound_log_has_no_anomaly():
    assert found(log_book.AUDITS, sound_log()) == set()


def test_every_audit_of_a_log_has_a_planted_anomaly():
    marks = test_an_anomaly_of_a_log_is_found.pytestmark[0].args[1]
    assert {audit for _, audit in marks} == {audit.__name__ for audit in log_book.AUDITS}


def sound_queues():
    """One publisher, two queues; the second message is delivered again, the last is of unknown outcome and nowhere."""
    book = QueueBook()
    book.published = [Published("p", i, ("x", "y")) for i in range(5)]
    book.confirmed, book.refused = book.published[:3], [book.published[3]]
    book.delivered = [Delivered(q, f"p/{i}", False, shape_of(f"p/{i}")) for i in range(3) for q in "xy"]
    book.delivered.append(book.delivered[2]._replace(redelivered=True))
    book.left = {"x": 0, "y": 0}
    return book


def miss_one_queue(book):
    del book.delivered[5]


def deliver_refused(book):
    book.delivered.append(Delivered("x", "p/3", False, shape_of("p/3")))


def deliver_again(book):
    book.delivered.append(book.delivered[0])


def overtake(book):
    book.delivered[0], book.delivered[4] = book.delivered[4], book.delivered[0]


def reach_half(book):
    book.delivered.append(Delivered("y", "p/4", False, shape_of("p/4")))


def lose_a_header(book):
    book.delivered[0] = book.delivered[0]._replace(shape="2 text/plain")


def leave_one(book):
    book.left["y"] = 1


@pytest.mark.parametrize("plant,audit", [
    (miss_one_queue, "lost"), (deliver_refused, "invented"), (deliver_again, "repeated"), (overtake, "reordered"),
    (reach_half, "torn"), (lose_a_header, "drifted"), (leave_one, "left_over"),
])
def test_an_anomaly_of_queues_is_found(plant, audit):
    book = sound_queues()
    plant(book)
    assert audit in found(queue_book.AUDITS, book)


def test_sound_queues_have_no_anomaly():
    assert found(queue_book.AUDITS, sound_queues()) == set()


def test_every_audit_of_queues_has_a_planted_anomaly():
    marks = test_an_anomaly_of_queues_is_found.pytestmark[0].args[1]
    assert {audit for _, audit in marks} == {audit.__name__ for audit in queue_book.AUDITS}
