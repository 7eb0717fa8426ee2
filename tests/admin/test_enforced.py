"""What an administrator sets is what AMQP clients meet: the same on RabbitMQ, code and words."""
import os
import re
import socket
import struct
import time

import pika
import pytest
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker


def refused_connection(connect, **more):
    """The words in which a connection is refused."""
    with pytest.raises(AMQPConnectionError) as error:
        connect(**more)
    told = re.search(r'ConnectionClosedByBroker: \((\d+)\) "([^"]*)"', repr(error.value))
    assert told, error.value
    return int(told[1]), told[2].replace("\\'", "'")


def test_one_connection_too_many_is_refused_by_virtual_host_and_by_user(api, vhost, user, connect):
    who = user()
    connect(who, "secret")
    assert api.put("vhost-limits", vhost, "max-connections", value=1) == 204
    code, text = refused_connection(connect, user=who, password="secret")
    assert (code, text) == (530, f"NOT_ALLOWED - access to vhost '{vhost}' refused for user '{who}': connection limit (1) is reached")
    api.delete("vhost-limits", vhost, "max-connections")
    assert api.put("user-limits", who, "max-connections", value=1) == 204
    code, text = refused_connection(connect, user=who, password="secret")
    assert (code, text) == (530, f"NOT_ALLOWED - connection refused for user '{who}': user connection limit (1) is reached")
    connect()  # others are not concerned


def test_one_channel_too_many_closes_the_connection(api, user, connect):
    who = user()
    assert api.put("user-limits", who, "max-channels", value=2) == 204
    connection = connect(who, "secret")
    connection.channel(), connection.channel()
    with pytest.raises(ConnectionClosedByBroker) as error:
        for _ in range(20):  # RabbitMQ counts channels a moment after it opened them
            connection.channel()
            connection.sleep(0.2)
    assert error.value.reply_code == 530
    # RabbitMQ 4.0.5 names the node where it means the user; 4.3.6 leaves the brackets out
    assert re.fullmatch(f"NOT_ALLOWED - number of channels opened for user '({who}|rabbit.*)' has reached the maximum allowed user limit "
                        r"of \(?2\)?", error.value.reply_text)


def test_one_queue_too_many_is_refused(api, vhost, connect):
    assert api.put("vhost-limits", vhost, "max-queues", value=1) == 204
    channel = connect().channel()
    channel.queue_declare("one", durable=True)
    channel.queue_declare("one", durable=True)  # it is there already
    with pytest.raises(ChannelClosedByBroker) as error:
        channel.queue_declare("two", durable=True)
    assert (error.value.reply_code, error.value.reply_text) == (
        406, f"PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '{vhost}' (1) is reached")


def test_topic_permissions_hold_for_publishing_and_binding(api, vhost, user, connect):
    who = user()
    assert api.put("topic-permissions", vhost, who, exchange="amq.topic", write="^{username}\\.", read="^open\\.") == 201
    connection = connect(who, "secret")
    channel = connection.channel()
    channel.queue_declare("q", exclusive=True)
    channel.queue_bind("q", "amq.topic", "open.#")
    with pytest.raises(ChannelClosedByBroker) as error:
        channel.queue_bind("q", "amq.topic", "shut.#")
    assert error.value.reply_code == 403
    assert f"read access to topic 'shut.#' in exchange 'amq.topic' in vhost '{vhost}' refused for user '{who}'" in error.value.reply_text
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", f"{who}.x", b"own")
    channel.basic_publish("amq.direct", "other.x", b"no topic exchange")
    with pytest.raises(ChannelClosedByBroker) as error:
        channel.basic_publish("amq.topic", "other.x", b"not own")
    assert f"write access to topic 'other.x' in exchange 'amq.topic' in vhost '{vhost}' refused for user '{who}'" in error.value.reply_text


def test_an_operators_policy_is_stricter_than_policy_and_argument(api, vhost, connect):
    assert api.put("policies", vhost, "own", pattern=".*", definition={"max-length": 100}, apply_to="queues") == 201
    assert api.put("operator-policies", vhost, "limit", pattern=".*", definition={"max-length": 2}, apply_to="queues") == 201
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True, arguments={"x-max-length": 50})
    for number in range(5):
        channel.basic_publish("", "q", str(number).encode(), pika.BasicProperties(delivery_mode=2))
    assert channel.queue_declare("q", passive=True).method.message_count == 2
    assert channel.basic_get("q", auto_ack=True)[2] == b"3"


def test_a_virtual_host_says_of_what_type_its_queues_are(api, vhost, connect):
    assert api.put("vhosts", vhost, default_queue_type="quorum") == 204
    channel = connect().channel()
    channel.queue_declare("q", durable=True)
    channel.queue_declare("mine", exclusive=True)  # cannot be one
    assert api.get("queues", vhost, "q")["type"] == "quorum"
    assert api.get("queues", vhost, "mine")["type"] == "classic"


def test_an_administrator_closes_a_connection(api, vhost, connect):
    connection = connect()
    channel = connection.channel()
    deadline = time.monotonic() + 15
    while not (own := [c["name"] for c in api.get("connections") if c.get("vhost") == vhost]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert api.status("DELETE", "connections", own[0], headers={"X-Reason": "because"}) == 204
    with pytest.raises(ConnectionClosedByBroker) as error:
        for _ in range(200):
            connection.process_data_events(0.1)
            channel.queue_declare("q", exclusive=True)
    assert (error.value.reply_code, error.value.reply_text) == (320, "CONNECTION_FORCED - because")


def test_a_virtual_host_goes_with_its_connections(api, vhost, connect):
    connection = connect()
    connection.channel().queue_declare("q", durable=True)
    assert api.delete("vhosts", vhost) == 204
    with pytest.raises(AMQPConnectionError) as error:
        for _ in range(200):
            connection.process_data_events(0.1)
    assert error.value.reply_code == 320
    assert re.fullmatch(f"CONNECTION_FORCED - vhost '{vhost}' is (down|deleted)", error.value.reply_text)


def amqp(server):
    host, port = pika.URLParameters(server).host, pika.URLParameters(server).port
    peer = socket.create_connection((host, port), 5)
    peer.settimeout(20)
    return peer


def frame(peer):
    """Type, channel and payload; None at the end, however it came."""
    head = b""
    while len(head) < 7:
        try:
            piece = peer.recv(7 - len(head))
        except ConnectionResetError:
            return None
        if not piece:
            return None
        head += piece
    kind, channel, size = struct.unpack(">BHI", head)
    body = b""
    while len(body) < size + 1:
        body += peer.recv(size + 1 - len(body))
    return kind, channel, body[:-1]


def method(class_id, method_id, arguments):
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce"


def long(text):
    return struct.pack(">I", len(text)) + text


def short(text):
    return struct.pack(">B", len(text)) + text


def log_in(peer, mechanism, response, heartbeat):
    """Up to connection.open-ok; the answer to start-ok if it is no tune."""
    peer.sendall(b"AMQP\x00\x00\x09\x01")
    assert frame(peer)[2][:4] == struct.pack(">HH", 10, 10)
    peer.sendall(method(10, 11, long(b"") + short(mechanism) + long(response) + short(b"en_US")))
    tune = frame(peer)
    if tune is None or tune[2][:4] != struct.pack(">HH", 10, 30):
        return tune
    peer.sendall(method(10, 31, struct.pack(">HIH", 2047, 131072, heartbeat)))
    peer.sendall(method(10, 40, short(b"/") + short(b"") + b"\0"))
    assert frame(peer)[2][:4] == struct.pack(">HH", 10, 41)
    return None


def test_amqplain_opens_the_door_too():
    table = short(b"LOGIN") + b"S" + long(b"guest") + short(b"PASSWORD") + b"S" + long(b"guest")
    with amqp(os.environ["AMQP"]) as peer:
        assert log_in(peer, b"AMQPLAIN", table, 0) is None


def test_a_client_that_falls_silent_is_dropped_after_two_heartbeats():
    with amqp(os.environ["AMQP"]) as peer:
        assert log_in(peer, b"PLAIN", b"\0guest\0guest", 1) is None
        start, heartbeats = time.monotonic(), 0
        while (heard := frame(peer)) is not None:
            heartbeats += heard[0] == 8
        assert heartbeats >= 1, "the broker keeps its own side alive"
        assert 1.5 < time.monotonic() - start < 6
