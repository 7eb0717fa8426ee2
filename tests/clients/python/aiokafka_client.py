"""aiokafka."""
import asyncio
import os
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

KAFKA = os.environ["KAFKA"]


async def administer(work):
    admin = AIOKafkaAdminClient(bootstrap_servers=KAFKA)
    await admin.start()
    try:
        answer = await work(admin)
    finally:
        await admin.close()
    errors = [error for error in getattr(answer, "topic_errors", None) or answer.topic_error_codes if error[1] != 0]
    if errors:
        sys.exit(f"{errors}")


async def create(topic, partitions):
    await administer(lambda admin: admin.create_topics([NewTopic(topic, int(partitions), 1)]))


async def delete(topic):
    await administer(lambda admin: admin.delete_topics([topic]))


async def produce(topic, codec, acks):
    how = {"enable_idempotence": True} if acks == "idempotent" else {"acks": acks if acks == "all" else int(acks)}
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, compression_type=None if codec == "none" else codec, linger_ms=5, **how)
    await producer.start()
    try:
        sent = []
        for line in sys.stdin:
            key, value = line.rstrip("\n").encode().split(b"=", 1)
            sent.append(await producer.send(topic, value, key, partition=0))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def transact(topic, name):
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, transactional_id=name)
    await producer.start()
    try:
        for line in sys.stdin:
            key, value = line.rstrip("\n").encode().split(b"=", 1)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value, key, partition=0)
            await (producer.abort_transaction() if value.startswith(b"!") else producer.commit_transaction())
    finally:
        await producer.stop()


async def show(consumer, count):
    for _ in range(int(count)):
        record = await asyncio.wait_for(consumer.getone(), 20)
        print(record.offset, record.key.decode(), record.value.decode(), sep="\t")


async def read(topic, start, count):
    consumer = AIOKafkaConsumer(bootstrap_servers=KAFKA, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        if start.startswith("@"):
            found = (await consumer.offsets_for_times({place: int(start[1:])}))[place]
            consumer.seek(place, found.offset)
        elif start == "beginning":
            await consumer.seek_to_beginning(place)
        else:
            consumer.seek(place, int(start))
        await show(consumer, count)
    finally:
        await consumer.stop()


async def group(topic, name, count):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=KAFKA, group_id=name, enable_auto_commit=False,
                                auto_offset_reset="earliest", max_poll_records=1)
    await consumer.start()
    try:
        await show(consumer, count)
        await consumer.commit()
    finally:
        await consumer.stop()


async def member(topic, name):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=KAFKA, group_id=name, enable_auto_commit=False,
                                auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=300)
    await consumer.start()
    ended, had = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read), None
    try:
        while not ended.done():
            found = await consumer.getmany(timeout_ms=100)
            has = sorted(place.partition for place in consumer.assignment())
            if has != had:
                print("has", ",".join(map(str, has)), flush=True)
                had = has
            if found:
                await consumer.commit()
            for record in [record for records in found.values() for record in records]:
                print("got", record.partition, record.value.decode(), flush=True)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run({f.__name__: f for f in (create, delete, produce, transact, read, group, member)}[sys.argv[1]](*sys.argv[2:]))
