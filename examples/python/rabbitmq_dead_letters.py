"""Seed section 3, "Dead Letter Exchange (DLX)": declared as there, then a rejected order is found among the dead letters."""
import pika  # added: the snippet goes on from the one before it

connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))  # added
channel = connection.channel()  # added

# Messages go to DLX when:
# 1. Rejected (nack with requeue=False)
# 2. TTL expired
# 3. Queue length exceeded
# 4. Delivery limit exceeded (quorum queues)

# Setup DLX
channel.exchange_declare('dlx', exchange_type='direct')
channel.queue_declare('dead_letters', durable=True)
channel.queue_bind('dead_letters', 'dlx', routing_key='orders')

# Main queue with DLX
channel.queue_declare(
    'orders',
    durable=True,
    arguments={
        'x-dead-letter-exchange': 'dlx',
        'x-dead-letter-routing-key': 'orders',
        'x-message-ttl': 300000,  # 5 min TTL
    }
)

channel.basic_publish(exchange='', routing_key='orders', body='bad order')  # added: an order to reject
for method, _, body in channel.consume('orders', inactivity_timeout=20):  # added
    channel.basic_nack(method.delivery_tag, requeue=False)  # added: trigger 1
    break  # added
channel.cancel()  # added
for method, properties, body in channel.consume('dead_letters', inactivity_timeout=20):  # added
    death = properties.headers['x-death'][0]  # added
    print(f"{body.decode()}: {death['reason']} from {death['queue']}, {death['count']} time")  # added
    channel.basic_ack(method.delivery_tag)  # added
    break  # added
channel.cancel()  # added
channel.queue_delete('orders')  # added: others declare it without arguments, see docs/guide/orders-406.md
channel.queue_delete('dead_letters')  # added
channel.exchange_delete('dlx')  # added
connection.close()  # added
