"""Runs clients against a broker that is killed at random moments, then audits the books."""
import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rig import cache, process, suites

from . import log_book, queue_book
from .log_work import LogWork
from .queue_work import QueueWork

SHOWN_MAX = 10  # findings of one kind that are printed; all are in the saved books


def main():
    logging.disable(logging.CRITICAL)  # clients that lose their broker talk much
    options = arguments()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    system = suites.SYSTEMS[options.system]()
    print(f"# ledger: --system {options.system} --kills {options.kills} --seed {seed}", flush=True)
    with system as broker:
        print(f"# {broker.name}: {broker.env()}", flush=True)
        works = works_for(broker.env(), seed, options)
        for work in works:
            work.start()
        findings, ready = kill_and_start(broker, works, random.Random(seed), options)
        for work in works:
            work.finish()
            print(f"# {work.book.counts()}", flush=True)
            findings += audit(work, options.system)
        if findings:
            print(broker.server.tail() if hasattr(broker, "server") else "", flush=True)
    if ready:
        print(f"# {len(ready)} kills; ready again after {min(ready):.2f} to {max(ready):.2f} s", flush=True)
    return conclude(findings, works, options.system, seed)


def arguments():
    parser = argparse.ArgumentParser(prog="ledger", description=__doc__)
    parser.add_argument("--system", choices=suites.SYSTEMS, default="ottla")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, help="printed by each run; the moments of the kills and the clients' choices")
    parser.add_argument("--most", type=float, default=2.0, help="seconds at most between progress and the next kill")
    parser.add_argument("--no-commits", action="store_true", help="do not commit offsets")
    parser.add_argument("--rollback", action="store_true",
                        help="put the data of the first kill back at the second: the audits must fail")
    parser.add_argument("--only", choices=["log", "queues"], help="one half where the system has both")
    return parser.parse_args()


def works_for(env, seed, options):
    works = []
    if "KAFKA" in env and options.only != "queues":
        works.append(LogWork(env["KAFKA"], seed, commits=not options.no_commits))
    if "AMQP" in env and options.only != "log":
        works.append(QueueWork(env["AMQP"], seed))
    return works


def kill_and_start(broker, works, chance, options):
    """Kills only a broker that acknowledged something since it was started: a kill of nothing proves nothing."""
    findings, ready = [], []
    for number in range(options.kills):
        for work in works:
            before, deadline = work.progress(), time.monotonic() + 30
            while work.progress() == before and time.monotonic() < deadline:
                time.sleep(0.01)
            if work.progress() == before:
                findings.append(("stuck", [f"{type(work).__name__}: nothing acknowledged for 30 s after start {number}"]))
                return findings, ready
        time.sleep(chance.uniform(0, options.most))
        broker.kill()
        if options.rollback:
            roll_back(Path(broker.home.name), number)
        killed = time.monotonic()
        try:
            broker.start()
        except process.NotReady as error:
            findings.append(("not ready", [f"after kill {number + 1}: {error}"]))
            return findings, ready
        ready.append(time.monotonic() - killed)
        if (number + 1) % 10 == 0:
            print(f"# killed {number + 1} times of {options.kills}", flush=True)
    return findings, ready


def roll_back(home, number):
    """A broker that forgets: what was acknowledged between the first kill and the second is gone."""
    data, copy = home / "data", home / "copy"
    if number == 0:
        shutil.copytree(data, copy)
    elif number == 1:
        shutil.rmtree(data)
        copy.rename(data)


def audit(work, system):
    audits = log_book.AUDITS if isinstance(work, LogWork) else \
        queue_book.AUDITS if system == "ottla" else queue_book.RABBITMQ_AUDITS
    findings = [(check.__name__, check(work.book)) for check in audits]
    findings.append(("workers", work.errors))
    return [(name, found) for name, found in findings if found]


def conclude(findings, works, system, seed):
    for name, found in findings:
        print(f"{name}: {len(found)}", *found[:SHOWN_MAX], sep="\n    ", flush=True)
    if not findings:
        print("# nothing lost, doubled, reordered or gone\n1 passed in 0.0s", flush=True)
        return 0
    kept = Path(tempfile.mkdtemp(prefix="ottla-ledger-")) / "books.json"
    kept.write_text(json.dumps([vars(work.book) for work in works]))
    print(f"# books kept in {kept}; again with --system {system} --seed {seed}", flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except cache.Missing as missing:
        print(missing)
        sys.exit(cache.UNAVAILABLE)
