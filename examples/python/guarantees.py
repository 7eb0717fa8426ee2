"""What the three guarantee programs share: five orders, and a worker that dies in the middle of the third."""
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

BROKER = {'bootstrap.servers': 'localhost:9092'}
ORDERS = 5
DEATH = 3


def topic(name):
    """A new topic with one partition; its name is not used twice."""
    name = f"{name}-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(BROKER)  # kept until its answer is there
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    return name


def five_orders():
    """A topic with the orders 1 to 5."""
    name = topic("orders")
    producer = Producer({**BROKER, 'acks': 'all'})
    for number in range(1, ORDERS + 1):
        producer.produce(name, str(number).encode())
    assert producer.flush(20) == 0
    return name


def worker(topic, **settings):
    """A member of the topic's group."""
    consumer = Consumer({**BROKER, 'group.id': f"{topic}-workers", 'auto.offset.reset': 'earliest', **settings})
    consumer.subscribe([topic])
    return consumer


def next_order(consumer):
    """The next order, as message and number."""
    for _ in range(60):
        message = consumer.poll(1.0)
        if message is not None and not message.error():
            return message, int(message.value())
    raise SystemExit("no order within a minute")
