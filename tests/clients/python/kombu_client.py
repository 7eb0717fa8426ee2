"""kombu (py-amqp), what Celery stands on."""
import os
import socket
import sys
import time

from kombu import Connection, Consumer, Exchange, Queue

URL = os.environ["AMQP"]


def connection():
    return Connection(URL, transport_options={"confirm_publish": True}, connect_timeout=5)


def exchange(name):
    return Exchange(name, type="direct", durable=True)


def topology(name, queue_type):
    with connection() as peer:
        letters = Exchange(f"{name}-dlx", type="fanout", durable=True)
        Queue(f"{name}-dead", letters, durable=True)(peer).declare()
        arguments = {"x-dead-letter-exchange": f"{name}-dlx", "x-queue-type": queue_type}
        Queue(name, exchange(name), "orders", durable=True, queue_arguments=arguments)(peer).declare()


def publish(name):
    with connection() as peer:
        producer = peer.Producer()
        for line in sys.stdin:
            producer.publish(line.rstrip("\n"), exchange=name, routing_key="orders", delivery_mode=2, mandatory=True,
                             content_type="text/plain", headers={"client": "kombu"})


def unroutable(name):
    with connection() as peer:
        producer = peer.Producer(on_return=lambda error, *_: print(error.reply_code, error.reply_text, sep="\t"))
        producer.publish("lost", exchange=name, routing_key="nowhere", mandatory=True)


def take(queue, prefetch, count, settle):
    left = int(count)

    def on_message(message):
        nonlocal left
        left -= 1
        settle(message)

    with connection() as peer:
        with Consumer(peer.channel(), Queue(queue, no_declare=True), on_message=on_message, prefetch_count=int(prefetch)):
            while left:
                peer.drain_events(timeout=20)


def text(message):
    return message.body if isinstance(message.body, str) else bytes(message.body).decode()


def show(message):
    print(str(message.delivery_info["redelivered"]).lower(), text(message), sep="\t", flush=True)


def consume(queue, prefetch, count):
    take(queue, prefetch, count, lambda message: (show(message), message.ack()))


def requeue(queue):
    def settle(message):
        show(message)
        message.ack() if message.delivery_info["redelivered"] else message.requeue()
    take(queue, 1, 2, settle)


def reject(queue, count):
    take(queue, 5, count, lambda message: message.reject())


def dead(queue, count):
    def settle(message):
        death = message.headers["x-death"][0]
        print(death["reason"], death["queue"], death["count"], text(message), sep="\t")
        message.ack()
    take(queue, 5, count, settle)


def follow(queue, count):
    left, deadline = int(count), time.monotonic() + 60

    def settle(message):
        nonlocal left
        show(message)
        message.ack()
        left -= 1

    while left and time.monotonic() < deadline:
        try:
            with connection() as peer:
                with Consumer(peer.channel(), Queue(queue, no_declare=True), on_message=settle, prefetch_count=1):
                    while left:
                        try:
                            peer.drain_events(timeout=1)
                        except socket.timeout:
                            continue
        except (*connection().connection_errors, OSError):
            time.sleep(0.1)


if __name__ == "__main__":
    commands = (topology, publish, unroutable, consume, requeue, reject, dead, follow)
    {f.__name__: f for f in commands}[sys.argv[1]](*sys.argv[2:])
