"""While the consumer is away publishers of both kinds go on; when it returns it gets everything once and in order."""
import os
import subprocess
import sys
import threading
import time

import pika
import pytest
from confluent_kafka import Producer
from conftest import AMQP, KAFKA, STREAM

RATE = 5_000  # messages a second, half of them from each publisher
SECONDS = float(os.environ.get("BUFFER_SECONDS", "10"))
BODY = b"%012d" + b"." * 88


def paced(publish, pump, results):
    """Calls `publish` RATE/2 times a second for SECONDS; what it could not keep up with is told."""
    start, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        due = int(elapsed * RATE / 2)
        while sent < due:
            publish(BODY % sent)
            sent += 1
        pump()
    results.append(sent)


def from_rabbit(queue, results):
    """A publisher with its confirms, in flight like an asynchronous one's."""
    connection = pika.BlockingConnection(pika.URLParameters(AMQP))
    channel = connection.channel()
    channel.tx_select()
    properties = pika.BasicProperties(delivery_mode=2)
    pending = [0]

    def publish(body):
        channel.basic_publish("", queue, b"rabbit " + body, properties)
        pending[0] += 1
        if pending[0] == 500:
            channel.tx_commit()
            pending[0] = 0

    paced(publish, lambda: time.sleep(0.002), results)
    channel.tx_commit()
    connection.close()


def from_kafka(topic, results):
    producer = Producer({"bootstrap.servers": KAFKA, "acks": "all", "linger.ms": 5, "enable.idempotence": True})
    failed = []

    def publish(body):
        producer.produce(topic, b"kafka " + body, on_delivery=lambda error, _: error and failed.append(error))

    def pump():
        producer.poll(0)
        time.sleep(0.002)

    paced(publish, pump, results)
    assert producer.flush(60) == 0 and not failed


# consumes until it was killed or has COUNT messages; a line for each
CONSUMER = """
import sys, pika
url, queue, count, arguments = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.basic_qos(prefetch_count=200)
got = 0
for method, properties, body in channel.consume(queue, arguments=arguments, inactivity_timeout=10):
    if method is None:
        break
    sys.stdout.write(f"{body[:20].decode().split('.')[0]} {method.redelivered} {(properties.headers or {}).get('x-stream-offset')}\\n")
    sys.stdout.flush()
    channel.basic_ack(method.delivery_tag)
    got += 1
    if got == count:
        break
channel.connection.close()
"""


def consume(queue, count, arguments=None, kill_after=None):
    command = [sys.executable, "-c", CONSUMER, AMQP, queue, str(count), repr(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            if line.endswith("\n"):
                lines.append(line.split())
            if kill_after and len(lines) == kill_after:
                process.kill()
        return lines


def check_order(lines, counts):
    for kind, count in counts.items():
        numbers = [int(line[1]) for line in lines if line[0] == kind]
        assert numbers == list(range(count)), f"{kind}: {len(numbers)} of {count}, or out of order"


@pytest.mark.timeout(SECONDS * 6 + 180)
def test_a_log_buffers_for_both_and_a_killed_reader_goes_on_where_it_was(connect, name):
    connect().channel().queue_declare(name, durable=True, arguments=STREAM)
    results = {"rabbit": [], "kafka": []}
    threads = [threading.Thread(target=from_rabbit, args=(name, results["rabbit"])),
               threading.Thread(target=from_kafka, args=(name, results["kafka"]))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    counts = {kind: sent for kind, (sent,) in results.items()}
    total = sum(counts.values())
    assert total >= 0.9 * RATE * SECONDS, f"the publishers themselves were too slow: {counts}"
    first = consume(name, total, {"x-stream-offset": "first"}, kill_after=total // 2)
    rest = consume(name, total - len(first), {"x-stream-offset": int(first[-1][3]) + 1})
    offsets = [int(line[3]) for line in first + rest]
    assert offsets == list(range(total)), "each once, in order"
    check_order(first + rest, counts)


@pytest.mark.timeout(SECONDS * 6 + 180)
def test_a_queue_buffers_and_a_killed_consumer_costs_redeliveries_only(connect, name):
    connect().channel().queue_declare(name, durable=True)
    results = []
    from_rabbit(name, results)
    sent = results[0]
    first = consume(name, sent, kill_after=sent // 2)
    rest = consume(name, sent)
    assert all(line[2] == "False" for line in first), "nothing was delivered before"
    again = [line for line in rest if line[2] == "True"]
    assert len(again) <= 200, "what the killed consumer held, and nothing else"
    seen = list(dict.fromkeys(int(line[1]) for line in first + rest))
    assert sorted(seen) == list(range(sent)), "everything arrives"
    fresh = [int(line[1]) for line in rest if line[2] == "False"]
    assert fresh == sorted(fresh) and len(fresh) == len(set(fresh)), "in order and once"
