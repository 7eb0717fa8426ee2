"""The clients, how each is made ready, and what it cannot do."""
import hashlib
import shutil
from pathlib import Path

from rig import cache, maven

HERE = Path(__file__).parent
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
COMMANDS = ("create", "delete", "produce", "transact", "read", "group", "member")


class Client:
    """`prepare()` gives the start of its command line."""

    def __init__(self, name, prepare, codecs=CODECS, cannot=(), protocols=("classic",)):
        self.name, self.prepare, self.codecs, self.protocols = name, prepare, codecs, protocols
        self.commands = [command for command in COMMANDS if command not in cannot]
        self.finds_times = "read at a time" not in cannot


def kcat():
    cache.need(("kcat", "kcat"))
    return [HERE / "kcat/client.sh"]


def python(program):
    return lambda: [cache.python(HERE / "python/requirements.txt"), HERE / "python" / program]


def java():
    cache.need(("java", "default-jre-headless"), ("mvn", "maven"))
    return ["python3", HERE / "java/console.py"]


def node(folder):
    def prepare():
        cache.need(("node", "nodejs"), ("npm", "npm"))
        return ["node", built(folder, ["npm", "ci", "--no-audit", "--no-fund", "--silent"]) / "client.js"]
    return prepare


def amqp_java():
    cache.need(("javac", "default-jdk-headless"))
    jars = maven.classpath(HERE / "amqp-java/pom.xml")
    place = built("amqp-java", ["javac", "-cp", jars, "Client.java"])
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{jars}:{place}", "Client"]


def go(folder):
    def prepare():
        cache.need(("go", "golang-go"))
        return [built(folder, ["go", "build", "-mod=readonly", "-o", "client", "."]) / "client"]
    return prepare


def rust(library):
    def prepare():
        cache.need(("cargo", "cargo"))
        return [built("rust-amqp", ["cargo", "build", "--locked", "--quiet"], 900) / "target/debug/client", library]
    return prepare


def rdkafka():
    cache.need(("cargo", "cargo"), ("cc", "gcc"), ("make", "make"))
    target = cache.folder("clients") / "rust-target"  # librdkafka is compiled once, whatever becomes of our own file
    built("rust-kafka", ["cargo", "build", "--locked", "--quiet", "--target-dir", target], 900)
    return [target / "debug/client"]


def built(name, command, seconds=300):
    """A copy of the client's folder outside the repository, built there once for each state of its files."""
    files = sorted(file for file in (HERE / name).iterdir() if file.is_file())
    key = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    place = cache.folder("clients") / f"{Path(name).name}-{key}"
    with cache.locked(f"client-{Path(name).name}"):
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for file in files:
                shutil.copy(file, place)
            cache.run(command, seconds, cwd=place)
            (place / "ready").touch()
    return place


KAFKA_CLIENTS = {client.name: client for client in [
    Client("confluent-kafka", python("confluent.py"), protocols=("classic", "consumer")),
    Client("aiokafka", python("aiokafka_client.py")),
    Client("kafka-python", python("kafka_python.py")),
    Client("sarama", go("sarama")),
    Client("kcat", kcat, cannot=("create", "delete", "transact")),  # a tool for records only
    Client("franz-go", go("franz-go")),
    Client("rdkafka", rdkafka),
    Client("kafkajs", node("kafkajs"), codecs=("none", "gzip"), cannot=("read",)),  # reads as a member of a group only
    Client("java", java, cannot=("transact", "read at a time"), protocols=("classic", "consumer")),  # the console tools have neither
]}

AMQP_CLIENTS = {  # each can do all
    "pika": python("pika_client.py"),
    "kombu": python("kombu_client.py"),
    "amqplib": node("amqplib"),
    "amqp091-go": go("amqp091-go"),
    "java": amqp_java,
    "lapin": rust("lapin"),
    "amqprs": rust("amqprs"),
}
