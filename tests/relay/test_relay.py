"""The seed's outbox pattern (section 1.7) in Python, and `ottla relay` as its second half: on SQLite and on PostgreSQL,
to a Kafka consumer and to a RabbitMQ consumer."""
import json
import os
import signal
import sqlite3
import subprocess
import time
import uuid

import pika
import psycopg2
import pytest
from confluent_kafka import Consumer

OTTLA, KAFKA, AMQP, POSTGRES = (os.environ[name] for name in ("OTTLA", "KAFKA", "AMQP", "POSTGRES"))


class Sqlite:
    """The database of the program, with a table `outbox` as the seed has it."""

    mark, serial = "?", "INTEGER PRIMARY KEY"

    def __init__(self, folder):
        self.url = f"sqlite:{folder}/shop.db"
        self.connection = sqlite3.connect(f"{folder}/shop.db", timeout=10)


class Postgres:
    mark, serial = "%s", "BIGSERIAL PRIMARY KEY"

    def __init__(self, folder):
        schema = f"s{uuid.uuid4().hex[:12]}"
        self.connection = psycopg2.connect(POSTGRES)
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}")
        self.url = f"{POSTGRES}?options=-csearch_path%3D{schema}"


@pytest.fixture(params=[Sqlite, Postgres])
def shop(request, tmp_path):
    shop = request.param(tmp_path)
    cursor = shop.connection.cursor()
    cursor.execute("CREATE TABLE orders (id TEXT PRIMARY KEY, cents INTEGER)")
    cursor.execute(f"CREATE TABLE outbox (id {shop.serial}, aggregate_id TEXT, event_type TEXT, payload TEXT)")
    shop.connection.commit()
    yield shop
    shop.connection.close()


def save(shop, order, cents, fails=False):
    """Atomic write to database and outbox table, as in the seed."""
    cursor = shop.connection.cursor()
    values = ", ".join([shop.mark] * 2), ", ".join([shop.mark] * 3)
    cursor.execute(f"INSERT INTO orders VALUES ({values[0]})", (order, cents))
    cursor.execute(f"INSERT INTO outbox (aggregate_id, event_type, payload) VALUES ({values[1]})",
                   (order, "OrderCreated", json.dumps({"id": order, "cents": cents, "note": 'a "quoted" \\ word'})))
    shop.connection.rollback() if fails else shop.connection.commit()


def left(shop):
    cursor = shop.connection.cursor()
    cursor.execute("SELECT count(*) FROM outbox")
    count = cursor.fetchone()[0]
    shop.connection.rollback()
    return count


def relay(shop, *arguments):
    return subprocess.run([OTTLA, "relay", "--database", shop.url, *arguments], timeout=60, capture_output=True, text=True)


def test_orders_saved_by_python_reach_a_kafka_consumer(shop):
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    for n in range(20):
        save(shop, f"o-{n % 4}-{n}", n, fails=n % 5 == 4)
    done = relay(shop, "--to", f"kafka://{KAFKA}", "--address", topic, "--once")
    assert (done.returncode, left(shop)) == (0, 0), done.stderr
    assert "16 published" in done.stderr

    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got, deadline = [], time.monotonic() + 20
    while len(got) < 16 and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and not message.error():
            got.append(message)
    consumer.close()
    orders = [json.loads(message.value()) for message in got]
    assert sorted(order["cents"] for order in orders) == [n for n in range(20) if n % 5 != 4]
    assert orders[0]["note"] == 'a "quoted" \\ word'
    headers = dict(got[0].headers())
    assert headers["ce_type"] == b"OrderCreated" and got[0].key().decode() == orders[0]["id"]
    assert len({dict(message.headers())["ce_id"] for message in got}) == 16


def test_orders_reach_a_queue_while_the_program_goes_on(shop):
    queue = f"orders-{uuid.uuid4().hex[:8]}"
    connection = pika.BlockingConnection(pika.URLParameters(AMQP))
    channel = connection.channel()
    running = subprocess.Popen([OTTLA, "relay", "--database", shop.url, "--to", AMQP.rstrip("/"), "--address", f"queue:{queue}"],
                               stderr=subprocess.PIPE, text=True)
    try:
        save(shop, "o-0", 0)
        time.sleep(0.5)
        assert left(shop) == 1, "nobody takes it: it must stay"
        channel.queue_declare(queue, durable=True)
        for n in range(1, 30):
            save(shop, f"o-{n}", n)
        got, deadline = [], time.monotonic() + 30
        while len(got) < 30 and time.monotonic() < deadline:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                connection.sleep(0.05)
                continue
            assert (properties.type, properties.delivery_mode) == ("OrderCreated", 2)
            got.append((json.loads(body)["cents"], properties.message_id))
        assert sorted(cents for cents, _ in got) == list(range(30))
        assert len({message for _, message in got}) == 30
        deadline = time.monotonic() + 5
        while left(shop) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left(shop) == 0
    finally:
        running.send_signal(signal.SIGTERM)
        _, told = running.communicate(timeout=20)
    assert running.returncode == 0, told
    assert "30 published" in told
    connection.close()


def test_what_is_wrong_is_said(shop):
    wrong = relay(shop, "--to", "ftp://x", "--address", "t", "--once")
    assert wrong.returncode == 64 and "kafka://" in wrong.stderr
    nowhere = relay(shop, "--to", f"kafka://{KAFKA}", "--once")
    assert nowhere.returncode == 78 and "address" in nowhere.stderr
    table = relay(shop, "--to", f"kafka://{KAFKA}", "--address", "t", "--table", "nothing", "--once")
    assert table.returncode == 78 and "CREATE TABLE" in table.stderr
    save(shop, "o-1", 1)
    down = relay(shop, "--to", "kafka://127.0.0.1:1", "--address", "t", "--once")
    assert (down.returncode, left(shop)) == (69, 1), down.stderr
