"""Seed section 2, "Consumer Best Practices". Run kafka_producer.py first: it writes the order that is read here."""
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import KafkaException  # added: the snippet raises it and does not import it
import json  # added: for the sample work

def process_order(value):  # added: sample work
    print(f"processed order {json.loads(value)['id']}")  # added: sample work

config = {
    'bootstrap.servers': 'localhost:9092',
    'group.id': 'order-processor',
    'auto.offset.reset': 'earliest',
    'enable.auto.commit': False,  # Manual commit for safety
}

consumer = Consumer(config)
consumer.subscribe(['orders'])

try:
    while True:
        msg = consumer.poll(timeout=1.0)
        if msg is None:
            continue
        if msg.error():
            if msg.error().code() == KafkaError._PARTITION_EOF:
                continue
            raise KafkaException(msg.error())
        
        # Process message
        process_order(msg.value())
        
        # Manual commit after successful processing
        consumer.commit(asynchronous=False)
        print(f"committed offset {consumer.committed(consumer.assignment())[0].offset}")  # added: shows the commit
        break  # added: the end of the loop
finally:
    consumer.close()
