import contextlib
import os
import shlex
import subprocess
import time
import uuid

import pika
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

AMQP, KAFKA = os.environ["AMQP"], os.environ["KAFKA"]
STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def name():
    """A name no other test has."""
    return f"bridge-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def connect():
    """Opens connections and closes them at the end."""
    opened = []

    def connect():
        opened.append(pika.BlockingConnection(pika.URLParameters(AMQP)))
        return opened[-1]

    yield connect
    for connection in opened:
        with contextlib.suppress(pika.exceptions.AMQPError):  # the broker may have been killed
            if connection.is_open:
                connection.close()


@pytest.fixture
def restart():
    """Kills the broker and starts it again on the same data."""
    return lambda: subprocess.run(shlex.split(os.environ["RESTART"]), check=True, timeout=120)


@pytest.fixture
def make_topic():
    admin = AdminClient({"bootstrap.servers": KAFKA})

    def make(name, partitions=1, **config):
        config = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        admin.create_topics([new])[name].result(15)
        return name
    return make


def kafka_read(topic, count, partition=0, seconds=15.0):
    """The first `count` records of a partition, committed ones only, and whatever follows in half a second."""
    consumer = Consumer({
        "bootstrap.servers": KAFKA, "group.id": "none", "enable.auto.commit": False, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    got, deadline = [], time.time() + seconds
    while len(got) < count and time.time() < deadline:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            got.append(message)
    while (message := consumer.poll(0.5)) is not None:
        if not message.error():
            got.append(message)
    consumer.close()
    return got


def amqp_read(connection, queue, count, offset="first", prefetch=100, seconds=15.0):
    """`count` messages of a stream from an offset on, and whatever follows in half a second."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=prefetch)
    got = []

    def take(channel, method, properties, body):
        got.append((method, properties, body))
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, take, arguments={"x-stream-offset": offset})
    deadline = time.time() + seconds
    while len(got) < count and time.time() < deadline:
        connection.process_data_events(0.05)
    connection.process_data_events(0.5)
    channel.close()
    return got
