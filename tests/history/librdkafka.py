"""Workers over librdkafka: idempotent and transactional producers, readers, a committer, one that asks for ends.

    python -m history.librdkafka BOOTSTRAP TOPIC PARTITIONS SEED SETTLE_SECONDS FILE

works until it is sent a line, says `stopping`, lets what is under way come to its end and says `stopped`; when its input ends it reads all from
the beginning, and is done. Errors are lines of its output.
"""
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from .book import Book

QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "socket.connection.setup.timeout.ms": 2000, "log_level": 0}
TRANSACTION_MS = 10_000  # what a dead producer may hold readers up
UNKNOWN, NONE_COMMITTED = -1, -1001  # in place of an offset
OUTCOME_S = 60  # within which everything has an outcome, after the last fault


class Work:
    def __init__(self, bootstrap, topic, partitions, seed, settle, path):
        self.client = {"bootstrap.servers": bootstrap, **QUICK}
        self.topic, self.partitions, self.seed, self.settle = topic, int(partitions), seed, int(settle)
        self.book, self.stop, self.done, self.errors = Book(path, "c"), threading.Event(), threading.Event(), []

    def run(self):
        writers = [self.thread(self.send, "send"), *(self.thread(self.send, f"burst-{n}", 8) for n in "ab"),
                   *(self.thread(self.transact, f"txn-{n}") for n in "ab")]
        readers = [self.thread(self.read, "tail", True), self.thread(self.read, "tail-all", False), self.thread(self.ends, "ends"),
                   self.thread(self.commit, "commit")]
        sys.stdin.readline()
        self.stop.set()
        print("stopping", flush=True)
        for thread in writers:
            thread.join(OUTCOME_S)
            if thread.is_alive():
                self.errors.append(f"{thread.name} did not end")
        print("stopped", flush=True)
        sys.stdin.read()
        self.done.set()
        for thread in readers:
            thread.join(20)
        if not self.errors:
            self.read_all()
        for error in self.errors:
            print(error, flush=True)
        return 1 if self.errors else 0

    def thread(self, work, name, *arguments):
        def guarded():
            try:
                work(name, random.Random(f"{self.seed} {name}"), *arguments)
            except Exception as error:  # a worker that dies is a finding of its own
                self.errors.append(f"{name}: {error!r}")
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def send(self, name, chance, burst=1):
        """Records on their own, at most 200 under way; or so many at a time, and no more until all are settled: a broker that is
        killed has then often written what it has not acknowledged."""
        producer = Producer({**self.client, "enable.idempotence": True, "linger.ms": int(burst == 1), "message.timeout.ms": 60_000,
                             "retry.backoff.ms": 20})
        under_way, number = [0], 0

        def settled(op, sent, error, message):
            under_way[0] -= 1
            if error is None:
                return self.book.end(op, "ok", "send", name, sends=[[*sent, message.offset()]])
            self.book.end(op, "info", "send", name, sends=[sent])
            if error.code() != KafkaError._MSG_TIMED_OUT:
                self.errors.append(f"{name}: an idempotent producer met {error}")

        while not self.stop.is_set():
            number += 1
            sent = [self.topic, chance.randrange(self.partitions), f"{name}:{number}"]
            op = self.book.begin("send", name, sends=[sent])
            under_way[0] += 1
            producer.produce(sent[0], sent[2], key=name, partition=sent[1],
                             callback=lambda error, message, op=op, sent=sent: settled(op, sent, error, message))
            if number % burst == 0:
                producer.poll(chance.uniform(0, 0.01) if burst == 1 else 0)
            while under_way[0] > (200 if burst == 1 else 0) and number % burst == 0 and not self.stop.is_set():
                producer.poll(0.05)
        if producer.flush(OUTCOME_S):
            self.errors.append(f"{name}: records without an outcome")

    def transact(self, name, chance):
        """Transactions of one to five records, a quarter of them aborted; a new producer after an unknown end."""
        number = life = 0
        producer = None
        while not self.stop.is_set():
            if producer is None:
                life += 1
                producer = self.transactional(name)
            number += 1
            sends = [[self.topic, chance.randrange(self.partitions), f"{name}:{number}:{part}"] for part in range(chance.randint(1, 5))]
            if not self.one_transaction(producer, f"{name}/{life}", sends, chance):
                producer = None

    def transactional(self, name):
        producer = Producer({**self.client, "transactional.id": f"{self.topic}-{name}", "transaction.timeout.ms": TRANSACTION_MS,
                             "retry.backoff.ms": 20})
        until_done(lambda: producer.init_transactions(10), OUTCOME_S)
        return producer

    def one_transaction(self, producer, process, sends, chance):
        """Whether the producer can go on."""
        op = self.book.begin("txn", process, sends=sends)
        offsets = {}
        note = lambda error, message: offsets.update({message.value().decode(): message.offset()}) if error is None else None  # noqa: E731
        try:
            producer.begin_transaction()
            for topic, partition, value in sends:
                producer.produce(topic, value, key=process, partition=partition, callback=note)
                producer.poll(chance.choice([0, 0, 0.05]))
            if chance.random() < 0.25:
                until_done(lambda: producer.abort_transaction(10), OUTCOME_S)
                self.book.end(op, "fail", "txn", process, sends=sends)
                return True
            producer.flush(OUTCOME_S)
            self.book.end(op, "ok", "asked", process)
            until_done(lambda: producer.commit_transaction(10), OUTCOME_S)
        except KafkaException as error:
            return self.after_failure(producer, op, process, sends, error.args[0])
        self.book.end(op, "ok", "txn", process, sends=[[*send, offsets[send[2]]] for send in sends])
        return True

    def after_failure(self, producer, op, process, sends, error):
        if error.txn_requires_abort():
            try:
                until_done(lambda: producer.abort_transaction(10), OUTCOME_S)
                self.book.end(op, "fail", "txn", process, sends=sends)
                return True
            except KafkaException:
                pass
        self.book.end(op, "info", "txn", process, sends=sends)
        return False

    def consumer(self, name, committed, **more):
        return Consumer({**self.client, **more, "group.id": f"{self.topic}-{name}", "enable.auto.commit": False, "auto.offset.reset": "error",
                         "fetch.wait.max.ms": 100, "isolation.level": "read_committed" if committed else "read_uncommitted"})

    def assigned(self, name, committed):
        consumer = self.consumer(name, committed)
        consumer.assign([TopicPartition(self.topic, partition, 0) for partition in range(self.partitions)])
        return consumer

    def read(self, name, chance, committed):
        consumer, start = self.assigned(name, committed), [[self.topic, partition] for partition in range(self.partitions)]
        while not self.done.is_set():
            start = self.poll(consumer, "poll", name, committed, start)
        consumer.close()

    def poll(self, consumer, f, name, committed, start):
        op = self.book.begin(f, name)
        records = []
        for message in consumer.consume(500, 0.2):
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    self.ended[message.partition()] = message.offset()
                if message.error().code() > 0 and not message.error().retriable():
                    self.errors.append(f"{name}: {message.error()}")
                continue
            shape = f"{message.key()} {message.headers()} {message.timestamp()}"
            records.append([message.topic(), message.partition(), message.offset(), message.value().decode(), shape])
        self.book.end(op, "ok", f, name, records=records, committed=committed, start=start)
        return [] if records else start

    def ends(self, name, chance):
        consumers = [(committed, self.consumer(f"{name}-{committed}", committed)) for committed in (True, False)]
        while not self.done.wait(0.05):
            for committed, consumer in consumers:
                for partition in range(self.partitions):
                    op = self.book.begin("ends", name)
                    try:
                        low, high = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=2, cached=False)
                    except KafkaException:
                        continue  # down
                    self.book.end(op, "ok", "ends", name, topic=self.topic, partition=partition, committed=committed, low=low, high=high)

    def commit(self, name, chance):
        """One group, ever larger offsets, one partition after the other; what it is said to have must not be less than what was acknowledged."""
        consumer, offset = self.consumer(name, True), 0
        every = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
        while not self.done.wait(0.02):
            offset += 1
            here = [TopicPartition(self.topic, offset % self.partitions, offset)]
            self.asked(name, "commit", here, lambda: consumer.commit(offsets=here, asynchronous=False))
            self.asked(name, "committed", every, lambda: consumer.committed(every, timeout=3))

    def asked(self, name, f, places, act):
        """An operation for each of the places that are asked for at once."""
        ops = {place.partition: self.book.begin(f, name) for place in places}
        try:
            told = {place.partition: place.offset for place in act() if place.error is None}
        except KafkaException:
            told = {}
        for partition, op in ops.items():
            offset = told.get(partition, UNKNOWN)
            if offset < 0 and offset != NONE_COMMITTED:
                self.book.end(op, "info", f, name)
            else:
                self.book.end(op, "ok", f, name, group=f"{self.topic}-{name}", topic=self.topic, partition=partition, offset=max(offset, -1))

    def read_all(self):
        """Everything that is committed, by a new reader. No transaction may be open any more: that of a dead one ends by itself."""
        topics = [topic for topic in (self.topic, f"{self.topic}-copies") if topic in self.assigned("list", True).list_topics(timeout=10).topics]
        for topic in topics:
            count = len(self.consumer("list", True).list_topics(topic, timeout=10).topics[topic].partitions)
            ends = {committed: self.last_ends(topic, count, committed) for committed in (False, True)}
            deadline = time.monotonic() + self.settle
            while ends[True] != ends[False] and time.monotonic() < deadline:
                time.sleep(0.2)
                ends = {committed: self.last_ends(topic, count, committed) for committed in (False, True)}
            if ends[True] != ends[False]:
                self.errors.append(f"{topic}: an open transaction, {self.settle} s after the last: {ends}")
            self.read_to(topic, count, ends[True], deadline)

    def last_ends(self, topic, count, committed):
        consumer = self.consumer("list", committed)
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20, cached=False)[1] for partition in range(count)]
        consumer.close()
        return ends

    def read_to(self, topic, count, ends, deadline):
        reader, self.ended = self.consumer("final", True, **{"enable.partition.eof": True}), {}
        reader.assign([TopicPartition(topic, partition, 0) for partition in range(count)])
        while any(self.ended.get(partition, -1) < ends[partition] for partition in range(count)):
            self.poll(reader, "final", f"final-{topic}", True, [])
            if time.monotonic() > deadline:
                self.errors.append(f"{topic}: the last reader does not reach the end")
                return
        reader.close()


def until_done(act, seconds):
    """Again while librdkafka says that it may be tried again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


if __name__ == "__main__":
    sys.exit(Work(*sys.argv[1:]).run())
