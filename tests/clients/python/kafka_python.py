"""kafka-python."""
import os
import sys
import threading

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

KAFKA = os.environ["KAFKA"]


def create(topic, partitions):
    admin = KafkaAdminClient(bootstrap_servers=KAFKA)
    admin.create_topics([NewTopic(topic, int(partitions), 1)])
    admin.close()


def delete(topic):
    admin = KafkaAdminClient(bootstrap_servers=KAFKA)
    admin.delete_topics([topic])
    admin.close()


def lines():
    return [line.rstrip("\n").encode().split(b"=", 1) for line in sys.stdin]


def produce(topic, codec, acks):
    how = {"enable_idempotence": True, "acks": "all"} if acks == "idempotent" else \
        {"enable_idempotence": False, "acks": acks if acks == "all" else int(acks)}
    producer = KafkaProducer(bootstrap_servers=KAFKA, compression_type=None if codec == "none" else codec, linger_ms=5, **how)
    sent = [producer.send(topic, value, key, partition=0) for key, value in lines()]
    for record in sent:
        record.get(30)
    producer.close()


def transact(topic, name):
    producer = KafkaProducer(bootstrap_servers=KAFKA, transactional_id=name)
    producer.init_transactions()
    for key, value in lines():
        producer.begin_transaction()
        producer.send(topic, value, key, partition=0)
        producer.flush(30)  # an abort drops what was not sent yet
        producer.abort_transaction() if value.startswith(b"!") else producer.commit_transaction()
    producer.close()


def show(consumer, count):
    left = int(count)
    while left:
        found = [record for records in consumer.poll(20_000, max_records=left).values() for record in records]
        if not found:
            sys.exit(f"{left} records are missing")
        for record in found:
            print(record.offset, record.key.decode(), record.value.decode(), sep="\t")
        left -= len(found)


def read(topic, start, count):
    consumer = KafkaConsumer(bootstrap_servers=KAFKA, enable_auto_commit=False, group_id=None)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    if start.startswith("@"):
        consumer.seek(place, consumer.offsets_for_times({place: int(start[1:])})[place].offset)
    elif start == "beginning":
        consumer.seek_to_beginning(place)
    else:
        consumer.seek(place, int(start))
    show(consumer, count)
    consumer.close()


def group(topic, name, count):
    consumer = KafkaConsumer(topic, bootstrap_servers=KAFKA, group_id=name, enable_auto_commit=False, auto_offset_reset="earliest")
    show(consumer, count)
    consumer.commit()
    consumer.close()


def member(topic, name):
    consumer = KafkaConsumer(topic, bootstrap_servers=KAFKA, group_id=name, enable_auto_commit=False, auto_offset_reset="earliest",
                             session_timeout_ms=6000, heartbeat_interval_ms=300)
    # The client joins before it knows the topic's partitions, then joins again once it does; where a poll ends in the middle
    # of that second round, it drops the assignment it is given (3.0.12, on any broker: 7 of 200 members). So: know them first.
    assert consumer.partitions_for_topic(topic)
    had, ended = None, threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        found = consumer.poll(100)
        has = sorted(place.partition for place in consumer.assignment())
        if has != had:
            print("has", ",".join(map(str, has)), flush=True)
            had = has
        if found:
            consumer.commit()
        for record in [record for records in found.values() for record in records]:
            print("got", record.partition, record.value.decode(), flush=True)
    consumer.close()


if __name__ == "__main__":
    {f.__name__: f for f in (create, delete, produce, transact, read, group, member)}[sys.argv[1]](*sys.argv[2:])
