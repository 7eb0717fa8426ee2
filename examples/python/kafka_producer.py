"""Seed section 2, "Producer Best Practices (confluent-kafka)"."""
from confluent_kafka import Producer
import json

order_id = "123"  # added: sample data
order = {"id": order_id, "total": 42}  # added: sample data

# Configuration
config = {
    'bootstrap.servers': 'localhost:9092',
    'acks': 'all',              # Wait for all replicas
    'retries': 3,
    'retry.backoff.ms': 100,
    'linger.ms': 5,             # Batch for 5ms
    'batch.size': 16384,        # 16KB batches
    'compression.type': 'snappy',
}

producer = Producer(config)

def delivery_callback(err, msg):
    if err:
        print(f"Delivery failed: {err}")
    else:
        print(f"Delivered to {msg.topic()}[{msg.partition()}]")

# Produce with callback
producer.produce(
    topic='orders',
    key=order_id.encode(),
    value=json.dumps(order).encode(),
    callback=delivery_callback
)

# CRITICAL: flush() or poll() to actually send
producer.poll(0)  # Trigger callbacks
producer.flush()  # Block until all sent
