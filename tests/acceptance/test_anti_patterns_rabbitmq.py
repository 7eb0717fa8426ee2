"""Section 5 of the seed document: the harm of what to avoid with RabbitMQ, and what does without it (docs/guide/anti-patterns.md)."""
import time

import pika

from test_pika import channel, connection, dead_letters, depth, get  # noqa: F401  (fixtures)


def test_without_acknowledgements_a_crash_loses_what_was_delivered(amqp, channel, name):
    channel.queue_declare(name, durable=True)
    for auto_ack, left in ((True, 0), (False, 1)):
        channel.basic_publish("", name, b"order", pika.BasicProperties(delivery_mode=2))
        worker = pika.BlockingConnection(pika.URLParameters(amqp))
        assert get(worker.channel(), name, auto_ack=auto_ack)[2] == b"order"
        worker.close()  # before it has done anything
        message = get(channel, name, 5.0 if left else 0.5)
        assert (message[2] == b"order") == bool(left)


def test_what_fails_and_is_requeued_at_once_comes_again_without_end(channel, name):
    channel.queue_declare(name, durable=True)
    channel.basic_publish("", name, b"poison")
    for attempt in range(100):  # as long as anybody looks
        method, _, body = get(channel, name, auto_ack=False)
        assert body == b"poison" and method.redelivered == (attempt > 0)
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert get(channel, name)[2] == b"poison"


def test_a_delivery_limit_ends_the_loop_in_the_dead_letters(channel, name):
    dead = dead_letters(channel, name, x_delivery_limit=3, queue_type="quorum")
    channel.basic_publish("", name, b"poison")
    attempts = 0
    while (method := get(channel, name, 0.5, auto_ack=False)[0]) and attempts < 100:
        attempts += 1
        channel.basic_reject(method.delivery_tag, requeue=True)
    assert attempts == 4 and get(channel, dead)[2] == b"poison"


def test_without_a_dead_letter_exchange_what_is_rejected_is_gone(channel, name):
    channel.queue_declare(name, durable=True)
    channel.basic_publish("", name, b"poison")
    method, _, _ = get(channel, name, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    assert depth(channel, name) == 0 and get(channel, name, 0.5)[0] is None


def test_without_a_prefetch_limit_one_consumer_is_sent_everything(amqp, channel, name):
    channel.queue_declare(name, durable=True)
    channel.confirm_delivery()
    for number in range(300):
        channel.basic_publish("", name, b"%d" % number)
    for prefetch, first_has, second_has in ((0, 300, 0), (10, 10, 10)):
        workers, got = [pika.BlockingConnection(pika.URLParameters(amqp)) for _ in range(2)], [0, 0]

        def deliver(at):
            def delivered(*_):
                got[at] += 1
            return delivered

        for at, (worker, most) in enumerate(zip(workers, (first_has, second_has))):
            own = worker.channel()
            own.basic_qos(prefetch_count=prefetch)
            own.basic_consume(name, deliver(at))
            deadline = time.time() + 20
            while got[at] < most and time.time() < deadline:
                worker.process_data_events(0.1)
            worker.process_data_events(0.3)  # and no more
        assert got == [first_has, second_has]
        for worker in workers:
            worker.close()
        deadline = time.time() + 20
        while depth(channel, name) < 300 and time.time() < deadline:
            time.sleep(0.05)


def test_a_worker_that_waits_for_an_answer_keeps_everything_behind_it_waiting(amqp, channel, name):
    """The service that should answer is down: with a call inside the handler nothing else is done, with an event everything is."""
    for queue in (name, name + "-questions"):
        channel.queue_declare(queue, durable=True)
    for blocks, handled in ((True, 0), (False, 5)):
        for number in range(5):
            channel.basic_publish("", name, b"%d" % number)
        worker = pika.BlockingConnection(pika.URLParameters(amqp))
        own, done = worker.channel(), []
        answers = own.queue_declare("", exclusive=True).method.queue

        def handle(ch, method, properties, body):
            ch.basic_publish("", name + "-questions", body, pika.BasicProperties(reply_to=answers, correlation_id=body.decode()))
            if blocks:
                got = get(ch, answers, 1.0)  # a patience of one second, and of thirty in practice
                if got[0] is None:
                    return
            done.append(body)
            ch.basic_ack(method.delivery_tag)

        own.basic_qos(prefetch_count=1)
        own.basic_consume(name, handle)
        deadline = time.time() + (0.5 if blocks else 20)
        while len(done) < 5 and time.time() < deadline:
            worker.process_data_events(0.1)
        assert len(done) == handled
        worker.close()
        channel.queue_purge(name)
