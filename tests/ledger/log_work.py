"""The clients of a log: idempotent producers, a reader that never stops, one that asks for ends and one that commits."""
import random
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .log_book import NOTHING_COMMITTED, Acked, Commit, Ends, LogBook, Seen, Sent

QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "socket.connection.setup.timeout.ms": 2000,
         "log_level": 0}
IN_FLIGHT_MAX = 500  # unacknowledged records of one producer


class LogWork:
    """`start`, then `finish` when the broker will not be killed any more; the book is whole after that."""

    def __init__(self, address, seed, producers=3, partitions=3, rate=400, commits=True):
        self.client = {"bootstrap.servers": address, **QUICK}
        self.topic, self.partitions, self.rate = f"ledger-{seed}", partitions, rate
        self.book, self.stop, self.errors = LogBook(), threading.Event(), []
        self.done = threading.Event()  # set when readers may stop
        jobs = [(self._produce, f"p{i}", random.Random(f"{seed} {i}")) for i in range(producers)]
        self.producers = [self._thread(*job) for job in jobs]
        self.watchers = [self._thread(self._tail), self._thread(self._ask_ends)]
        if commits:
            self.watchers.append(self._thread(self._commit))

    def _thread(self, work, *arguments):
        def guarded():
            try:
                work(*arguments)
            except Exception as error:  # a worker that dies is a finding of its own
                self.errors.append(f"{work.__name__}: {error!r}")
        return threading.Thread(target=guarded, daemon=True, name=work.__name__)

    def start(self):
        new = NewTopic(self.topic, num_partitions=self.partitions, replication_factor=1)
        admin = AdminClient(self.client)
        admin.create_topics([new])[self.topic].result(30)
        for thread in self.producers + self.watchers:
            thread.start()

    def progress(self):
        """Grows with each acknowledgement."""
        return len(self.book.acked)

    def finish(self, seconds=60):
        """Lets the producers end, waits for what is on its way, reads everything from the beginning."""
        self.stop.set()
        deadline = time.monotonic() + seconds
        for thread in self.producers:
            thread.join(max(0.1, deadline - time.monotonic()))
            if thread.is_alive():
                self.errors.append("a producer did not end")
        self._read_all(deadline + seconds)
        self.done.set()
        for thread in self.watchers:
            thread.join(15)

    def _produce(self, name, chance):
        producer = Producer({**self.client, "enable.idempotence": True, "acks": "all", "linger.ms": 2,
                             "message.timeout.ms": 120_000, "request.timeout.ms": 5000, "retry.backoff.ms": 20,
                             "compression.type": chance.choice(["none", "lz4", "zstd", "gzip", "snappy"])})
        counters, waiting = [0] * self.partitions, 0

        def settle(sent, error, message):
            nonlocal waiting
            waiting -= 1
            if error is None:
                self.book.acked.append(Acked(time.monotonic(), sent, message.offset()))
            else:  # a timeout leaves the outcome unknown; anything an idempotent producer gives up on is a finding
                self.book.fatal.append(f"{sent.value}: {error}")

        while not self.stop.is_set():
            for _ in range(chance.randint(1, 40)):
                partition = chance.randrange(self.partitions)
                sent = Sent(name, partition, counters[partition])
                counters[partition] += 1
                self.book.sent.append(sent)
                waiting += 1
                producer.produce(self.topic, sent.value, key=name, partition=partition, headers={"seq": str(sent.seq)},
                                 callback=lambda error, message, sent=sent: settle(sent, error, message))
            producer.poll(20 / self.rate)
            while waiting > IN_FLIGHT_MAX and not self.stop.is_set():
                producer.poll(0.05)
        if producer.flush(60):
            self.errors.append(f"{name}: {waiting} records neither acknowledged nor refused")

    def _consumer(self, group, **extra):
        return Consumer({**self.client, "group.id": f"{group}-{self.topic}", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "fetch.wait.max.ms": 100, **extra})

    def _assigned(self, group):
        consumer = self._consumer(group)
        consumer.assign([TopicPartition(self.topic, partition, 0) for partition in range(self.partitions)])
        return consumer

    def _see(self, consumer, reader, book):
        for message in consumer.consume(500, 0.2):
            if message.error():
                if not message.error().retriable() and message.error().code() > 0:
                    self.errors.append(f"{reader}: {message.error()}")
                continue
            shape = f"{message.key()} {message.headers()} {message.timestamp()}"
            book.append(Seen(reader, message.partition(), message.offset(), message.value().decode(), shape))

    def _tail(self):
        consumer = self._assigned("tail")
        while not self.done.is_set():
            self._see(consumer, "tail", self.book.polled)
        consumer.close()

    def _ends(self, consumer, partition, seconds):
        return consumer.get_watermark_offsets(TopicPartition(self.topic, partition), seconds, cached=False)

    def _ask_ends(self):
        consumer = self._consumer("ends")
        while not self.done.wait(0.02):
            for partition in range(self.partitions):
                asked = time.monotonic()
                try:
                    found = self._ends(consumer, partition, 2)
                except KafkaException:
                    continue  # down
                if found:
                    self.book.ends.append(Ends(asked, partition, *found))
        consumer.close()

    def _commit(self):
        consumer, offset = self._consumer("commit"), 0
        places = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
        while not self.done.wait(0.02):
            offset += 1
            try:
                consumer.commit(offsets=[TopicPartition(self.topic, p, offset) for p in range(self.partitions)], asynchronous=False)
                now = time.monotonic()
                self.book.commits += [Commit(now, p, offset) for p in range(self.partitions)]
                asked = time.monotonic()
                answers = consumer.committed(places, timeout=3)
                self.book.committed += [Commit(asked, found.partition, found.offset) for found in answers
                                        if found.offset >= 0 or found.offset == NOTHING_COMMITTED]
            except KafkaException:
                continue  # down; an unacknowledged commit may or may not hold
        consumer.close()

    def _read_all(self, deadline):
        consumer = self._assigned("end")
        ends = {partition: self._ends(consumer, partition, 30)[1] for partition in range(self.partitions)}
        read = dict.fromkeys(ends, 0)
        while any(read[partition] < end for partition, end in ends.items()) and time.monotonic() < deadline:
            before = len(self.book.final)
            self._see(consumer, "end", self.book.final)
            for seen in self.book.final[before:]:
                read[seen.partition] = seen.offset + 1
        if any(read[partition] < end for partition, end in ends.items()):
            self.errors.append(f"the last reader got to {read} of {ends}")
        consumer.close()
