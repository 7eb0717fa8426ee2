"""confluent-kafka (librdkafka)."""
import os
import sys
import threading

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

CLIENT = {"bootstrap.servers": os.environ["KAFKA"]}


def create(topic, partitions):
    admin = AdminClient(CLIENT)
    admin.create_topics([NewTopic(topic, num_partitions=int(partitions), replication_factor=1)])[topic].result(20)


def delete(topic):
    admin = AdminClient(CLIENT)
    admin.delete_topics([topic])[topic].result(20)


def produce(topic, codec, acks):
    how = {"enable.idempotence": True} if acks == "idempotent" else {"acks": acks}
    producer, errors = Producer({**CLIENT, **how, "compression.type": codec, "linger.ms": 5}), []
    for line in sys.stdin:
        key, value = line.rstrip("\n").split("=", 1)
        producer.produce(topic, value, key, partition=0, on_delivery=lambda error, _: error and errors.append(error))
    left = producer.flush(30)
    if errors or left:
        sys.exit(f"{errors} {left} left")


def transact(topic, name):
    producer = Producer({**CLIENT, "transactional.id": name, "linger.ms": 0})
    producer.init_transactions(30)
    for line in sys.stdin:
        key, value = line.rstrip("\n").split("=", 1)
        producer.begin_transaction()
        producer.produce(topic, value, key, partition=0)
        if value.startswith("!"):
            producer.flush(30)  # an abort drops what was not sent yet
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)


def consumer(**extra):
    return Consumer({**CLIENT, "enable.auto.commit": False, "auto.offset.reset": "earliest", **extra})


def show(reader, count):
    for _ in range(int(count)):
        message = reader.poll(20)
        if message is None or message.error():
            sys.exit(f"no record: {message and message.error()}")
        print(message.offset(), message.key().decode(), message.value().decode(), sep="\t")


def read(topic, start, count):
    reader = consumer(**{"group.id": "none"})
    place = TopicPartition(topic, 0)
    if start.startswith("@"):
        place.offset = int(start[1:])
        [place] = reader.offsets_for_times([place], 20)
    else:
        place.offset = 0 if start == "beginning" else int(start)
    reader.assign([place])
    show(reader, count)
    reader.close()


def group(topic, name, count):
    reader = consumer(**{"group.id": name})
    reader.subscribe([topic])
    show(reader, count)
    reader.commit(asynchronous=False)
    reader.close()


def member(topic, name, protocol="classic"):
    how = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300} if protocol == "classic" else {"group.protocol": protocol}
    reader, had, ended = consumer(**{"group.id": name, **how}), None, threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    reader.subscribe([topic])
    while not ended.is_set():
        message = reader.poll(0.1)
        has = sorted(place.partition for place in reader.assignment())
        if has != had:
            print("has", ",".join(map(str, has)), flush=True)
            had = has
        if message and not message.error():
            reader.commit(message, asynchronous=False)
            print("got", message.partition(), message.value().decode(), flush=True)
    reader.close()


if __name__ == "__main__":
    try:
        {f.__name__: f for f in (create, delete, produce, transact, read, group, member)}[sys.argv[1]](*sys.argv[2:])
    except KafkaException as error:
        sys.exit(str(error))
