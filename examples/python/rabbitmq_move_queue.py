"""Moves the messages of `orders` into a queue that is declared anew, with other arguments; docs/guide/orders-406.md."""
import pika

ARGUMENTS = {'x-dead-letter-exchange': 'dlx', 'x-dead-letter-routing-key': 'orders', 'x-message-ttl': 300000}


def move(channel, source, target):
    """Each message is confirmed in its new queue before it is acknowledged in its old one: none is lost."""
    moved = 0
    while True:
        method, properties, body = channel.basic_get(source)
        if method is None:
            return moved
        channel.basic_publish('', target, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)
        moved += 1


connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))
channel = connection.channel()
channel.confirm_delivery()  # from here on basic_publish returns when the message is safe

channel.queue_declare('orders', durable=True)
for number in range(10):
    channel.basic_publish('', 'orders', f"order {number}", pika.BasicProperties(delivery_mode=2))

channel.queue_declare('orders.moving', durable=True)
print("moved out:", move(channel, 'orders', 'orders.moving'))
channel.queue_delete('orders', if_empty=True)
channel.queue_declare('orders', durable=True, arguments=ARGUMENTS)
print("moved in:", move(channel, 'orders.moving', 'orders'))
channel.queue_delete('orders.moving', if_empty=True)

print("in order:", [channel.basic_get('orders', auto_ack=True)[2].decode() for _ in range(10)])
channel.queue_delete('orders')
connection.close()
