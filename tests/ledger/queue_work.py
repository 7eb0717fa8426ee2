"""The clients of queues: publishers with confirms (pika one by one, aio-pika in a pipeline), a consumer, a last drain."""
import asyncio
import random
import threading
import time

import aio_pika
import pika

from .queue_book import Delivered, Published, QueueBook, shape_of

DOWN = (pika.exceptions.AMQPError, OSError)
PIPELINE_MAX = 50  # unconfirmed publishes of one aio-pika publisher


class QueueWork:
    """Each message goes through a fanout exchange to two queues: one is consumed all the time, one only at the end."""

    def __init__(self, url, seed, publishers=2, rate=400):
        self.url, self.exchange, self.rate = url, f"ledger-{seed}", rate
        self.queues = (f"ledger-{seed}-live", f"ledger-{seed}-late")
        self.book, self.stop, self.errors = QueueBook(), threading.Event(), []
        self.threads = [self._thread(self._publish_one_by_one, "pika")]
        self.threads += [self._thread(self._publish_pipelined, f"aio{i}", random.Random(f"{seed} {i}")) for i in range(publishers - 1)]
        self.consumer = self._thread(self._consume)

    def _thread(self, work, *arguments):
        def guarded():
            try:
                work(*arguments)
            except Exception as error:  # a worker that dies is a finding of its own
                self.errors.append(f"{work.__name__}: {error!r}")
        return threading.Thread(target=guarded, daemon=True, name=work.__name__)

    def start(self):
        channel = self._connect().channel()
        channel.exchange_declare(self.exchange, exchange_type="fanout", durable=True)
        for queue in self.queues:
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, self.exchange)
        channel.connection.close()
        for thread in [*self.threads, self.consumer]:
            thread.start()

    def progress(self):
        """Grows with each confirm."""
        return len(self.book.confirmed)

    def finish(self, seconds=60):
        """Lets the publishers end, then takes and acknowledges all that is there, and counts what is left."""
        self.stop.set()
        for thread in [*self.threads, self.consumer]:
            thread.join(seconds)
            if thread.is_alive():
                self.errors.append(f"{thread.name} did not end")
        for queue in self.queues:
            self._drain(queue)
        channel = self._connect().channel()
        for queue in self.queues:
            self.book.left[queue] = channel.queue_declare(queue, passive=True).method.message_count
        channel.connection.close()

    def _connect(self, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return pika.BlockingConnection(pika.URLParameters(self.url + "?socket_timeout=5&blocked_connection_timeout=20"))
            except DOWN:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _attempt(self, publisher, seq):
        published = Published(publisher, seq, self.queues)
        self.book.published.append(published)
        return published

    def _publish_one_by_one(self, name):
        seq, connection = 0, None
        while not self.stop.is_set():
            try:
                connection = self._connect()
                channel = connection.channel()
                channel.confirm_delivery()
                while not self.stop.is_set():
                    published = self._attempt(name, seq)
                    seq += 1
                    try:
                        channel.basic_publish(self.exchange, "", published.value, _properties(published.value), mandatory=True)
                        self.book.confirmed.append(published)
                    except (pika.exceptions.NackError, pika.exceptions.UnroutableError) as error:
                        self.book.refused.append(published)
                        self.errors.append(f"{published.value}: {error!r}")
                    time.sleep(1 / self.rate)
            except DOWN:
                continue  # what was on its way is of unknown outcome
        if connection and connection.is_open:
            connection.close()

    def _publish_pipelined(self, name, chance):
        asyncio.run(self._pipeline(name, chance))

    async def _pipeline(self, name, chance):
        seq = 0
        while not self.stop.is_set():
            try:
                connection = await asyncio.wait_for(aio_pika.connect(self.url), 5)
            except Exception:  # down, in one of many words
                await asyncio.sleep(0.05)
                continue
            try:
                exchange = await (await connection.channel()).get_exchange(self.exchange, ensure=False)
                while not self.stop.is_set():
                    burst = [self._attempt(name, seq + i) for i in range(chance.randint(1, PIPELINE_MAX))]
                    seq += len(burst)
                    outcomes = await asyncio.wait_for(asyncio.gather(*map(
                        lambda published: self._confirmed(exchange, published), burst), return_exceptions=True), 20)
                    await asyncio.sleep(len(burst) / self.rate)
                    if any(outcomes):
                        break
            except Exception:
                pass  # what was on its way is of unknown outcome
            finally:
                try:
                    await asyncio.wait_for(connection.close(), 2)
                except Exception:
                    pass

    async def _confirmed(self, exchange, published):
        message = aio_pika.Message(published.value.encode(), delivery_mode=2, content_type="text/plain",
                                   headers={"ledger": published.value})
        try:
            await exchange.publish(message, "", mandatory=True)
        except aio_pika.exceptions.DeliveryError as error:
            self.book.refused.append(published)
            self.errors.append(f"{published.value}: {error!r}")
        else:
            self.book.confirmed.append(published)

    def _note(self, queue, method, properties, body):
        shape = f"{properties.delivery_mode} {properties.content_type} " \
                f"ledger={(properties.headers or {}).get('ledger')}"
        self.book.delivered.append(Delivered(queue, body.decode(), method.redelivered, shape))

    def _consume(self):
        queue, connection = self.queues[0], None
        while not self.stop.is_set():
            try:
                connection = self._connect()
                channel = connection.channel()
                channel.basic_qos(prefetch_count=50)
                for method, properties, body in channel.consume(queue, inactivity_timeout=0.2):
                    if method:
                        self._note(queue, method, properties, body)
                        channel.basic_ack(method.delivery_tag)
                    if self.stop.is_set():
                        channel.cancel()
                        break
            except DOWN:
                continue
        if connection and connection.is_open:
            connection.close()

    def _drain(self, queue):
        connection = self._connect()
        channel = connection.channel()
        empty = 0
        while empty < 3:
            method, properties, body = channel.basic_get(queue)
            if not method:
                empty += 1
                time.sleep(0.1)
                continue
            self._note(queue, method, properties, body)
            channel.basic_ack(method.delivery_tag)
        connection.close()


def _properties(value):
    assert shape_of(value)  # the same shape as the auditors expect
    return pika.BasicProperties(delivery_mode=2, content_type="text/plain", headers={"ledger": value})
