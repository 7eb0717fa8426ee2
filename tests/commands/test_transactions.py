"""`ottla txn`: the same commands on Ottla and on Apache Kafka."""
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition


@pytest.fixture
def open_transaction(kafka, topic, name):
    """A producer with one committed and one open transaction, each with a record in both partitions."""
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name, "transaction.timeout.ms": 50000})
    producer.init_transactions(30)
    for value in ("committed", "open"):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(topic, value, partition=partition)
        assert producer.flush(30) == 0
        if value == "committed":
            producer.commit_transaction(30)
    return producer


def committed(kafka, topic):
    """What a reader of committed records sees of partition 0 behind the first ten, for two seconds."""
    reader = Consumer({"bootstrap.servers": kafka, "group.id": "nobody", "isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, 0, 10)])
    seen, deadline = [], time.time() + 2
    while time.time() < deadline:
        message = reader.poll(0.1)
        seen += [message.value().decode()] if message and not message.error() else []
    reader.close()
    return seen


def test_an_open_transaction_is_shown_and_aborted(open_transaction, kafka, topic, name, told, ottla):
    assert [found["state"] for found in told("txn", "list") if found["transactional_id"] == name] == ["Ongoing"]
    assert name in ottla("txn", "list", "--state", "Ongoing").ok()
    assert name not in ottla("txn", "list", "--state", "Empty").ok()
    shown = told("txn", "describe", name)
    assert (shown["state"], shown["timeout_ms"]) == ("Ongoing", 50000)
    assert shown["partitions"] == [{"topic": topic, "partition": 0}, {"topic": topic, "partition": 1}]
    assert abs(shown["started_ms"] - time.time() * 1000) < 60_000
    text = ottla("txn", "describe", name).ok()
    assert f"{name}: Ongoing, producer {shown['producer_id']}, epoch {shown['producer_epoch']}" in text and "open since" in text
    assert "fenced" in ottla("txn", "abort", name).ok()
    after = told("txn", "describe", name)
    assert after["state"] != "Ongoing" and after["partitions"] == []
    assert committed(kafka, topic) == ["committed"]
    with pytest.raises(KafkaException):  # the producer was fenced
        open_transaction.commit_transaction(30)


def test_what_is_not_open_cannot_be_aborted(kafka, topic, name, told, ottla):
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name})
    producer.init_transactions(30)
    ottla("txn", "abort", name).failed(65, "no open transaction", "Empty", "--state Ongoing")
    ottla("txn", "abort", "no-" + name).failed(65, f"there is no transactional id no-{name}", "`ottla txn list`")
    ottla("txn", "describe", "no-" + name).failed(65, f"there is no transactional id no-{name}")
    ottla("txn", "list", "--state", "Hanging").failed(64, "no such state", "Ongoing")
