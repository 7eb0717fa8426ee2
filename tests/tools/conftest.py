"""Kafka's command line tools against Apache Kafka and Ottla at once: what they say must be the same."""
import base64
import difflib
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from rig import kafka, maven, ottla, wire  # noqa: F401

TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "share-groups": "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
    "groups": "org.apache.kafka.tools.GroupsCommand",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
    "features": "org.apache.kafka.tools.FeatureCommand",
    "metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "cluster": "org.apache.kafka.tools.ClusterTool",
    "console-share-consumer": "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
    "producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
}


# Apache Kafka answers a change before its broker has applied it: where it is asked what is so, it may be asked again. Ottla is not.
READS = {"--describe", "describe", "--list", "list"}
PATIENCE = 2


class ToolBox:
    """The tools in one Java process, against one broker."""

    def __init__(self, broker):
        self.broker, self.address = broker, broker.env()["KAFKA"]
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
                   maven.classpath(kafka.POM, kafka_version=kafka.VERSION), Path(__file__).with_name("ToolBox.java")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def run(self, tool, *arguments):
        """What a tool said, and its exit code."""
        words = [TOOLS[tool], *(str(word).replace("{broker}", self.address) for word in arguments)]
        self.process.stdin.write(" ".join(base64.b64encode(word.encode()).decode() for word in words) + "\n")
        self.process.stdin.flush()
        code, _, told = self.process.stdout.readline().strip().partition(" ")
        return int(code), base64.b64decode(told).decode()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


def plain(said, address):
    """Without what differs from run to run: addresses, ids, folders; and without the setting that Kafka makes for its replicas (ELR)."""
    said = re.sub(r"[^\n]*min\.insync\.replicas=1 sens[^\n]*\n|min\.insync\.replicas=1,?", "", said)
    said = re.sub(r"/tmp/ottla-\w+-\w+/data", "FOLDER", said)
    said = said.replace(address, "BROKER").replace("127.0.0.1", "HOST").replace(address.split(":")[1], "PORT")
    said = re.sub(r"(?<![\w-])[\w-]{22}(?![\w-])", "ID", said)
    lines = [re.sub(r"\s+", " ", line).strip() for line in said.split("\n")]
    return [line for line in lines if line and not re.match(r"at [\w.$/]+\(|at java.base/|at jdk.compiler|\.\.\. \d+ more", line)]


@pytest.fixture(scope="session")
def brokers():
    with kafka.Kafka() as real, ottla.Ottla() as ours:
        yield real, ours


@pytest.fixture(scope="session")
def boxes(brokers):
    both = [ToolBox(broker) for broker in brokers]
    yield both
    for box in both:
        box.stop()


def at_once(boxes, tool, given):
    """Runs a tool against each broker at the same time."""
    answers = {}
    threads = [threading.Thread(target=lambda box=box: answers.__setitem__(box, box.run(tool, *given))) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[box] for box in boxes]


@pytest.fixture
def both(boxes):
    """Runs a tool against both brokers; fails where they do not say the same, else tells the lines."""
    differing = []

    def run(tool, *arguments, bootstrap="--bootstrap-server", code=0, but=lambda line: line, order=False, tries=1):
        given = [*([bootstrap, "{broker}"] if bootstrap else []), *arguments]

        def kept(said, box):
            if os.environ.get("TOOLS_SHOW"):
                print(f"=== {box.broker} {tool} {arguments}\n{said}")
            lines = [changed for changed in map(but, plain(said, box.address)) if changed is not None]
            return sorted(lines) if order else lines

        for _ in range(tries):
            (real_code, real), (our_code, ours) = at_once(boxes, tool, given)
            real, ours = kept(real, boxes[0]), kept(ours, boxes[1])
            end = time.monotonic() + PATIENCE
            while real != ours and READS.intersection(arguments) and time.monotonic() < end:
                real_code, real = boxes[0].run(tool, *given)
                real = kept(real, boxes[0])
            if real == ours:
                break
        if real != ours or (real_code, our_code) != (code, code):
            told = difflib.unified_diff(real, ours, f"Apache Kafka: exit {real_code}", f"Ottla: exit {our_code}", n=1, lineterm="")
            differing.append("\n    ".join([f"{tool} {' '.join(map(str, arguments))}", *told]))
        return ours

    yield run
    assert not differing, "\n" + "\n".join(differing)


@pytest.fixture
def each(brokers):
    """Does something with the address of each broker."""
    return lambda act: [act(broker.env()["KAFKA"]) for broker in brokers]
