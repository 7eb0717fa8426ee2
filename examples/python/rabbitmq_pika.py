"""Seed section 3, "Python with pika (Sync)"."""
import pika
import json

order = {"id": "123", "total": 42}  # added: sample data

def process_order(order):  # added: sample work
    print(f"processed order {order['id']}")  # added: sample work

connection = pika.BlockingConnection(
    pika.ConnectionParameters('localhost')
)
channel = connection.channel()

# Declare durable queue (survives restart)
channel.queue_declare(queue='orders', durable=True)

# Publish with persistence
channel.basic_publish(
    exchange='',
    routing_key='orders',
    body=json.dumps(order),
    properties=pika.BasicProperties(
        delivery_mode=2,  # Persistent
        content_type='application/json',
    )
)

# Consumer with manual ack
def callback(ch, method, properties, body):
    try:
        process_order(json.loads(body))
        ch.basic_ack(delivery_tag=method.delivery_tag)
        ch.stop_consuming()  # added: the end of the loop
    except Exception:
        # Requeue on failure
        ch.basic_nack(delivery_tag=method.delivery_tag, requeue=True)

channel.basic_qos(prefetch_count=10)  # Limit unacked messages
channel.basic_consume(queue='orders', on_message_callback=callback)
channel.start_consuming()
left = channel.queue_declare(queue='orders', passive=True).method.message_count  # added: shows the acknowledgement
print(f"{left} orders left")  # added
channel.queue_delete(queue='orders')  # added: others declare it with arguments, see docs/guide/orders-406.md
connection.close()  # added
