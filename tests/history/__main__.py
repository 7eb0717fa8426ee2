"""Clients of two libraries write down all they do while their broker is killed, paused and filled up; then the history is checked.

    python -m history --system ottla|kafka [--faults N] [--seed N]     exit 0 if nothing is wrong
    python -m history --planted BUG                                    exit 0 if the planted bug of a debug build is caught
    python -m history --planted none                                   the same faults without a bug: exit 0 if nothing is wrong
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from rig import cache, kafka, maven, process, suites

from .between import END_TXN, OFFSET_COMMIT, PRODUCE, Between
from .book import load
from .check import CHECKS, check

HERE = Path(__file__).parent
PARTITIONS, COPIES = 4, 2
PLANTED = {  # the bug, what it must be caught as, and the fault that shows it; without a bug all of them, and nothing is found
    "transaction-lost-at-begin": ("unended", ["end of a transaction"]),
    "marker-of-one-partition": ("unended", ["end of a transaction, no kill"]),
    "duplicate-window-lost": ("duplicate", ["answer to a batch"]),
    "group-forgotten": ("regressed_commit", ["answer to a commit"]),
    "none": (None, ["end of a transaction", "answer to a batch", "answer to a commit", "end of a transaction, no kill"]),
}
SHOWN_MAX = 8
DISK_MIB, FULL_S = 640, 2
END_S = 200  # for a worker to end
SETTLE_S = 60  # for the last transactions to end and the last reader to read
SETTLE_PLANTED_S = 12  # where they may never end; longer than the timeout of one whose producer is gone
MET_S = 30  # for the moment of a fault to come


class Worker:
    def __init__(self, name, command, home, arguments):
        self.book, self.log = home / f"{name}.jsonl", home / f"{name}.log"
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([*map(str, command), *arguments, str(self.book)], stdin=subprocess.PIPE, stdout=out, stderr=out, text=True)

    def tell(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def wait_until_it_says(self, word):
        deadline = time.monotonic() + END_S
        while word not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def finish(self):
        """What it complained about."""
        self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return [f"{self.book.name}: did not end", *self.log.read_text().splitlines()[-20:]]
        return [line for line in self.log.read_text().splitlines() if line not in ("", "stopping", "stopped") and "slf4j" not in line.lower()]


def main():
    options = arguments()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"# history: --system {options.system} --faults {options.faults} --seed {seed}"
          + (f" --planted {options.planted}" if options.planted else ""), flush=True)
    if options.planted not in (None, "none"):
        os.environ["OTTLA_PLANTED_BUG"] = options.planted
    home = Path(tempfile.mkdtemp(prefix="ottla-history-"))
    try:
        events, findings = history(options, seed, home)
    except process.NotReady as error:
        events, findings = [], {"not ready": [str(error)]}
    kinds = ", ".join(f"{count} {kind}" for kind, count in counted(events).items())
    print(f"# {len(events)} events: {kinds}", flush=True)
    for kind, found in findings.items():
        print(f"{kind}: {len(found)}", *found[:SHOWN_MAX], sep="\n    ", flush=True)
    expected = PLANTED[options.planted][0] if options.planted else None
    if expected:
        print(f"# {options.planted}: {f'caught as {expected}' if expected in findings else 'NOT CAUGHT'}", flush=True)
    good = expected in findings if expected else not findings
    if good:
        shutil.rmtree(home)
        print("1 passed in 0.0s", flush=True)
        return 0
    print(f"# the history is kept in {home}", flush=True)
    return 1


def arguments():
    parser = argparse.ArgumentParser(prog="history", description=__doc__)
    parser.add_argument("--system", choices=("ottla", "kafka"), default="ottla")
    parser.add_argument("--faults", type=int, default=8)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--planted", choices=PLANTED)
    return parser.parse_args()


@contextmanager
def small_disk(home, system):
    """A place for the broker's data that can be filled up, or nothing where none can be made."""
    place = home / "disk"
    place.mkdir()
    if system != "ottla" or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", place], capture_output=True).returncode:
        if system == "ottla":
            print("# no tmpfs can be mounted here: the disk will not be full", flush=True)
        yield None
        return
    tempfile.tempdir = str(place)
    try:
        yield place
    finally:
        tempfile.tempdir = None
        subprocess.run(["umount", place], check=True)


def fill(place):
    """Takes all the room there is for a while."""
    room = os.statvfs(place)
    with open(place / "others", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize)
        except OSError:
            pass  # somebody was quicker
        time.sleep(FULL_S)
    os.unlink(place / "others")


def history(options, seed, home):
    with small_disk(home, options.system) as place:
        return history_on(place, options, seed, home)


def history_on(place, options, seed, home):
    between = Between() if options.planted else None
    with suites.Ottla("--advertise", f"127.0.0.1:{between.port}") if between else suites.SYSTEMS[options.system]() as broker:
        if between:
            between.start(int(broker.env()["KAFKA"].rsplit(":", 1)[1]))
        address, topic = f"127.0.0.1:{between.port}" if between else broker.env()["KAFKA"], f"history-{seed}"
        new = [NewTopic(topic, PARTITIONS, 1), NewTopic(f"{topic}-copies", COPIES, 1)]
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        for made in admin.create_topics(new).values():
            made.result(30)
        workers = start(home, [address, topic, str(PARTITIONS), str(seed)], with_java=not options.planted)  # a bug needs no second library
        try:
            if between:
                provoke(broker, between, workers, PLANTED[options.planted][1])
            else:
                disturb(broker, place, workers, random.Random(seed), options)
            complaints = finish(workers)
        finally:
            for worker in workers:
                worker.process.kill()
        # what librdkafka says itself is no finding: a commit whose answer was lost may be fatal to its producer, the outcome unknown
        complaints = [line for line in complaints if not line.startswith("%")]
        if complaints:
            print(broker.log_tail(), flush=True)
    events = load([worker.book for worker in workers])
    findings = check(events)
    unended = [line for line in complaints if "an open transaction" in line]
    for kind, found in ("unended", unended), ("workers", [line for line in complaints if line not in unended]):
        if found:
            findings[kind] = found
    return events, findings


def start(home, arguments, with_java):
    settle = SETTLE_S if with_java else SETTLE_PLANTED_S
    workers = [Worker("librdkafka", [sys.executable, "-m", "history.librdkafka"], home, [*arguments, str(settle)])]
    if with_java:
        classpath = maven.compiled(HERE / "HistoryWorker.java", maven.classpath(kafka.POM, kafka_version=kafka.VERSION))
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
                   "-cp", classpath, "HistoryWorker"]
        workers.append(Worker("java", command, home, arguments))
    return workers


def provoke(broker, between, workers, faults):
    """Each fault at the very moment that shows what it may break, found in what passes between clients and broker. The last one comes
    when the writers are about to stop: nothing that they do later makes good for it."""
    book = workers[0].book
    for number, fault in enumerate(faults):
        wait_for_progress(workers[0], number)
        if not between.catch(lambda frame: MOMENTS[fault](frame, book)).wait(MET_S):
            raise process.NotReady(f"no {fault} was seen within {MET_S} s\n{workers[0].log.read_text()}")
        if fault == faults[-1]:
            workers[0].tell("stop")
            workers[0].wait_until_it_says("stopping")
        if fault.endswith("no kill"):
            between.release()
            continue
        broker.kill()
        between.cut()
        broker.start()
    print(f"# met: {', '.join(faults)}", flush=True)


def commits_two_partitions(frame, book):
    """A transaction with records on two partitions, all of them acknowledged, and its client asks for the commit: that is how the book ends."""
    if frame.api != END_TXN or frame.is_answer:
        return False
    name, sends, asked = frame.transactional_id().split("-", 2)[2], [], False
    for event in load([book]):
        if event["f"] in ("txn", "asked") and event["process"].startswith(f"{name}/"):
            sends, asked = event.get("sends", sends), event["f"] == "asked"
    return asked and len({partition for _, partition, *_ in sends}) >= 2


MOMENTS = {
    "end of a transaction": commits_two_partitions,
    "end of a transaction, no kill": commits_two_partitions,
    # the broker has it, and its client will send it again
    "answer to a batch": lambda frame, _: frame.api == PRODUCE and frame.is_answer and not frame.transactional_id(),
    # its client goes round the partitions: several have an acknowledged commit by now
    "answer to a commit": lambda frame, book: frame.api == OFFSET_COMMIT and frame.is_answer and commits(book) > PARTITIONS,
}


def commits(book):
    return sum(event["f"] == "commit" and event["type"] == "ok" for event in load([book]))


def disturb(broker, place, workers, chance, options):
    """A fault only once each worker has done something since the last one: a fault that nobody meets shows nothing."""
    met = Counter()
    for number in range(options.faults):
        for worker in workers:
            wait_for_progress(worker, number)
        time.sleep(chance.uniform(0.1, 1.5))
        if place and number % 4 == 2:
            fill(place)
            met["full disk"] += 1
        elif chance.random() < 0.6:
            broker.kill()
            broker.start()
            met["kill"] += 1
        else:
            broker.server.pause()
            time.sleep(chance.choice([0.3, 1, 3]))
            broker.server.resume()
            met["pause"] += 1
    for worker in workers:
        wait_for_progress(worker, options.faults)
    print("# " + ", ".join(f"{count} times: {kind}" for kind, count in met.items()), flush=True)


def wait_for_progress(worker, number):
    """Until something was acknowledged."""
    seen, deadline = acknowledged(worker), time.monotonic() + 60
    while acknowledged(worker) < seen + 20:
        if time.monotonic() > deadline or worker.process.poll() is not None:
            raise process.NotReady(f"{worker.book.stem}: nothing acknowledged for 60 s after fault {number}\n{worker.log.read_text()}")
        time.sleep(0.1)


def acknowledged(worker):
    if not worker.book.exists():
        return 0
    text = worker.book.read_text()
    return sum(text.count(f'"ok", "f": "{f}"') + text.count(f'"ok","f":"{f}"') for f in ("send", "txn"))


def finish(workers):
    """First those who write end, then those who copy, then the last reader reads."""
    if "stopping" not in workers[0].log.read_text():
        workers[0].tell("stop")
    workers[0].wait_until_it_says("stopped")
    return [complaint for worker in reversed(workers) for complaint in worker.finish()]


def counted(events):
    counts = {}
    for event in events:
        if event["type"] != "invoke":
            kind = f"{event['f']} {event['type']}"
            counts[kind] = counts.get(kind, 0) + 1
    return counts


if __name__ == "__main__":
    assert len(CHECKS) == len({kind.__name__ for kind in CHECKS})
    try:
        sys.exit(main())
    except cache.Missing as missing:
        print(missing)
        sys.exit(cache.UNAVAILABLE)
