"""What is refused, with which code and in which words: the same on RabbitMQ, because programs match on them."""
import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker


def declare(arguments=None, **flags):
    return lambda channel, name: channel.queue_declare(name, arguments=arguments, **flags)


def redeclare(first, second, before=None, after=None):
    """Declares a durable queue twice."""
    def act(channel, name):
        channel.queue_declare(name, **{"durable": True, **first}, arguments=before)
        channel.queue_declare(name, **{"durable": True, **second}, arguments=after)
    return act


def exchange_twice(first, second):
    def act(channel, name):
        channel.exchange_declare(name, **first)
        channel.exchange_declare(name, **second)
    return act


def publish(exchange=None, properties=None):
    """Publishes and waits for what comes of it."""
    def act(channel, name):
        channel.queue_declare(name, exclusive=True)
        channel.confirm_delivery()
        channel.basic_publish(name if exchange is None else exchange, name, b"x", properties)
    return act


def publish_internal(channel, name):
    channel.exchange_declare(name, internal=True, auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.exchange_bind(name, "amq.fanout")
    channel.confirm_delivery()
    channel.basic_publish(name, queue, b"x")


def used(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_consume(name, lambda *_: None)
    channel.queue_delete(name, if_unused=True)


def filled(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"x")
    channel.queue_delete(name, if_empty=True)


def bound(channel, name):
    channel.exchange_declare(name, auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name, "key")
    channel.exchange_delete(name, if_unused=True)


def acknowledge(tag):
    def act(channel, name):
        channel.basic_ack(tag)
        channel.queue_declare(name, passive=True)
    return act


def exclusive_consumers(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_consume(name, lambda *_: None, exclusive=True)
    channel.basic_consume(name, lambda *_: None)


def confirm_after_tx(channel, name):
    channel.tx_select()
    channel.confirm_delivery()


def tx_after_confirm(channel, name):
    channel.confirm_delivery()
    channel.tx_select()


def on_ottla(connection):
    return connection._impl.server_properties["platform"].startswith("Ottla")


REFUSED = [
    ("no queue", declare(passive=True), 404, "NOT_FOUND - no queue '{name}' in vhost '/'"),
    ("no exchange", lambda c, n: c.exchange_declare(n, passive=True), 404, "NOT_FOUND - no exchange '{name}' in vhost '/'"),
    ("bind to no queue", lambda c, n: c.queue_bind(n, "amq.direct", "k"), 404, "NOT_FOUND - no queue '{name}' in vhost '/'"),
    ("consume from no queue", lambda c, n: c.basic_consume(n, lambda *_: None), 404, "NOT_FOUND - no queue '{name}' in vhost '/'"),
    ("get from no queue", lambda c, n: c.basic_get(n), 404, "NOT_FOUND - no queue '{name}' in vhost '/'"),
    ("purge no queue", lambda c, n: c.queue_purge(n), 404, "NOT_FOUND - no queue '{name}' in vhost '/'"),
    ("publish to no exchange", publish(), 404, "NOT_FOUND - no exchange '{name}' in vhost '/'"),
    ("publish to an internal exchange", publish_internal, 403, "ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"),
    ("another durability", redeclare({}, {"durable": False, "exclusive": False}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in vhost '/': received 'false' but current is 'true'"),
    ("another auto-delete", redeclare({}, {"auto_delete": True}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{name}' in vhost '/': received 'true' but current is 'false'"),
    ("a new argument", redeclare({}, {}, None, {"x-message-ttl": 10}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{name}' in vhost '/': "
     "received the value '10' of type 'signedint' but current is none"),
    ("a missing argument", redeclare({}, {}, {"x-max-length": 3}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': "
     "received none but current is the value '3' of type 'signedint'"),
    ("another argument", redeclare({}, {}, {"x-dead-letter-exchange": "a"}, {"x-dead-letter-exchange": "b"}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue '{name}' in vhost '/': "
     "received 'b' but current is 'a'"),
    ("another number", redeclare({}, {}, {"x-max-length": 3}, {"x-max-length": 4}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': received '4' but current is '3'"),
    ("another number of another width", redeclare({}, {}, {"x-max-length": 3}, {"x-max-length": 2**40}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': received '1099511627776' but current is '3'"),
    ("another exchange argument", exchange_twice({"arguments": {"alternate-exchange": "a"}}, {"arguments": {"alternate-exchange": "b"}}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': received 'b' but current is 'a'"),
    ("a new exchange argument", exchange_twice({}, {"arguments": {"alternate-exchange": "b"}}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': received the value 'b' of type 'longstr' but current is none"),
    ("another type of exchange", exchange_twice({"exchange_type": "direct", "auto_delete": True}, {"exchange_type": "fanout", "auto_delete": True}), 406,
     "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{name}' in vhost '/': received 'fanout' but current is 'direct'"),
    ("an unknown type of exchange", lambda c, n: c.exchange_declare(n, "zzz"), 406, "PRECONDITION_FAILED - unknown exchange type 'zzz'"),
    ("a reserved queue name", lambda c, n: c.queue_declare("amq.foo"), 403,
     "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'"),
    ("a reserved exchange name", lambda c, n: c.exchange_declare("amq.foo"), 403,
     "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'"),
    ("a negative TTL", declare({"x-message-ttl": -1}), 406,
     "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue '{name}' in vhost '/': {{value_negative,-1}}"),
    ("a TTL that is text", declare({"x-message-ttl": "1"}), 406,
     "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue '{name}' in vhost '/': \"expected integer, got longstr\""),
    ("an unknown type of queue", declare({"x-queue-type": "zzz"}), 406,
     "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '{name}' in vhost '/': \"unsupported queue type 'zzz'\""),
    ("a quorum queue that is not durable", declare({"x-queue-type": "quorum"}), 406,
     "PRECONDITION_FAILED - invalid property 'non-durable' for queue '{name}' in vhost '/'"),
    ("deleting a used queue", used, 406, "PRECONDITION_FAILED - queue '{name}' in vhost '/' in use"),
    ("deleting a filled queue", filled, 406, "PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty"),
    ("deleting a bound exchange", bound, 406, "PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"),
    ("deleting amq.direct", lambda c, n: c.exchange_delete("amq.direct"), 403,
     "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"),
    ("binding to the default exchange", lambda c, n: (c.queue_declare(n, exclusive=True), c.queue_bind(n, "", "k")), 403,
     "ACCESS_REFUSED - operation not permitted on the default exchange"),
    ("declaring the default exchange", lambda c, n: c.exchange_declare("", "direct"), 403,
     "ACCESS_REFUSED - operation not permitted on the default exchange"),
    ("no queue declared before", lambda c, n: c.basic_get(""), 404, "NOT_FOUND - no previously declared queue"),
    ("acknowledging nothing", acknowledge(82), 406, "PRECONDITION_FAILED - unknown delivery tag 82"),
    ("an expiration that is no number", publish("", pika.BasicProperties(expiration="abc")), 406,
     "PRECONDITION_FAILED - invalid expiration 'abc': no_integer"),
    ("a negative expiration", publish("", pika.BasicProperties(expiration="-1")), 406,
     "PRECONDITION_FAILED - invalid expiration '-1': {{value_negative,-1}}"),
    ("another user's name", publish("", pika.BasicProperties(user_id="bob")), 406,
     "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'"),
    ("a second exclusive consumer", exclusive_consumers, 403, "ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"),
    ("confirms in a transaction", confirm_after_tx, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode"),
    ("a transaction with confirms", tx_after_confirm, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"),
    ("a commit without transaction", lambda c, n: c.tx_commit(), 406, "PRECONDITION_FAILED - channel is not transactional"),
    ("a rollback without transaction", lambda c, n: c.tx_rollback(), 406, "PRECONDITION_FAILED - channel is not transactional"),
    ("a reply consumer with acks", lambda c, n: c.basic_consume("amq.rabbitmq.reply-to", lambda *_: None), 406,
     "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
    ("a request without reply consumer", publish("", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")), 406,
     "PRECONDITION_FAILED - fast reply consumer does not exist"),
    ("a bad x-match", lambda c, n: (c.queue_declare(n, exclusive=True), c.queue_bind(n, "amq.headers", "", {"x-match": "zz"})), 406,
     "PRECONDITION_FAILED - Invalid x-match field value <<\"zz\">>; expected all, any, all-with-x, or any-with-x"),
    ("CC that is no array", publish("", pika.BasicProperties(headers={"CC": "x"})), 406,
     "PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,\"CC\",longstr}}"),
]


@pytest.mark.parametrize("what,act,code,text", REFUSED, ids=[what for what, *_ in REFUSED])
def test_a_refusal_closes_the_channel_and_says_why(connection, channel, name, what, act, code, text):
    with pytest.raises(ChannelClosedByBroker) as closed:
        act(channel, name)
    assert closed.value.reply_code == code
    said = text.format(name=name)
    if on_ottla(connection) and "inequivalent arg 'x-" in said:
        said += f"; ottla queue move '{name}' --to NEW"  # docs/guide/orders-406.md
    assert closed.value.reply_text == said
    connection.channel().close()  # the connection lives on


def test_another_connections_exclusive_queue_is_locked(connect, channel, name):
    channel.queue_declare(name, exclusive=True)
    other = connect()
    attempts = [
        lambda c: c.queue_declare(name, exclusive=True), lambda c: c.queue_declare(name, passive=True), lambda c: c.basic_get(name),
        lambda c: c.basic_consume(name, lambda *_: None), lambda c: c.queue_bind(name, "amq.direct", "k"),
        lambda c: c.queue_delete(name), lambda c: c.queue_purge(name),
    ]
    for attempt in attempts:
        with pytest.raises(ChannelClosedByBroker) as closed:
            attempt(other.channel())
        assert closed.value.reply_code == 405
        assert closed.value.reply_text == (
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally "
            "declared on another connection or the exclusive property value does not match that of the original declaration.")


FATAL = [
    ("immediate", lambda c, n: immediate(c, n), 540, "NOT_IMPLEMENTED - immediate=true"),
    ("a prefetch in bytes", lambda c, n: c.basic_qos(prefetch_size=10), 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
    ("recover without requeue", lambda c, n: c.basic_recover(requeue=False), 540, "NOT_IMPLEMENTED - requeue=false"),
    ("a consumer tag twice", lambda c, n: twice(c, n), 530, "NOT_ALLOWED - attempt to reuse consumer tag 'same'"),
    ("flow off", lambda c, n: c.flow(False), 540, "NOT_IMPLEMENTED - active=false"),
]


def immediate(channel, name):
    channel._impl._send_method(pika.spec.Basic.Publish(exchange="", routing_key=name, immediate=True), (pika.BasicProperties(), b"x"))
    channel.queue_declare(name, passive=True)


def twice(channel, name):
    """pika watches over tags itself: ask below it."""
    channel.queue_declare(name, exclusive=True)
    for _ in range(2):
        channel._impl._send_method(pika.spec.Basic.Consume(queue=name, consumer_tag="same"))
    channel.queue_declare(name, passive=True)


@pytest.mark.parametrize("what,act,code,text", FATAL, ids=[what for what, *_ in FATAL])
def test_some_refusals_close_the_connection(channel, name, what, act, code, text):
    with pytest.raises(ConnectionClosedByBroker) as closed:
        act(channel, name)
    assert (closed.value.reply_code, closed.value.reply_text) == (code, text)


def test_a_missing_virtual_host(connect):
    with pytest.raises(Exception) as refused:
        connect(virtual_host="nowhere")
    assert "530" in repr(refused.value) and "NOT_ALLOWED - vhost nowhere not found" in repr(refused.value)
