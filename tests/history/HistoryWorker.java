// Workers of a history over Kafka's Java client (see check.py): transactions, and a copier that reads, writes and commits exactly once.
//   java -cp CLASSPATH HistoryWorker BOOTSTRAP TOPIC PARTITIONS SEED FILE
// works until its input ends, finishes what is under way, copies what is left, and is done. Errors are lines of its output.

import java.io.FileWriter;
import java.io.PrintWriter;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class HistoryWorker {
    static final int SETTLE_S = 60;
    static String bootstrap, topic, seed;
    static int partitions;
    static PrintWriter book;
    static int operations;
    static volatile boolean stop, drain;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        topic = args[1];
        partitions = Integer.parseInt(args[2]);
        seed = args[3];
        book = new PrintWriter(new FileWriter(args[4], true), false);
        Thread transactor = start("java", HistoryWorker::transact), copier = start("copier", HistoryWorker::copy);
        while (System.in.read() >= 0) { }
        stop = true;
        transactor.join(SETTLE_S * 1000L);
        drain = true;
        copier.join(SETTLE_S * 2000L);
        if (transactor.isAlive() || copier.isAlive()) System.out.println("a thread did not end");
        Runtime.getRuntime().halt(0);
    }

    interface Work { void run(String name) throws Exception; }

    static Thread start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run(name);
            } catch (Exception error) { // a worker that dies is a finding of its own
                System.out.println(name + ": " + error);
            }
        });
        thread.start();
        return thread;
    }

    record Send(String topic, int partition, String value) {
        String json(Long offset) {
            return "[\"" + topic + "\"," + partition + ",\"" + value + "\"" + (offset == null ? "" : "," + offset) + "]";
        }
    }

    static synchronized String begin(String f, String process, String more) {
        String op = "j-" + ++operations;
        write(op, "invoke", f, process, more);
        return op;
    }

    static synchronized void write(String op, String type, String f, String process, String more) {
        book.println("{\"at\":" + System.nanoTime() + ",\"op\":\"" + op + "\",\"type\":\"" + type + "\",\"f\":\"" + f
            + "\",\"process\":\"" + process + "\"" + more + "}");
        book.flush();
    }

    static String sends(List<Send> sends, List<Long> offsets) {
        List<String> all = new ArrayList<>();
        for (int n = 0; n < sends.size(); n++) all.add(sends.get(n).json(offsets == null ? null : offsets.get(n)));
        return ",\"sends\":[" + String.join(",", all) + "]";
    }

    static Map<String, Object> settings(Object... more) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "reconnect.backoff.ms", 20,
            "reconnect.backoff.max.ms", 200, "enable.metrics.push", false));
        for (int n = 0; n < more.length; n += 2) settings.put((String) more[n], more[n + 1]);
        return settings;
    }

    static KafkaProducer<String, String> transactional(String name) {
        KafkaProducer<String, String> producer = new KafkaProducer<>(settings("transactional.id", topic + "-" + name,
            "transaction.timeout.ms", 10_000, "max.block.ms", 10_000, "delivery.timeout.ms", 60_000, "request.timeout.ms", 10_000,
            "linger.ms", 1), new StringSerializer(), new StringSerializer());
        untilDone(producer::initTransactions);
        return producer;
    }

    /** Again while the client says that it may be tried again. */
    static void untilDone(Runnable act) {
        long deadline = System.nanoTime() + SETTLE_S * 1_000_000_000L;
        while (true) {
            try {
                act.run();
                return;
            } catch (KafkaException error) {
                boolean again = error instanceof RetriableException;
                if (!again || System.nanoTime() > deadline) throw error;
            }
        }
    }

    static void transact(String name) {
        Random chance = new Random((seed + name).hashCode());
        KafkaProducer<String, String> producer = null;
        int life = 0;
        for (int number = 1; !stop; number++) {
            if (producer == null) {
                producer = transactional(name);
                life++;
            }
            List<Send> sends = new ArrayList<>();
            for (int part = 0; part <= chance.nextInt(4); part++) {
                sends.add(new Send(topic, chance.nextInt(partitions), name + ":" + number + ":" + part));
            }
            boolean abort = chance.nextInt(4) == 0;
            producer.beginTransaction();
            if (!oneTransaction(producer, name + "/" + life, sends, abort, chance.nextInt(3) == 0 ? 50 : 0, () -> { })) {
                producer.close(Duration.ZERO);
                producer = null;
            }
        }
        if (producer != null) producer.close(Duration.ofSeconds(10));
    }

    /** Whether the producer can go on. The transaction has begun. */
    static boolean oneTransaction(KafkaProducer<String, String> producer, String process, List<Send> sends, boolean abort, int pause,
                                  Runnable last) {
        String op = begin("txn", process, sends(sends, null));
        try {
            List<Future<RecordMetadata>> results = new ArrayList<>();
            for (Send send : sends) {
                results.add(producer.send(new ProducerRecord<>(send.topic(), send.partition(), process, send.value())));
                Thread.sleep(pause);
            }
            if (abort) {
                untilDone(producer::abortTransaction);
                write(op, "fail", "txn", process, sends(sends, null));
                return true;
            }
            last.run();
            producer.flush();
            write(op, "ok", "asked", process, "");
            untilDone(producer::commitTransaction);
            List<Long> offsets = new ArrayList<>();
            for (Future<RecordMetadata> result : results) offsets.add(result.get().offset());
            write(op, "ok", "txn", process, sends(sends, offsets));
            return true;
        } catch (Exception error) {
            try {
                untilDone(producer::abortTransaction);
                write(op, "fail", "txn", process, sends(sends, null));
                return true;
            } catch (KafkaException unknown) {
                write(op, "info", "txn", process, sends(sends, null));
                return false;
            }
        }
    }

    /** Every committed record of the topic is written to another, its offset committed in the same transaction. */
    static void copy(String name) throws Exception {
        int life = 0;
        long deadline = Long.MAX_VALUE;
        while (true) {
            life++;
            String process = name + "/" + life;
            try (KafkaConsumer<String, String> consumer = consumer(name); KafkaProducer<String, String> producer = transactional(name)) {
                List<String> start = new ArrayList<>();
                consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                    public void onPartitionsRevoked(java.util.Collection<TopicPartition> gone) { }
                    public void onPartitionsAssigned(java.util.Collection<TopicPartition> given) {
                        for (TopicPartition place : given) start.add("[\"" + place.topic() + "\"," + place.partition() + "]");
                    }
                });
                while (true) {
                    if (drain && deadline == Long.MAX_VALUE) deadline = System.nanoTime() + SETTLE_S * 1_000_000_000L;
                    String op = begin("poll", process, "");
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(300));
                    write(op, "ok", "poll", process, ",\"committed\":true,\"start\":[" + String.join(",", start) + "],\"records\":" + seen(records));
                    if (!records.isEmpty()) start.clear();
                    int generation = consumer.groupMetadata().generationId();
                    if (generation > 0) {
                        String asked = begin("generation", process, "");
                        write(asked, "ok", "generation", process, ",\"generation\":" + generation);
                    }
                    if (records.isEmpty()) {
                        if (drain && isDone(consumer)) return;
                        if (System.nanoTime() > deadline) throw new Exception("not everything is copied");
                        continue;
                    }
                    if (!copied(process, consumer, producer, records)) break; // from the committed offsets, as another process
                }
            }
        }
    }

    static boolean copied(String process, KafkaConsumer<String, String> consumer, KafkaProducer<String, String> producer,
                          ConsumerRecords<String, String> records) {
        int attempt = operations; // each attempt has values of its own
        List<Send> sends = new ArrayList<>();
        Map<TopicPartition, OffsetAndMetadata> offsets = records.nextOffsets();
        for (ConsumerRecord<String, String> record : records) {
            sends.add(new Send(topic + "-copies", record.partition() % 2, "copy of " + record.value() + "~" + attempt));
        }
        producer.beginTransaction();
        boolean[] sent = {false};
        boolean goesOn = oneTransaction(producer, process, sends, false, 0, () -> {
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            sent[0] = true;
        });
        if (!goesOn) return false;
        Map<TopicPartition, OffsetAndMetadata> known = consumer.committed(offsets.keySet(), Duration.ofSeconds(SETTLE_S));
        for (TopicPartition place : offsets.keySet()) {
            OffsetAndMetadata told = known.get(place);
            if (told == null || told.offset() != offsets.get(place).offset()) return false; // aborted: begin again from there
        }
        return sent[0];
    }

    static boolean isDone(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment(), Duration.ofSeconds(20)); // the last stable offsets
        return consumer.assignment().size() == partitions
            && ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey(), Duration.ofSeconds(20)) >= end.getValue());
    }

    static KafkaConsumer<String, String> consumer(String name) {
        return new KafkaConsumer<>(settings("group.id", topic + "-" + name, "group.protocol", "consumer", "isolation.level", "read_committed",
            "enable.auto.commit", false, "auto.offset.reset", "earliest", "max.poll.records", 50), new StringDeserializer(), new StringDeserializer());
    }

    static String seen(ConsumerRecords<String, String> records) {
        List<String> all = new ArrayList<>();
        records.forEach(record -> all.add("[\"" + record.topic() + "\"," + record.partition() + "," + record.offset() + ",\""
            + record.value() + "\",\"" + shape(record) + "\"]"));
        return all.stream().collect(Collectors.joining(",", "[", "]"));
    }

    /** As the other client's workers write it. */
    static String shape(ConsumerRecord<String, String> record) {
        return "b'" + record.key() + "' None (1, " + record.timestamp() + ")";
    }
}
