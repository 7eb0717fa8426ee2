"""Exactly once (seed section 2, "Delivery Guarantees"): the result and the offset of an order are one transaction.

The worker that dies with the result of order 3 written and its transaction open leaves a result that no reader of committed
records sees; its successor, under the same transactional id, fences it and does order 3 again.
"""
from confluent_kafka import Producer, TopicPartition

from guarantees import BROKER, DEATH, ORDERS, five_orders, next_order, topic, worker

SETTINGS = {'enable.auto.commit': False, 'isolation.level': 'read_committed'}
orders, results = five_orders(), topic("results")


def transactional():
    producer = Producer({**BROKER, 'transactional.id': f"{orders}-worker"})
    producer.init_transactions(30)
    return producer


def work(producer, consumer, message, order):
    """Writes the result and the offset behind the order; both hold when the transaction is committed."""
    producer.begin_transaction()
    producer.produce(results, f"result of {order}".encode())
    behind = [TopicPartition(orders, message.partition(), message.offset() + 1)]
    producer.send_offsets_to_transaction(behind, consumer.consumer_group_metadata(), 30)
    producer.flush(20)


producer, consumer, order = transactional(), worker(orders, **SETTINGS), 0
while order < DEATH:
    message, order = next_order(consumer)
    work(producer, consumer, message, order)
    if order < DEATH:
        producer.commit_transaction(30)
consumer.close()  # died with the transaction of order 3 open

producer, consumer = transactional(), worker(orders, **SETTINGS)
while True:
    message, order = next_order(consumer)
    work(producer, consumer, message, order)
    producer.commit_transaction(30)
    if order == ORDERS:
        break
consumer.close()

reader = worker(results, **SETTINGS)
for _ in range(ORDERS):
    print(reader.poll(30).value().decode())
assert reader.poll(2) is None, "a result more than there are orders"
reader.close()
