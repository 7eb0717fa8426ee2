"""A disk of 300 MiB under a whole Ottla with real clients: what adds data is refused, everything else goes on, and what is
deleted makes room without a restart."""
import os
import subprocess
import time
from pathlib import Path

import pika
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from rig import kafka, maven

KAFKA, AMQP = os.environ["KAFKA"], os.environ["AMQP"]
SHARE_STORY = Path(__file__).parents[1] / "share_groups/ShareStory.java"
BODY = b"x" * 100_000


def produce(topic, count, timeout_ms, batch=10):
    """Sends messages one batch after another; how many were acknowledged and what the others met."""
    producer = Producer({"bootstrap.servers": KAFKA, "message.timeout.ms": timeout_ms, "queue.buffering.max.kbytes": 65536, "batch.num.messages": batch})
    acked, errors = [], []
    for _ in range(count):
        while True:
            try:
                producer.produce(topic, BODY, on_delivery=lambda error, message: (errors if error else acked).append(error))
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
        if errors:
            break
    producer.purge(in_queue=True, in_flight=False) if errors else None
    producer.flush(30)
    return len(acked), errors


class Java:
    """A program of Kafka's own Java client: a producer, a share group with dead letters, a consumer."""

    def __init__(self):
        classpath = maven.classpath(kafka.POM, kafka_version=kafka.VERSION)
        command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", classpath, SHARE_STORY, KAFKA, "full"]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def says(self, word):
        line = self.program.stdout.readline()
        assert line.startswith(word), line + self.program.stdout.read()

    def hears(self, word):
        self.program.stdin.write(word + "\n")
        self.program.stdin.flush()


@pytest.fixture
def java():
    program = Java()
    yield program
    program.program.kill()
    program.program.wait()


def wait_until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_a_full_disk_refuses_publishers_alone_and_takes_more_once_something_is_deleted(java):
    admin = AdminClient({"bootstrap.servers": KAFKA})
    for future in admin.create_topics([NewTopic("big", 1), NewTopic("small", 1)]).values():
        future.result(10)
    publisher, worker = (pika.BlockingConnection(pika.URLParameters(AMQP)) for _ in range(2))
    told = []
    publisher.add_on_connection_blocked_callback(lambda *_: told.append("blocked"))
    publisher.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
    channel, jobs = publisher.channel(), worker.channel()
    channel.queue_declare("jobs", durable=True)
    for _ in range(10):
        channel.basic_publish("", "jobs", b"job", pika.BasicProperties(delivery_mode=2))
    assert produce("small", 1, 10_000) == (1, [])

    java.says("ready")
    acked, errors = produce("big", 4_000, 6_000)
    assert errors, "the disk is never full"
    for _ in range(10):  # what the log gives back is used, too
        more, errors = produce("big", 100, 1_500, batch=1)
        acked += more
        if not more:
            break
    assert 500 < acked < 3_000, f"{acked} messages of 100 kB on 300 MiB"

    java.hears("the disk is full")
    java.says("works")

    # Everything that was acknowledged is read, and offsets are committed.
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "readers", "enable.auto.commit": False})
    consumer.assign([TopicPartition("big", 0, 0)])
    read = 0
    while read < acked:
        messages = consumer.consume(100, 10)
        assert messages, f"{read} of {acked} are read"
        read += len([message for message in messages if message.error() is None])
    consumer.commit(offsets=[TopicPartition("big", 0, read)], asynchronous=False)
    assert consumer.committed([TopicPartition("big", 0)], 10)[0].offset == read
    consumer.close()

    # A publisher is told and held back; a worker works.
    properties = pika.BasicProperties(delivery_mode=2)
    for _ in range(200):
        channel.basic_publish("", "jobs", BODY, properties)
        publisher.process_data_events(0)
        if told:
            break
    wait_until("connection.blocked", lambda: publisher.process_data_events(0.05) or told == ["blocked"])
    for _ in range(10):
        method, _, _ = jobs.basic_get("jobs")
        jobs.basic_ack(method.delivery_tag)
    worker.process_data_events(0.1)

    for future in admin.delete_topics(["big"]).values():
        future.result(10)
    wait_until("connection.unblocked", lambda: publisher.process_data_events(0.05) or told == ["blocked", "unblocked"])
    assert produce("small", 100, 20_000) == (100, []), "there is room again"
    java.hears("there is room")
    java.says("ok")
    publisher.close()
    worker.close()
