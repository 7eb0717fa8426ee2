"""Streams over AMQP: what a declaration may say, where a consumer begins, what it is sent; the same on RabbitMQ."""
import datetime
import time

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def stream(connect, name):
    channel = connect().channel()
    channel.queue_declare(name, durable=True, arguments=STREAM)
    yield name
    channel = connect().channel()
    channel.queue_delete(name)


def fill(connection, stream, count, **properties):
    channel = connection.channel()
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", stream, b"%d" % number, pika.BasicProperties(**properties))


def read(connection, stream, offset=None, count=None, prefetch=100, seconds=10.0, settle="ack", **arguments):
    """Bodies that a new consumer gets: `count` of them, then whatever follows in half a second."""
    got = messages(connection, stream, offset, count, prefetch, seconds, settle, **arguments)
    return [body for _, _, body in got]


def messages(connection, stream, offset=None, count=None, prefetch=100, seconds=10.0, settle="ack", **arguments):
    channel = connection.channel()
    channel.basic_qos(prefetch_count=prefetch)
    got = []

    def take(channel, method, properties, body):
        got.append((method, properties, body))
        if settle == "ack":
            channel.basic_ack(method.delivery_tag)
        elif settle == "nack":
            channel.basic_nack(method.delivery_tag, requeue=True)
        elif settle == "reject":
            channel.basic_reject(method.delivery_tag, requeue=False)

    if offset is not None:
        arguments["x-stream-offset"] = offset
    channel.basic_consume(stream, take, arguments=arguments)
    deadline = time.time() + seconds
    while count and len(got) < count and time.time() < deadline:
        connection.process_data_events(0.05)
    connection.process_data_events(0.5)
    channel.close()
    return got


def refused(connect, act, by=ChannelClosedByBroker):
    with pytest.raises(by) as caught:
        act(connect().channel())
    return caught.value.reply_code, caught.value.reply_text


@pytest.mark.parametrize("flag, said", [
    ({"exclusive": True, "durable": True}, "exclusive-owner"),
    ({"durable": False}, "non-durable"),
    ({"auto_delete": True, "durable": True}, "auto-delete"),
])
def test_a_stream_is_durable_and_everybodys(connect, name, flag, said):
    told = refused(connect, lambda channel: channel.queue_declare(name, arguments=STREAM, **flag))
    assert told == (406, f"PRECONDITION_FAILED - invalid property '{said}' for queue '{name}' in vhost '/'")


@pytest.mark.parametrize("argument, value", [
    ("x-max-length", 5), ("x-message-ttl", 5), ("x-expires", 1000), ("x-dead-letter-exchange", "a"), ("x-max-priority", 5),
    ("x-overflow", "drop-head"), ("x-single-active-consumer", True), ("x-delivery-limit", 3),
])
def test_arguments_of_queues_are_none_of_a_stream(connect, name, argument, value):
    declare = lambda channel: channel.queue_declare(name, durable=True, arguments={**STREAM, argument: value})
    said = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/' of queue type rabbit_stream_queue"
    assert refused(connect, declare) == (406, said)


@pytest.mark.parametrize("argument, value, said", [
    ("x-max-age", 5, "invalid arg 'x-max-age' for queue '{name}' in vhost '/': {{unacceptable_type,signedint}}"),
    ("x-max-age", "1Q", "invalid arg 'x-max-age' for queue '{name}' in vhost '/': invalid_max_age"),
    ("x-stream-max-segment-size-bytes", "a",
     "invalid arg 'x-stream-max-segment-size-bytes' for queue '{name}' in vhost '/': \"expected integer, got longstr\""),
    ("x-stream-max-segment-size-bytes", -1,
     "invalid arg 'x-stream-max-segment-size-bytes' for queue '{name}' in vhost '/': {{value_negative,-1}}"),
    ("x-stream-max-segment-size-bytes", 4000000000, "Exceeded max value for x-stream-max-segment-size-bytes"),
    ("x-max-length-bytes", -1, "invalid arg 'x-max-length-bytes' for queue '{name}' in vhost '/': {{value_negative,-1}}"),
])
def test_arguments_of_streams_are_judged(connect, name, argument, value, said):
    declare = lambda channel: channel.queue_declare(name, durable=True, arguments={**STREAM, argument: value})
    assert refused(connect, declare) == (406, "PRECONDITION_FAILED - " + said.format(name=name))


def test_a_filter_has_from_16_to_255_bytes(connect, name):
    arguments = {**STREAM, "x-stream-filter-size-bytes": 5}
    code, text = refused(connect, lambda channel: channel.queue_declare(name, durable=True, arguments=arguments))
    # RabbitMQ 4.0 has a space too many
    assert (code, " ".join(text.split())) == (406, "PRECONDITION_FAILED - Invalid value for x-stream-filter-size-bytes")


def test_what_a_stream_is_declared_with_is_compared(connect, name, channel):
    arguments = {**STREAM, "x-max-age": "7D", "x-max-length-bytes": 1000000, "x-stream-max-segment-size-bytes": 2000000}
    for _ in range(2):
        channel.queue_declare(name, durable=True, arguments=arguments)
    other = lambda channel: channel.queue_declare(name, durable=True, arguments={**arguments, "x-max-length-bytes": 5})
    said = (f"PRECONDITION_FAILED - inequivalent arg 'x-max-length-bytes' for queue '{name}' in vhost '/': "
            "received '5' but current is '1000000'")
    assert refused(connect, other) == (406, said)
    channel.queue_delete(name)


def test_the_broker_makes_up_no_name_for_a_stream(connect):
    said = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_stream_queue"
    assert refused(connect, lambda channel: channel.queue_declare("", durable=True, arguments=STREAM)) == (406, said)


@pytest.mark.parametrize("method, act", [
    ("basic.get", lambda channel, stream: channel.basic_get(stream)),
    ("queue.purge", lambda channel, stream: channel.queue_purge(stream)),
])
def test_what_a_stream_cannot_do(connect, stream, method, act):
    told = refused(connect, lambda channel: act(channel, stream), ConnectionClosedByBroker)
    assert told == (540, f"NOT_IMPLEMENTED - {method} not supported by stream queues queue '{stream}' in vhost '/'")


def test_a_consumer_says_how_much_it_takes(connect, stream):
    told = refused(connect, lambda channel: channel.basic_consume(stream, print))
    said = f"PRECONDITION_FAILED - consumer prefetch count is not set for stream queue '{stream}' in vhost '/'"
    assert told == (406, said)


def test_a_consumer_acknowledges(connect, stream):
    def consume(channel):
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(stream, print, auto_ack=True)

    said = f"NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queue '{stream}' in vhost '/'"
    assert refused(connect, consume, ConnectionClosedByBroker) == (540, said)


@pytest.mark.parametrize("argument, value, said", [
    ("x-stream-offset", "5", "invalid arg 'x-stream-offset' for queue '{}' in vhost '/': "
                             "{{invalid_stream_offset_arg,{{longstr,<<\"5\">>}}}}"),
    ("x-priority", 5, "invalid arg 'x-priority' for queue '{}' in vhost '/' of queue type rabbit_stream_queue"),
])
def test_a_consumers_arguments_are_judged(connect, stream, argument, value, said):
    def consume(channel):
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(stream, print, arguments={argument: value})

    assert refused(connect, consume) == (406, "PRECONDITION_FAILED - " + said.format(stream))


@pytest.mark.parametrize("offset, first", [("first", 0), (0, 0), (3, 3), (9, 9), (-1, 0), ("1h", 0), (datetime.datetime(2020, 1, 1), 0)])
def test_a_consumer_begins_where_it_says(connection, stream, offset, first):
    fill(connection, stream, 10)
    assert read(connection, stream, offset, 10 - first) == [b"%d" % number for number in range(first, 10)]


@pytest.mark.parametrize("offset", [None, "next", 10, 50, datetime.datetime(2100, 1, 1)])
def test_a_consumer_may_wait_for_what_comes_next(connection, stream, offset):
    fill(connection, stream, 10)
    assert read(connection, stream, offset) == []


def test_last_is_the_batch_that_was_written_last(connection, stream):
    fill(connection, stream, 10)
    last = read(connection, stream, "last", 1)
    assert 1 <= len(last) <= 10 and last[-1] == b"9"


def test_next_gets_what_is_published_from_then_on(connect, stream):
    fill(connect(), stream, 5)
    connection = connect()
    channel = connection.channel()
    channel.basic_qos(prefetch_count=10)
    got = []
    channel.basic_consume(stream, lambda channel, method, properties, body: got.append((body, properties.headers)))
    fill(connect(), stream, 3)
    deadline = time.time() + 10
    while len(got) < 3 and time.time() < deadline:
        connection.process_data_events(0.05)
    assert [(body, headers["x-stream-offset"]) for body, headers in got] == [(b"0", 5), (b"1", 6), (b"2", 7)]


def test_a_message_comes_as_it_was_published_and_with_its_offset(connection, channel, stream):
    channel.exchange_declare(stream + ".in", "topic")
    channel.queue_bind(stream, stream + ".in", "order.#")
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers={"n": 5, "text": "é", "flag": True},
        delivery_mode=1, priority=3, correlation_id="c", reply_to="r", expiration="60000", message_id="m", timestamp=1700000000,
        type="T", user_id="guest", app_id="a")
    channel.confirm_delivery()
    channel.basic_publish(stream + ".in", "order.created", b"body", sent)
    (method, got, body), = messages(connection, stream, "first", 1)
    assert (method.exchange, method.routing_key, method.redelivered, body) == (stream + ".in", "order.created", False, b"body")
    assert got.headers.pop("x-stream-offset") == 0
    assert got.__dict__ == sent.__dict__
    channel.exchange_delete(stream + ".in")


def test_prefetch_bounds_what_is_not_acknowledged(connection, stream):
    fill(connection, stream, 10)
    assert read(connection, stream, "first", 4, prefetch=4, settle="not") == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("how", ["ack", "nack", "reject"])
def test_any_settlement_lets_a_consumer_go_on_and_nothing_comes_twice(connection, stream, how):
    fill(connection, stream, 30)
    assert read(connection, stream, "first", 30, prefetch=4, settle=how) == [b"%d" % number for number in range(30)]


def test_recover_only_lets_a_consumer_go_on(connection, stream):
    fill(connection, stream, 10)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=4)
    got = []
    channel.basic_consume(stream, lambda channel, method, properties, body: got.append((body, method.redelivered)),
                          arguments={"x-stream-offset": "first"})
    deadline = time.time() + 10
    while len(got) < 4 and time.time() < deadline:
        connection.process_data_events(0.05)
    channel.basic_recover(requeue=True)
    while len(got) < 8 and time.time() < deadline:
        connection.process_data_events(0.05)
    assert got == [(b"%d" % number, False) for number in range(8)]


def test_every_consumer_gets_everything_and_it_stays(connect, stream):
    fill(connect(), stream, 20)
    for _ in range(3):
        assert len(read(connect(), stream, "first", 20)) == 20


def test_an_exclusive_consumer_excludes_nobody(connect, stream):
    for _ in range(2):
        channel = connect().channel()
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(stream, print, exclusive=True)


def test_filters_choose_by_the_header_of_the_publisher(connection, stream):
    fill(connection, stream, 3, headers={"x-stream-filter-value": "eu"})
    fill(connection, stream, 2, headers={"x-stream-filter-value": "us"})
    fill(connection, stream, 1)
    eu = messages(connection, stream, "first", 3, **{"x-stream-filter": "eu"})
    # RabbitMQ filters chunks: clients look again
    assert len([1 for _, properties, _ in eu if (properties.headers or {}).get("x-stream-filter-value") == "eu"]) == 3
    either = messages(connection, stream, "first", 3, **{"x-stream-filter": ["us"], "x-stream-match-unfiltered": True})
    named = [(properties.headers or {}).get("x-stream-filter-value") for _, properties, _ in either]
    assert named.count("us") == 2 and named.count(None) == 1
    assert [name for name in named if name == "eu"] == []


def test_a_deleted_stream_cancels_its_consumers(connect, name):
    channel = connect().channel()
    channel.queue_declare(name, durable=True, arguments=STREAM)
    connection = connect()
    consumer = connection.channel()
    consumer.basic_qos(prefetch_count=10)
    cancelled = []
    consumer.add_on_cancel_callback(cancelled.append)
    tag = consumer.basic_consume(name, print)
    assert channel.queue_delete(name).method.message_count == 0
    deadline = time.time() + 10
    while not cancelled and time.time() < deadline:
        connection.process_data_events(0.05)
    assert [frame.method.consumer_tag for frame in cancelled] == [tag]
    with pytest.raises(ChannelClosedByBroker, match="no queue"):
        channel.queue_declare(name, passive=True)


def test_a_stream_counts_its_messages(connection, channel, stream):
    fill(connection, stream, 10)
    deadline = time.time() + 15  # RabbitMQ counts now and then
    while (count := channel.queue_declare(stream, passive=True).method.message_count) < 10 and time.time() < deadline:
        time.sleep(0.2)
    assert count == 10


def test_transactions_and_dead_letters_reach_streams(connection, channel, stream, name):
    work = name + ".work"
    channel.queue_declare(work, arguments={
        "x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": stream})
    channel.basic_publish("", work, b"dead")
    (_, properties, body), = messages(connection, stream, "first", 1)
    assert (body, properties.headers["x-first-death-queue"]) == (b"dead", work)
    channel.tx_select()
    channel.basic_publish("", stream, b"never")
    channel.tx_rollback()
    for number in range(3):
        channel.basic_publish("", stream, b"tx%d" % number)
    channel.tx_commit()
    assert read(connection, stream, 1, 3) == [b"tx0", b"tx1", b"tx2"]
    channel.queue_delete(work)


def test_a_big_message_and_many_small_ones_keep_their_order(connection, stream):
    channel = connection.channel()
    channel.confirm_delivery()
    sent = []
    for number in range(60):
        sent.append(b"%d" % number * (200_000 if number % 20 == 0 else 1))
        channel.basic_publish("", stream, sent[-1])
    assert read(connection, stream, "first", 60, prefetch=7) == sent
