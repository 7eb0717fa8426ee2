"""Seed section 2, "Async Kafka (aiokafka)". The consumer starts at the end of the topic, as aiokafka does by default."""
from aiokafka import AIOKafkaProducer, AIOKafkaConsumer
import asyncio

# Async Producer
async def produce():
    producer = AIOKafkaProducer(bootstrap_servers='localhost:9092')
    await producer.start()
    try:
        await producer.send_and_wait('topic', b'message')
    finally:
        await producer.stop()

# Async Consumer
async def consume():
    consumer = AIOKafkaConsumer(
        'topic',
        bootstrap_servers='localhost:9092',
        group_id='my-group'
    )
    await consumer.start()
    try:
        asyncio.get_running_loop().create_task(produce_once_placed(consumer))  # added: something to receive
        async for msg in consumer:
            print(f"Received: {msg.value}")
            break  # added: the end of the loop
    finally:
        await consumer.stop()

async def produce_once_placed(consumer):  # added: a message written before the consumer has its place would be missed
    while not consumer.assignment():  # added
        await asyncio.sleep(0.05)  # added
    for partition in consumer.assignment():  # added
        await consumer.position(partition)  # added
    await produce()  # added

async def main():  # added: runs both
    await produce()  # added: the topic begins to exist
    await consume()  # added

asyncio.run(main())  # added
