"""What the seed's two declarations of `orders` do to one another; docs/guide/orders-406.md explains it."""
import pika

DURABLE = {}
WITH_DEAD_LETTERS = {'x-dead-letter-exchange': 'dlx', 'x-dead-letter-routing-key': 'orders', 'x-message-ttl': 300000}


def declare(arguments):
    """Declares the queue on a channel of its own: a refusal closes the channel."""
    channel = connection.channel()
    try:
        channel.queue_declare('orders', durable=True, arguments=arguments)
        print("declared")
    except pika.exceptions.ChannelClosedByBroker as refused:
        print(refused.reply_code, refused.reply_text)


connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))
declare(DURABLE)
declare(DURABLE)
declare(WITH_DEAD_LETTERS)
connection.channel().queue_delete('orders')
declare(WITH_DEAD_LETTERS)
declare(DURABLE)
connection.channel().queue_delete('orders')
connection.close()
