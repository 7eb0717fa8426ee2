"""Section 5 of the seed document: the harm of what to avoid with Kafka, and what does without it (docs/guide/anti-patterns.md)."""
import subprocess
import sys
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from test_confluent_kafka import produce


def length(kafka, topic):
    """How many records a topic of one partition has been given."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "length-" + topic})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), 15)[1]
    finally:
        consumer.close()


def leaves_after_produce(kafka, topic, *before_leaving):
    """A program that hands a record to its producer and ends."""
    lines = ["import os", "from confluent_kafka import Producer", f"producer = Producer({{'bootstrap.servers': {kafka!r}}})",
             f"producer.produce({topic!r}, b'order')", *before_leaving, "os._exit(0)"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=60)


def test_a_program_that_ends_without_flush_has_sent_nothing(kafka, topic):
    orders = topic()
    leaves_after_produce(kafka, orders)
    assert length(kafka, orders) == 0
    leaves_after_produce(kafka, orders, "assert producer.flush(30) == 0")
    assert length(kafka, orders) == 1


def works(kafka, topic, group, auto_commit):
    """A worker that fails at the third order and closes its consumer, then one that does not fail: what both have done."""
    done = []
    for fails in (True, False):
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"{group}-{topic}", "auto.offset.reset": "earliest",
                             "enable.auto.commit": auto_commit, "enable.partition.eof": True})
        consumer.subscribe([topic])
        deadline = time.time() + 40
        while time.time() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF
                break
            if fails and message.value() == b"3":
                break  # as an exception would
            done.append(message.value())
            if not auto_commit:
                consumer.commit(message, asynchronous=False)
        consumer.close()
    return done


def test_auto_commit_commits_what_was_not_done(kafka, topic):
    orders = topic()
    produce(kafka, orders, [b"1", b"2", b"3", b"4", b"5"])
    assert works(kafka, orders, "auto", auto_commit=True) == [b"1", b"2", b"4", b"5"]  # the third is lost
    assert works(kafka, orders, "manual", auto_commit=False) == [b"1", b"2", b"3", b"4", b"5"]


def test_a_consumer_for_each_message_joins_its_group_for_each_message(kafka, topic):
    orders = topic()
    produce(kafka, orders, [b"%d" % i for i in range(4)])
    joins = []

    def read(count, group):
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"{group}-{orders}", "auto.offset.reset": "earliest",
                             "enable.auto.commit": False})
        consumer.subscribe([orders], on_assign=lambda _, partitions: joins.append(group))
        deadline = time.time() + 40
        while count and time.time() < deadline:
            message = consumer.poll(1.0)
            if message is not None and not message.error():
                consumer.commit(message, asynchronous=False)
                count -= 1
        consumer.close()
        assert count == 0

    for _ in range(4):
        read(1, "each")
    read(4, "one")
    assert joins == ["each"] * 4 + ["one"]
