"""Apache Kafka's own console tools (the Java client): topics, producer, consumer."""
import os
import subprocess
import sys
from pathlib import Path

from rig import kafka, maven

SERVER = ["--bootstrap-server", os.environ["KAFKA"]]


def tool(name, *arguments, **options):
    done = subprocess.run(kafka.java(f"org.apache.kafka.tools.{name}", *SERVER, *arguments), **options)
    if done.returncode:
        sys.exit(done.returncode)
    return done


def create(topic, partitions):
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", partitions, stdout=subprocess.DEVNULL)


def delete(topic):
    tool("TopicCommand", "--delete", "--topic", topic)


def produce(topic, codec, acks):
    how = ["--request-required-acks", acks, "--command-property", "enable.idempotence=false"]
    if acks == "idempotent":
        how = ["--request-required-acks", "all", "--command-property", "enable.idempotence=true"]
    told = tool("ConsoleProducer", "--topic", topic, "--compression-codec", codec, *how, "--timeout", "5",
                "--reader-property", "parse.key=true", "--reader-property", "key.separator==", stderr=subprocess.PIPE, text=True)
    if "ERROR" in told.stderr:  # the tool logs a record that failed and ends with 0
        sys.exit(told.stderr)


def show(*arguments):
    told = tool("consumer.ConsoleConsumer", *arguments, "--formatter-property", "print.offset=true",
                "--formatter-property", "print.key=true", "--timeout-ms", "30000", stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True).stdout
    for line in told.splitlines():
        print(line.removeprefix("Offset:"))


def read(topic, start, count):
    show("--topic", topic, "--partition", "0", "--offset", "earliest" if start == "beginning" else start,
         "--max-messages", count)


def group(topic, name, count):
    show("--topic", topic, "--group", name, "--from-beginning", "--max-messages", count)


def member(topic, name, protocol="classic"):
    """The consumer itself, as tests/migration runs it."""
    rolling = Path(__file__).resolve().parents[2] / "migration/Rolling.java"
    classpath = maven.classpath(kafka.POM, kafka_version=kafka.VERSION)
    command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", classpath,
               rolling, os.environ["KAFKA"], name, topic, protocol, "one"]
    sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    {f.__name__: f for f in (create, delete, produce, read, group, member)}[sys.argv[1]](*sys.argv[2:])
