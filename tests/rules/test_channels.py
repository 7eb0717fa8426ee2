"""How channels behave: order, counts, transactions, prefetch, returns; the same on RabbitMQ."""
import time

import pika
import pytest


def get(channel, queue, seconds=5.0, **flags):
    deadline = time.time() + seconds
    while True:
        method, properties, body = channel.basic_get(queue, **flags)
        if method or time.time() > deadline:
            return method, properties, body
        time.sleep(0.02)


def bodies(channel, queue):
    got = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        got.append(message[2])
    return got


def test_a_publish_is_counted_by_the_next_method_of_its_channel(connection, channel, name):
    if connection._impl.server_properties["platform"].startswith("Erlang"):
        pytest.skip("RabbitMQ's classic queues answer from another process and sometimes count before the publish")
    channel.queue_declare(name, durable=True)
    for count in range(1, 21):
        mode = 1 + count % 2
        channel.basic_publish("", name, b"x", pika.BasicProperties(delivery_mode=mode))
        assert channel.queue_declare(name, passive=True).method.message_count == count
    assert channel.queue_purge(name).method.message_count == 20
    channel.basic_publish("", name, b"x", pika.BasicProperties(delivery_mode=2))
    assert channel.queue_delete(name).method.message_count == 1


def test_a_transient_message_does_not_overtake_a_persistent_one(channel, name):
    channel.queue_declare(name, durable=True)
    for number in range(200):
        mode = 1 + number % 2
        channel.basic_publish("", name, b"%d" % number, pika.BasicProperties(delivery_mode=mode))
    assert bodies(channel, name) == [b"%d" % number for number in range(200)]
    channel.queue_delete(name)


def test_what_is_published_before_the_close_is_there_after_it(connect, channel, name):
    channel.queue_declare(name, durable=True)
    for round in range(20):
        other = connect()
        other.channel().basic_publish("", name, b"%d" % round, pika.BasicProperties(delivery_mode=2))
        other.close()
        assert channel.basic_get(name, auto_ack=True)[2] == b"%d" % round
    channel.queue_delete(name)


def test_get_tells_what_is_left(channel, name):
    channel.queue_declare(name, exclusive=True)
    for body in (b"a", b"b", b"c"):
        channel.basic_publish("", name, body)
    for left in (2, 1, 0):
        method, _, _ = channel.basic_get(name)
        assert method.message_count == left and not method.redelivered and method.exchange == "" and method.routing_key == name
    assert channel.basic_get(name) == (None, None, None)


def test_a_rolled_back_transaction_never_was(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"before")
    channel.tx_select()
    method, _, _ = get(channel, name)
    channel.basic_publish("", name, b"lost")
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    assert channel.queue_declare(name, passive=True).method.message_count == 0  # not delivered again
    channel.basic_ack(method.delivery_tag)  # outstanding again
    channel.basic_publish("", name, b"kept")
    assert channel.queue_declare(name, passive=True).method.message_count == 0
    channel.tx_commit()
    assert channel.queue_declare(name, passive=True).method.message_count == 1
    method, _, body = get(channel, name)
    assert body == b"kept" and not method.redelivered


def test_a_transaction_returns_before_it_is_committed(channel, name):
    returned = []
    channel.add_on_return_callback(lambda ch, method, properties, body: returned.append((method.reply_code, method.reply_text, body)))
    channel.tx_select()
    channel.basic_publish("", name, b"nowhere", mandatory=True)
    channel.tx_commit()
    channel.connection.process_data_events(0)
    assert returned == [(312, "NO_ROUTE", b"nowhere")]


def test_recover_brings_everything_back_marked(channel, name):
    channel.queue_declare(name, exclusive=True)
    for body in (b"a", b"b"):
        channel.basic_publish("", name, body)
    for body in (b"a", b"b"):
        assert get(channel, name)[2] == body
    channel.basic_recover(requeue=True)
    for body in (b"a", b"b"):
        method, _, got = get(channel, name, auto_ack=True)
        assert got == body and method.redelivered


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_was_got_before_says_so(connect, channel, name, kind):
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
    channel.confirm_delivery()
    channel.basic_publish("", name, b"x", pika.BasicProperties(delivery_mode=2))
    method, _, _ = get(channel, name)
    assert not method.redelivered
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, _ = get(channel, name)
    assert method.redelivered
    channel.basic_reject(method.delivery_tag, requeue=True)
    other = connect()
    assert get(other.channel(), name)[0].redelivered
    other.close()  # with the message in hand
    method, _, body = get(channel, name, auto_ack=True)
    assert method.redelivered and body == b"x"
    channel.queue_delete(name)


def test_nacks_of_many_and_acks_of_all(channel, name):
    channel.queue_declare(name, exclusive=True)
    for number in range(6):
        channel.basic_publish("", name, b"%d" % number)
    tags = [get(channel, name)[0].delivery_tag for _ in range(6)]
    channel.basic_nack(tags[2], multiple=True, requeue=True)
    assert bodies(channel, name) == [b"0", b"1", b"2"]  # where they stood
    channel.basic_ack(0, multiple=True)
    assert channel.queue_declare(name, passive=True).method.message_count == 0


@pytest.mark.parametrize("prefetch,each", [(1, 1), (3, 3), (0, 10)])
def test_prefetch_is_per_consumer(connection, channel, name, prefetch, each):
    channel.queue_declare(name, exclusive=True)
    for _ in range(10):
        channel.basic_publish("", name, b"x")
    got = []
    channel.basic_qos(prefetch_count=prefetch)
    channel.basic_consume(name, lambda ch, method, properties, body: got.append(method.delivery_tag))
    connection.sleep(0.3)
    assert len(got) == each
    if prefetch:
        channel.basic_ack(got[0])
        connection.sleep(0.3)
        assert len(got) == each + 1


def test_consumers_take_turns(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    got = [[], [], []]
    for place in range(3):
        channel.basic_consume(name, lambda ch, m, p, body, place=place: got[place].append(body), auto_ack=True)
    for number in range(9):
        channel.basic_publish("", name, b"%d" % number)
    connection.sleep(0.4)
    assert [len(g) for g in got] == [3, 3, 3]


def test_a_consumer_is_told_when_its_queue_is_gone(connect, connection, channel, name):
    channel.queue_declare(name)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(name, lambda *_: None)
    connect().channel().queue_delete(name)
    connection.sleep(0.3)
    assert cancelled == [tag]


def test_cancel_leaves_what_was_delivered_with_the_channel(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"x")
    got = []
    tag = channel.basic_consume(name, lambda ch, method, p, b: got.append(method.delivery_tag))
    connection.sleep(0.3)
    assert len(got) == 1
    assert channel.basic_cancel(tag) == []
    assert channel.queue_declare(name, passive=True).method == pika.spec.Queue.DeclareOk(name, 0, 0)
    channel.basic_ack(got[0])
    channel.queue_declare(name, passive=True)


def test_an_auto_delete_queue_goes_with_its_last_consumer(connection, channel, name):
    channel.queue_declare(name, auto_delete=True)
    tag = channel.basic_consume(name, lambda *_: None)
    channel.basic_cancel(tag)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as gone:
        channel.queue_declare(name, passive=True)
    assert gone.value.reply_code == 404


def test_an_exclusive_queue_goes_with_its_connection(connect, channel, name):
    other = connect()
    other.channel().queue_declare(name, exclusive=True)
    other.close()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as gone:
        channel.queue_declare(name, passive=True)
    assert gone.value.reply_code == 404


def test_the_last_declared_queue_needs_no_name(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert queue.startswith("amq.gen-") and len(queue) == len("amq.gen-") + 22
    channel.queue_bind("", "amq.direct", "")  # the name is the key too
    channel.basic_publish("amq.direct", queue, b"found")
    assert get(channel, "", auto_ack=True)[2] == b"found"


def test_properties_arrive_as_they_were(channel, name):
    channel.queue_declare(name, exclusive=True)
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers={"a": 1, "b": "two", "c": [1, {"d": None}], "e": True, "f": 2**40},
        delivery_mode=2, priority=3, correlation_id="c", reply_to="r", message_id="m", timestamp=1_700_000_000, type="t",
        user_id="guest", app_id="app")
    channel.basic_publish("", name, b"", sent)
    _, properties, body = get(channel, name, auto_ack=True)
    assert properties == sent and body == b""


def test_a_large_body_is_cut_into_frames_and_joined_again(connect, name):
    channel = connect(frame_max=8192).channel()
    channel.queue_declare(name, exclusive=True)
    body = bytes(range(256)) * 4000
    channel.basic_publish("", name, body)
    assert get(channel, name, auto_ack=True)[2] == body


def test_confirms_of_many_publishes_answer_each(connect, name):
    """Below pika's blocking wait: a hundred in flight, one of them unroutable, one refused."""
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 50, "x-overflow": "reject-publish"})
    answered, refused, returned = set(), set(), []
    last = [0]

    def on_answer(frame):
        method = frame.method
        tags = range(last[0] + 1, method.delivery_tag + 1) if method.multiple else [method.delivery_tag]
        known = answered | refused
        into = answered if isinstance(method, pika.spec.Basic.Ack) else refused
        into.update(tag for tag in tags if tag not in known)
        while last[0] + 1 in answered | refused:
            last[0] += 1

    channel._impl.confirm_delivery(on_answer, lambda frame: None)
    channel._impl.add_on_return_callback(lambda ch, method, p, b: returned.append((len(answered | refused), b)))
    connection.sleep(0.2)
    for number in range(1, 101):
        key = name if number != 10 else name + "-nowhere"
        channel._impl.basic_publish("", key, b"%d" % number, pika.BasicProperties(delivery_mode=1 + number % 2), mandatory=number == 10)
    deadline = time.time() + 10
    while len(answered | refused) < 100 and time.time() < deadline:
        connection.sleep(0.05)
    assert len(answered) == 51 and len(refused) == 49 and refused == set(range(52, 101))
    assert [body for _, body in returned] == [b"10"] and returned[0][0] < 100
    assert channel.queue_declare(name, passive=True).method.message_count == 50
