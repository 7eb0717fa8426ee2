"""An exchange that feeds work queues and a topic; a topic that AMQP's clients read."""
import json
import threading
import time

import pika
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from conftest import KAFKA, STREAM, amqp_read, kafka_read


def stream(channel, name, **arguments):
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    channel.queue_declare(name, durable=True, arguments={**STREAM, **arguments})


def test_one_publish_feeds_a_work_queue_and_a_log(connect, name):
    channel = connect().channel()
    channel.confirm_delivery()
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare(name + ".work", durable=True)
    stream(channel, name + ".log")
    channel.queue_bind(name + ".work", name, "order.*")
    channel.queue_bind(name + ".log", name, "#")
    for number in range(10):
        channel.basic_publish(name, f"order.{number}", json.dumps({"n": number}).encode(), pika.BasicProperties(
            delivery_mode=2, content_type="application/json", headers={"tenant": "eu", "n": number, "deep": {"a": [1]}},
            correlation_id=f"c{number}", timestamp=1700000000))
    channel.basic_publish(name, "audit", b"for the log only")
    work = []
    while (got := channel.basic_get(name + ".work", auto_ack=True))[0]:
        work.append(got[2])
    assert work == [json.dumps({"n": number}).encode() for number in range(10)]
    records = kafka_read(name + ".log", 11)
    assert [record.key() for record in records] == [f"order.{number}".encode() for number in range(10)] + [b"audit"]
    assert [record.offset() for record in records] == list(range(11))
    third = records[3]
    headers = dict(third.headers())
    assert third.value() == b'{"n": 3}' and headers["tenant"] == b"eu" and headers["n"] == b"3"
    assert headers["amqp.exchange"] == name.encode() and headers["amqp.content-type"] == b"application/json"
    assert headers["amqp.correlation-id"] == b"c3" and "deep" not in headers
    again = amqp_read(connect(), name + ".log", 11)
    assert [method.routing_key for method, _, _ in again] == [f"order.{number}" for number in range(10)] + ["audit"]
    properties = again[3][1]
    assert properties.headers == {"tenant": "eu", "n": 3, "deep": {"a": [1]}, "x-stream-offset": 3}
    assert (properties.content_type, properties.correlation_id, properties.timestamp) == ("application/json", "c3", 1700000000)


def test_what_kafka_produces_is_delivered_with_key_headers_and_time(connect, make_topic, name):
    make_topic(name)
    producer = Producer({"bootstrap.servers": KAFKA, "compression.type": "lz4", "linger.ms": 50})
    for number in range(100):
        headers = [("trace", b"t%d" % number), ("binary", b"\xff\x00"), ("amqp.content-type", b"text/plain")]
        producer.produce(name, b"v%d" % number, f"k{number}", headers=headers, timestamp=1700000000123 + number)
    producer.produce(name, None, "tombstone")
    assert producer.flush(15) == 0
    channel = connect().channel()
    stream(channel, name)
    got = amqp_read(connect(), name, 101, prefetch=7)
    assert [(method.routing_key, body) for method, _, body in got] == [
        *((f"k{number}", b"v%d" % number) for number in range(100)), ("tombstone", b"")]
    method, properties, _ = got[5]
    assert (method.exchange, properties.content_type, properties.timestamp) == ("", "text/plain", 1700000000)
    assert properties.headers == {"trace": "t5", "binary": b"\xff\x00", "x-stream-offset": 5}
    assert [body for _, _, body in amqp_read(connect(), name, 11, offset=90)] == [b"v%d" % n for n in range(90, 100)] + [b""]


def test_keys_that_are_no_routing_keys_and_routing_keys_that_are_not_the_key(connect, make_topic, name):
    make_topic(name)
    producer = Producer({"bootstrap.servers": KAFKA})
    producer.produce(name, b"raw", b"\xff\xfe")
    producer.produce(name, b"none")
    assert producer.flush(15) == 0
    channel = connect().channel()
    channel.confirm_delivery()
    stream(channel, name)
    channel.basic_publish("", name, b"chosen", pika.BasicProperties(headers={"x-record-key": "customer-7"}))
    raw, none, chosen = amqp_read(connect(), name, 3)
    assert (raw[0].routing_key, raw[1].headers["x-record-key"]) == ("", b"\xff\xfe")
    assert (none[0].routing_key, "x-record-key" in none[1].headers) == ("", False)
    assert (chosen[0].routing_key, chosen[1].headers["x-record-key"]) == (name, "customer-7")
    assert [record.key() for record in kafka_read(name, 3)] == [b"\xff\xfe", None, b"customer-7"]


def test_aborted_transactions_are_never_seen_and_open_ones_not_yet(connect, make_topic, name):
    make_topic(name)
    channel = connect().channel()
    channel.confirm_delivery()
    stream(channel, name)
    producer = Producer({"bootstrap.servers": KAFKA, "transactional.id": name})
    producer.init_transactions(15)

    def transact(values, end):
        producer.begin_transaction()
        for value in values:
            producer.produce(name, value)
        producer.flush(15)
        end()

    transact([b"a", b"b"], producer.commit_transaction)
    transact([b"never"] * 50, producer.abort_transaction)
    channel.basic_publish("", name, b"from rabbit")
    transact([b"c"], producer.commit_transaction)
    reader = connect()
    assert [body for _, _, body in amqp_read(reader, name, 4)] == [b"a", b"b", b"from rabbit", b"c"]
    producer.begin_transaction()
    producer.produce(name, b"open")
    producer.flush(15)
    channel.basic_publish("", name, b"behind it")  # confirmed, and held back until the transaction ends
    live = reader.channel()
    live.basic_qos(prefetch_count=10)
    got = []
    live.basic_consume(name, lambda channel, method, properties, body: got.append(body), arguments={"x-stream-offset": "first"})
    deadline = time.time() + 10
    while len(got) < 4 and time.time() < deadline:
        reader.process_data_events(0.05)
    reader.process_data_events(0.5)
    assert got == [b"a", b"b", b"from rabbit", b"c"]
    producer.abort_transaction(15)
    while len(got) < 5 and time.time() < deadline:
        reader.process_data_events(0.05)
    assert got == [b"a", b"b", b"from rabbit", b"c", b"behind it"]
    assert [record.value() for record in kafka_read(name, 5)] == got


def test_a_consumer_follows_both_kinds_of_producers(connect, name):
    channel = connect().channel()
    channel.confirm_delivery()
    stream(channel, name)
    connection = connect()
    reader = connection.channel()
    reader.basic_qos(prefetch_count=50)
    got = []

    def take(channel, method, properties, body):
        got.append(body)
        channel.basic_ack(method.delivery_tag)

    reader.basic_consume(name, take)
    connection.process_data_events(0.2)

    def kafka():
        producer = Producer({"bootstrap.servers": KAFKA, "linger.ms": 5})
        for number in range(500):
            producer.produce(name, b"kafka %d" % number)
            if number % 100 == 0:
                producer.flush(10)
        producer.flush(10)

    thread = threading.Thread(target=kafka)
    thread.start()
    for number in range(500):
        channel.basic_publish("", name, b"rabbit %d" % number)
    thread.join()
    deadline = time.time() + 20
    while len(got) < 1000 and time.time() < deadline:
        connection.process_data_events(0.05)
    for kind in (b"kafka", b"rabbit"):
        assert [body for body in got if body.startswith(kind)] == [kind + b" %d" % number for number in range(500)]
    assert [record.value() for record in kafka_read(name, 1000)] == got, "one order for all"


def test_each_partition_of_a_topic_is_a_stream(connect, make_topic, name):
    make_topic(name, 3)
    producer = Producer({"bootstrap.servers": KAFKA})
    for partition in range(3):
        producer.produce(name, b"of %d" % partition, partition=partition)
    assert producer.flush(15) == 0
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="has 3 partitions, each a stream of its own") as refused:
        stream(connect().channel(), name)
    assert refused.value.reply_code == 406
    channel = connect().channel()
    for partition in range(2):
        stream(channel, f"{name}-{partition}")
        (_, _, body), = amqp_read(connect(), f"{name}-{partition}", 1)
        assert body == b"of %d" % partition
    stream(channel, "my own name " + name, x_ottla_topic=name, x_ottla_partition=2)
    (_, _, body), = amqp_read(connect(), "my own name " + name, 1)
    assert body == b"of 2"


def test_streams_and_topics_end_together(connect, make_topic, name):
    admin = AdminClient({"bootstrap.servers": KAFKA})
    make_topic(name + ".theirs")
    channel = connect().channel()
    stream(channel, name + ".theirs")
    stream(channel, name + ".ours")
    channel.queue_delete(name + ".theirs")
    channel.queue_delete(name + ".ours")
    topics = admin.list_topics(timeout=10).topics
    assert name + ".theirs" in topics and name + ".ours" not in topics
    stream(channel, name + ".theirs")
    admin.delete_topics([name + ".theirs"])[name + ".theirs"].result(15)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="no queue"):
        channel.queue_declare(name + ".theirs", passive=True)


def test_a_message_larger_than_the_topic_takes_is_nacked(connect, make_topic, name):
    make_topic(name, max_message_bytes="2000")
    channel = connect().channel()
    channel.confirm_delivery()
    stream(channel, name)
    channel.basic_publish("", name, b"x" * 100)
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", name, b"x" * 3000)
    assert len(kafka_read(name, 1)) == 1


def test_confirmed_messages_are_in_queue_and_log_after_a_kill(connect, restart, name):
    channel = connect().channel()
    channel.confirm_delivery()
    channel.exchange_declare(name, "fanout", durable=True)
    channel.queue_declare(name + ".work", durable=True)
    stream(channel, name + ".log")
    for queue in (".work", ".log"):
        channel.queue_bind(name + queue, name)
    for number in range(300):
        channel.basic_publish(name, "", b"%d" % number, pika.BasicProperties(delivery_mode=2))
    before = amqp_read(connect(), name + ".log", 300)
    restart()
    expected = [b"%d" % number for number in range(300)]
    channel = connect().channel()
    work = []
    while (got := channel.basic_get(name + ".work", auto_ack=True))[0]:
        work.append((got[2], got[0].redelivered))
    assert work == [(body, False) for body in expected], "nobody had consumed"
    assert [record.value() for record in kafka_read(name + ".log", 300)] == expected
    after = amqp_read(connect(), name + ".log", 300)
    assert [(p.headers, body) for _, p, body in after] == [(p.headers, body) for _, p, body in before]
    channel.basic_publish(name, "", b"after")
    assert [body for _, _, body in amqp_read(connect(), name + ".log", 1, offset=300)] == [b"after"]
