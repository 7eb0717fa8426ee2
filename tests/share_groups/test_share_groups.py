"""Share groups with Kafka's own Java client: the same program on Apache Kafka and on Ottla.

    python3 -m pytest tests/share_groups/test_share_groups.py        Ottla (OTTLA names another binary)
    SHARE_BROKER=kafka python3 -m pytest …                      Apache Kafka
    SHARE_STORIES="gone admin"                                  only these
"""
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rig import cache, kafka, maven, ottla  # noqa: E402

PROGRAM = Path(__file__).with_name("ShareStory.java")


@pytest.fixture
def broker():
    on_kafka = os.environ.get("SHARE_BROKER") == "kafka"
    try:
        classpath = maven.classpath(kafka.POM, kafka_version=kafka.VERSION)
        with kafka.Kafka() if on_kafka else ottla.Ottla() as started:
            started.command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                               "-cp", classpath, PROGRAM, started.env()["KAFKA"]]
            yield started
    except cache.Missing as missing:
        pytest.skip(str(missing))


def test_the_rules_of_share_groups(broker):
    done = subprocess.run([*broker.command, "stories", *os.environ.get("SHARE_STORIES", "").split()], capture_output=True, text=True, timeout=280)
    print(done.stdout)
    assert done.returncode == 0 and "all stories told" in done.stdout, done.stdout + done.stderr


def test_what_a_group_gives_up_is_in_its_dead_letter_topic(broker):
    if os.environ.get("SHARE_BROKER") == "kafka":
        pytest.skip("KIP-1191 came after Kafka 4.3.1")
    done = subprocess.run([*broker.command, "buried"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ok  what is given up" in done.stdout, done.stdout + done.stderr


def test_a_killed_broker_loses_no_record_and_brings_no_accepted_one_back(broker):
    program = subprocess.Popen([*broker.command, "crash"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    limit = threading.Timer(240, program.kill)
    limit.start()
    lines, accepted = [], 0
    for line in program.stdout:
        lines.append(line)
        accepted += line.startswith("accepted ")
        if line.startswith("accepted ") and accepted in (300, 600):
            broker.kill()
            broker.start()
    limit.cancel()
    told = "".join(line for line in lines if not line.startswith("accepted "))
    print(told)
    assert program.wait() == 0 and "done: " in told, told
