"""pika."""
import os
import sys
import time

import pika

URL = os.environ["AMQP"]
PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="text/plain", headers={"client": "pika"})


def open_channel():
    return pika.BlockingConnection(pika.URLParameters(URL)).channel()


def topology(name, queue_type):
    channel = open_channel()
    channel.exchange_declare(f"{name}-dlx", exchange_type="fanout", durable=True)
    channel.queue_declare(f"{name}-dead", durable=True)
    channel.queue_bind(f"{name}-dead", f"{name}-dlx", "")
    channel.exchange_declare(name, exchange_type="direct", durable=True)
    channel.queue_declare(name, durable=True, arguments={"x-dead-letter-exchange": f"{name}-dlx", "x-queue-type": queue_type})
    channel.queue_bind(name, name, "orders")
    channel.connection.close()


def publish(name):
    channel = open_channel()
    channel.confirm_delivery()
    for line in sys.stdin:
        channel.basic_publish(name, "orders", line.rstrip("\n"), PERSISTENT, mandatory=True)
    channel.connection.close()


def unroutable(name):
    channel = open_channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish(name, "nowhere", b"lost", PERSISTENT, mandatory=True)
    except pika.exceptions.UnroutableError as error:
        method = error.messages[0].method
        print(method.reply_code, method.reply_text, sep="\t")
    channel.connection.close()


def deliveries(queue, prefetch, count):
    channel = open_channel()
    channel.basic_qos(prefetch_count=int(prefetch))
    for _, delivery in zip(range(int(count)), channel.consume(queue, inactivity_timeout=20)):
        if delivery[0] is None:
            sys.exit("no message came")
        yield channel, *delivery
    channel.cancel()
    channel.connection.close()


def consume(queue, prefetch, count):
    for channel, method, _, body in deliveries(queue, prefetch, count):
        print(str(method.redelivered).lower(), body.decode(), sep="\t")
        channel.basic_ack(method.delivery_tag)


def requeue(queue):
    for channel, method, _, body in deliveries(queue, 1, 2):
        print(str(method.redelivered).lower(), body.decode(), sep="\t")
        if method.redelivered:
            channel.basic_ack(method.delivery_tag)
        else:
            channel.basic_nack(method.delivery_tag, requeue=True)


def reject(queue, count):
    for channel, method, _, _ in deliveries(queue, 5, count):
        channel.basic_reject(method.delivery_tag, requeue=False)


def dead(queue, count):
    for channel, method, properties, body in deliveries(queue, 5, count):
        death = properties.headers["x-death"][0]
        print(death["reason"], death["queue"], death["count"], body.decode(), sep="\t")
        channel.basic_ack(method.delivery_tag)


def follow(queue, count):
    left, deadline = int(count), time.monotonic() + 60
    while left and time.monotonic() < deadline:
        try:
            channel = open_channel()
            channel.basic_qos(prefetch_count=1)
            for method, _, body in channel.consume(queue):
                print(str(method.redelivered).lower(), body.decode(), sep="\t", flush=True)
                channel.basic_ack(method.delivery_tag)
                left -= 1
                if not left:
                    channel.connection.close()
                    break
        except (pika.exceptions.AMQPError, OSError):
            time.sleep(0.1)


if __name__ == "__main__":
    commands = (topology, publish, unroutable, consume, requeue, reject, dead, follow)
    {f.__name__: f for f in commands}[sys.argv[1]](*sys.argv[2:])
