"""Seed section 3, "Delay Queue Pattern", with two seconds instead of five minutes.

The queue is neither durable nor exclusive: RabbitMQ 4.3 no longer lets it be declared.
"""
import pika  # added: the snippet goes on from the ones before it
import time  # added

connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))  # added
channel = connection.channel()  # added
channel.queue_declare(queue='orders', durable=True)  # added: where the message goes after the delay
message = b'order 123'  # added: sample data

# RabbitMQ doesn't have native delay - use TTL + DLX

# 1. Create delay queue (messages expire to main queue)
channel.queue_declare(
    'delay_5min',
    arguments={
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': 'orders',
        'x-message-ttl': 2000,  # changed: 'x-message-ttl': 300000,  # 5 minutes
    }
)

published = time.monotonic()  # added
# 2. Publish to delay queue
channel.basic_publish(
    exchange='',
    routing_key='delay_5min',
    body=message
)
# After 5 min, message appears in 'orders' queue
for method, properties, body in channel.consume('orders', inactivity_timeout=20):  # added: waits for it
    waited = time.monotonic() - published  # added
    reason = properties.headers['x-death'][0]['reason']  # added
    print(f"{body.decode()}: {reason}, {'not before' if waited >= 2 else 'BEFORE'} its time")  # added
    channel.basic_ack(method.delivery_tag)  # added
    break  # added
channel.cancel()  # added
channel.queue_delete('orders')  # added: others declare it with arguments, see docs/guide/orders-406.md
channel.queue_delete('delay_5min')  # added
connection.close()  # added
