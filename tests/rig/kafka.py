"""Apache Kafka, one KRaft node, from Maven."""
import base64
import os
import tempfile
import uuid
from pathlib import Path

from . import cache, maven, process, wire

VERSION = os.environ.get("OTTLA_KAFKA_VERSION", "4.3.1")
POM = Path(__file__).with_name("kafka-pom.xml")
SETTINGS = {  # what one node needs, and no waiting; the rest is as shipped
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}


def java(main, *arguments, heap="256m", loud="warn"):
    """A command line for a class of the server or its tools."""
    return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dorg.slf4j.simpleLogger.defaultLogLevel={loud}",
            "-cp", maven.classpath(POM, kafka_version=VERSION), main, *map(str, arguments)]


class Kafka:
    """`with Kafka() as broker:` starts it; `broker.env()` is what the acceptance tests read."""

    name = f"Apache Kafka {VERSION}"

    def __init__(self, port=None, **settings):
        self.wanted, self.settings = port, settings

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory(prefix="ottla-kafka-")
        self.port, controller = self.wanted or process.free_port(), process.free_port()
        config = {
            **SETTINGS,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": f"{self.home.name}/data",
            **self.settings,
        }
        self.config = Path(self.home.name) / "server.properties"
        self.config.write_text("".join(f"{key}={value}\n" for key, value in config.items()))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        cache.run(java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", self.config), 60)
        self.start()
        return self

    def start(self):
        self.server = process.Server(self.name, java("kafka.Kafka", self.config, heap="768m"), f"{self.home.name}/log")
        self.server.wait_until(lambda: wire.speaks_kafka(self.port), 60)

    def kill(self):
        self.server.kill()

    def log_tail(self):
        return self.server.tail()

    def env(self):
        return {"KAFKA": f"127.0.0.1:{self.port}"}

    def __exit__(self, *_):
        self.server.stop()
        self.home.cleanup()
