// Share groups (KIP-932) as Kafka's own client sees them. The same program runs against Apache Kafka and Ottla.
//   java -cp CLASSPATH ShareStory.java BOOTSTRAP stories [NAME…]   every rule, one after the other
//   java -cp CLASSPATH ShareStory.java BOOTSTRAP buried        dead-letter topics (KIP-1191), which Apache Kafka has from 4.4 on
//   java -cp CLASSPATH ShareStory.java BOOTSTRAP full          a full disk; says "ready" and waits for a line, then "works" and again
//   java -cp CLASSPATH ShareStory.java BOOTSTRAP crash         prints "accepted KEY"; survives a broker that is killed

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

public class ShareStory {
    static String bootstrap;
    static final String RUN = Long.toString(System.nanoTime(), 36);

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        if (args[1].equals("crash")) {
            crash();
            return;
        }
        if (args[1].equals("buried")) {
            buried();
            System.exit(0);
        }
        if (args[1].equals("full")) {
            full();
            System.exit(0);
        }
        Map<String, Callable<Void>> stories = new LinkedHashMap<>();
        stories.put("shared", () -> { shared(); return null; });
        stories.put("released", () -> { released(); return null; });
        stories.put("rejected", () -> { rejected(); return null; });
        stories.put("limited", () -> { limited(); return null; });
        stories.put("timedOut", () -> { timedOut(); return null; });
        stories.put("gone", () -> { gone(); return null; });
        stories.put("tooLate", () -> { tooLate(); return null; });
        stories.put("admin", () -> { admin(); return null; });
        stories.put("aborted", () -> { aborted(); return null; });
        if (args.length > 2) stories.keySet().retainAll(Arrays.asList(args).subList(2, args.length));
        for (Callable<Void> story : stories.values()) story.call();
        System.out.println("all stories told");
        System.exit(0);
    }

    // 1,000 records, two members: each record once
    static void shared() throws Exception {
        String topic = topic("shared", 4), group = group("shared");
        produce(topic, 1000);
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        int[] counts = new int[2];
        CountDownLatch joined = new CountDownLatch(2);
        ExecutorService pool = Executors.newFixedThreadPool(2);
        List<Future<?>> both = new ArrayList<>();
        for (int n = 0; n < 2; n++) {
            int me = n;
            both.add(pool.submit(() -> {
                try (ShareConsumer<String, String> consumer = consumer(group, 20)) {
                    consumer.subscribe(List.of(topic));
                    long end = System.currentTimeMillis() + 60_000;
                    while (seen.size() < 1000 && System.currentTimeMillis() < end) {
                        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                            seen.merge(record.key(), 1, Integer::sum);
                            counts[me]++;
                            consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                            Thread.sleep(1);
                        }
                        commit(consumer);
                    }
                }
                return null;
            }));
        }
        for (Future<?> one : both) one.get(90, TimeUnit.SECONDS);
        pool.shutdown();
        check(seen.size() == 1000, "not all came: " + seen.size());
        check(seen.values().stream().allMatch(n -> n == 1), "some came twice");
        check(counts[0] > 0 && counts[1] > 0, "one member had everything: " + Arrays.toString(counts));
        told("two members share 1,000 records, each comes once");
    }

    static void released() throws Exception {
        String topic = topic("released", 1), group = group("released");
        produce(topic, 3);
        try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
            consumer.subscribe(List.of(topic));
            List<String> first = take(consumer, 3, AcknowledgeType.RELEASE);
            List<String> second = take(consumer, 3, AcknowledgeType.ACCEPT);
            check(first.equals(List.of("0#1", "1#1", "2#1")), first);
            check(second.equals(List.of("0#2", "1#2", "2#2")), second);
            check(silence(consumer), "accepted records came back");
        }
        told("released records come again with a higher delivery count");
    }

    static void rejected() throws Exception {
        String topic = topic("rejected", 1), group = group("rejected");
        produce(topic, 3);
        try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
            consumer.subscribe(List.of(topic));
            take(consumer, 3, AcknowledgeType.REJECT);
            check(silence(consumer), "rejected records came back");
        }
        told("rejected records are gone");
    }

    // KIP-1191: what is rejected or delivered too often goes to the group's dead-letter topic
    static void full() throws Exception {
        String topic = topic("full", 1), dead = topic("dlq.full", 1), group = group("full");
        set(ConfigResource.Type.TOPIC, dead, "errors.deadletterqueue.group.enable", "true");
        set(group, "errors.deadletterqueue.topic.name", dead);
        set(group, "errors.deadletterqueue.copy.record.enable", "true");
        String large = "x".repeat(100_000);
        Scanner words = new Scanner(System.in);
        Map<String, Object> sending = Map.of("bootstrap.servers", bootstrap, "delivery.timeout.ms", 2000, "request.timeout.ms", 1000, "linger.ms", 0);
        Map<String, Object> reading = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "group.id", group + "-readers");
        try (Producer<String, String> producer = new KafkaProducer<>(sending, new StringSerializer(), new StringSerializer());
             Consumer<String, String> reader = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer());
             ShareConsumer<String, String> consumer = consumer(group, 100)) {
            for (int n = 0; n < 6; n++) producer.send(new ProducerRecord<>(topic, "" + n, large)).get();
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<String, String>> held = new ArrayList<>();
            for (int n = 0; n < 100 && held.size() < 6; n++) consumer.poll(Duration.ofMillis(200)).forEach(held::add);
            check(held.size() == 6, held);
            System.out.println("ready");
            words.nextLine(); // the disk is full
            Throwable refused = null;
            int more = 0; // what the log gives back is used, too
            try {
                for (; more < 50; more++) producer.send(new ProducerRecord<>(topic, "x", large)).get();
            } catch (ExecutionException error) {
                refused = error.getCause();
            }
            check(refused instanceof org.apache.kafka.common.errors.TimeoutException, refused);
            for (ConsumerRecord<String, String> record : held) { // 0 and 1 are rejected, 2 and 3 come again
                int key = Integer.parseInt(record.key());
                consumer.acknowledge(record, key < 2 ? AcknowledgeType.REJECT : key < 4 ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT);
            }
            commit(consumer);
            List<String> again = take(consumer, 2 + more, AcknowledgeType.ACCEPT);
            again.removeAll(List.of("x#1"));
            check(again.equals(List.of("2#2", "3#2")), again);
            commit(consumer);
            TopicPartition own = new TopicPartition(topic, 0), letters = new TopicPartition(dead, 0);
            reader.assign(List.of(own));
            reader.commitSync(Map.of(own, new OffsetAndMetadata(6)));
            check(reader.committed(Set.of(own)).get(own).offset() == 6, "the offset is not committed");
            check(reader.endOffsets(List.of(letters)).get(letters) == 0, "there was room for letters");
            System.out.println("works");
            words.nextLine(); // there is room again
            for (int n = 0; n < 100 && reader.endOffsets(List.of(letters)).get(letters) < 2; n++) Thread.sleep(100);
            check(reader.endOffsets(List.of(letters)).get(letters) == 2, "the letters did not come");
            producer.send(new ProducerRecord<>(topic, "x", large)).get();
            check(take(consumer, 1, AcknowledgeType.ACCEPT).equals(List.of("x#1")), "what was produced does not come");
        }
        told("a full disk refuses what a producer sends, and nothing that consumers say");
    }

    static void buried() throws Exception {
        String topic = topic("buried", 2), dead = topic("dlq.buried", 2), group = group("buried");
        set(ConfigResource.Type.TOPIC, dead, "errors.deadletterqueue.group.enable", "true");
        set(group, "errors.deadletterqueue.topic.name", dead);
        set(group, "errors.deadletterqueue.copy.record.enable", "true");
        set(group, "share.delivery.count.limit", "2");
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap);
        try (Producer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < 6; n++) producer.send(new ProducerRecord<>(topic, n % 2, "" + n, "value " + n)).get();
        }
        try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
            consumer.subscribe(List.of(topic));
            int given = 0;
            for (long end = System.currentTimeMillis() + 40_000; given < 8 && System.currentTimeMillis() < end; ) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    given++; // 0 and 1 are rejected, 2 and 3 come twice, the others are accepted
                    int key = Integer.parseInt(record.key());
                    consumer.acknowledge(record, key < 2 ? AcknowledgeType.REJECT : key < 4 ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT);
                }
                commit(consumer);
            }
            check(given == 8, "deliveries: " + given);
            check(silence(consumer), "a record that was given up came back");
        }
        Map<String, String> letters = new TreeMap<>();
        Map<String, Object> reading = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest");
        try (Consumer<String, String> reader = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer())) {
            reader.assign(List.of(new TopicPartition(dead, 0), new TopicPartition(dead, 1)));
            for (int n = 0; n < 100 && letters.size() < 4; n++) {
                for (ConsumerRecord<String, String> record : reader.poll(Duration.ofMillis(200))) {
                    StringBuilder told = new StringBuilder(record.partition() + " " + record.value());
                    record.headers().forEach(header -> told.append(" ").append(header.key().substring("__dlq.errors.".length())).append("=").append(new String(header.value())));
                    check(letters.put(record.key(), told.toString()) == null, "two letters of " + record.key());
                }
            }
        }
        String limit = "Offset delivery count exceeded the threshold.", rejected = "Offset rejected by client.";
        for (int n = 0; n < 4; n++) {
            String expected = n % 2 + " value " + n + " topic=" + topic + " partition=" + n % 2 + " offset=" + n / 2 + " group=" + group
                + " delivery.count=" + (n < 2 ? 1 : 2) + " message=" + (n < 2 ? rejected : limit);
            check(expected.equals(letters.get("" + n)), letters + "\nnot " + expected);
        }
        check(letters.size() == 4, letters);
        told("what is given up is in the dead-letter topic");
    }

    static void limited() throws Exception {
        String topic = topic("limited", 1), group = group("limited");
        produce(topic, 1);
        try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
            consumer.subscribe(List.of(topic));
            for (int n = 1; n <= 5; n++) {
                List<String> again = take(consumer, 1, AcknowledgeType.RELEASE);
                check(again.equals(List.of("0#" + n)), again);
            }
            check(silence(consumer), "a sixth delivery");
        }
        told("a record is delivered five times at most");
    }

    static void timedOut() throws Exception {
        String topic = topic("timed", 1), group = group("timed");
        set(group, "share.record.lock.duration.ms", "15000");
        produce(topic, 1);
        try (ShareConsumer<String, String> slow = consumer(group, 100); ShareConsumer<String, String> other = consumer(group, 100)) {
            slow.subscribe(List.of(topic));
            ConsumerRecord<String, String> held = null;
            for (int n = 0; n < 100 && held == null; n++) for (ConsumerRecord<String, String> record : slow.poll(Duration.ofMillis(200))) held = record;
            check(held != null && held.deliveryCount().get() == 1, "no record");
            long since = System.currentTimeMillis();
            other.subscribe(List.of(topic));
            ConsumerRecord<String, String> next = null;
            for (int n = 0; n < 200 && next == null; n++) for (ConsumerRecord<String, String> record : other.poll(Duration.ofMillis(200))) next = record;
            long waited = System.currentTimeMillis() - since;
            check(next != null && next.deliveryCount().get() == 2, next);
            check(waited > 12_000 && waited < 25_000, "after " + waited + " ms");
            slow.acknowledge(held, AcknowledgeType.ACCEPT);
            Map<TopicIdPartition, Optional<KafkaException>> late = slow.commitSync();
            boolean refused = late.values().stream().anyMatch(error -> error.isPresent()
                && error.get() instanceof org.apache.kafka.common.errors.InvalidRecordStateException);
            check(refused, "a late acceptance was taken: " + late);
            other.acknowledge(next, AcknowledgeType.ACCEPT);
            commit(other);
        }
        told("a lock ends after its time, and its holder is told");
    }

    // a member that closes gives back what it holds
    static void gone() throws Exception {
        String topic = topic("gone", 1), group = group("gone");
        produce(topic, 2);
        try (ShareConsumer<String, String> first = consumer(group, 100)) {
            first.subscribe(List.of(topic));
            int got = 0;
            for (int n = 0; n < 100 && got == 0; n++) got = first.poll(Duration.ofMillis(200)).count();
            check(got == 2, "got " + got);
        }
        try (ShareConsumer<String, String> second = consumer(group, 100)) {
            second.subscribe(List.of(topic));
            long since = System.currentTimeMillis();
            List<String> again = take(second, 2, AcknowledgeType.ACCEPT);
            check(System.currentTimeMillis() - since < 10_000, "not at once");
            System.out.println("    after a close: " + again);
        }
        told("a member that closes gives back what it holds");
    }

    // latest is the default: what was there before the group is not delivered
    static void tooLate() throws Exception {
        String topic = topic("late", 1), group = "late-" + RUN;
        produce(topic, 5);
        try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
            consumer.subscribe(List.of(topic));
            check(silence(consumer), "the past was delivered");
            List<String> got = List.of(); // Kafka takes seconds until a partition's start is decided
            for (int n = 0; n < 15 && got.isEmpty(); n++) {
                produce(topic, 1);
                got = take(consumer, 1, AcknowledgeType.ACCEPT, 2_000);
            }
            check(!got.isEmpty() && got.stream().allMatch(one -> one.equals("0#1")), got);
        }
        told("a new group begins at the end");
    }

    static void admin() throws Exception {
        String topic = topic("admin", 1), group = group("admin");
        produce(topic, 10);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
                consumer.subscribe(List.of(topic));
                take(consumer, 10, AcknowledgeType.ACCEPT);
                ShareGroupDescription about = admin.describeShareGroups(List.of(group)).all().get().get(group);
                check(about.groupState() == GroupState.STABLE && about.members().size() == 1, about);
                check(about.members().iterator().next().assignment().topicPartitions().equals(Set.of(new TopicPartition(topic, 0))), about);
                GroupListing listed = admin.listGroups(ListGroupsOptions.forShareGroups()).all().get().stream().filter(one -> one.groupId().equals(group)).findAny().get();
                check(listed.type().get() == GroupType.SHARE && listed.protocol().equals("share"), listed);
                try {
                    admin.alterShareGroupOffsets(group, Map.of(new TopicPartition(topic, 0), 4L)).all().get();
                    check(false, "altered while in use");
                } catch (ExecutionException error) {
                    check(error.getCause() instanceof org.apache.kafka.common.errors.GroupNotEmptyException, error.getCause());
                }
            }
            check(info(admin, group, topic).lag().get() == 0, info(admin, group, topic)); // Kafka's start follows later
            admin.alterShareGroupOffsets(group, Map.of(new TopicPartition(topic, 0), 4L)).all().get();
            check(info(admin, group, topic).startOffset() == 4, info(admin, group, topic));
            try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
                consumer.subscribe(List.of(topic));
                List<String> again = take(consumer, 6, AcknowledgeType.ACCEPT);
                check(again.equals(List.of("4#1", "5#1", "6#1", "7#1", "8#1", "9#1")), again);
            }
            admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
            admin.deleteShareGroups(List.of(group)).all().get();
            check(admin.listGroups(ListGroupsOptions.forShareGroups()).all().get().stream().noneMatch(one -> one.groupId().equals(group)), "still listed");
        }
        told("administrators see, alter and delete");
    }

    static SharePartitionOffsetInfo info(Admin admin, String group, String topic) throws Exception {
        var all = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get();
        return all.get(new TopicPartition(topic, 0));
    }

    // only what was committed, for a group that wants it so
    static void aborted() throws Exception {
        String topic = topic("aborted", 1), group = group("aborted");
        set(group, "share.isolation.level", "read_committed");
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "transactional.id", "t-" + RUN));
        try (Producer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            for (String what : List.of("kept", "dropped", "kept-too")) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, what, what)).get();
                if (what.equals("dropped")) producer.abortTransaction(); else producer.commitTransaction();
            }
        }
        try (ShareConsumer<String, String> consumer = consumer(group, 100)) {
            consumer.subscribe(List.of(topic));
            List<String> got = take(consumer, 2, AcknowledgeType.ACCEPT);
            check(got.equals(List.of("kept#1", "kept-too#1")), got);
            check(silence(consumer), "more than was committed");
        }
        told("aborted records are not delivered where only committed ones are wanted");
    }

    static void crash() throws Exception {
        String topic = topic("crash", 2), group = group("crash");
        produce(topic, 1000);
        Set<String> accepted = new HashSet<>();
        Set<String> unsure = new HashSet<>();
        int again = 0;
        try (ShareConsumer<String, String> consumer = consumer(group, 10)) {
            consumer.subscribe(List.of(topic));
            long end = System.currentTimeMillis() + 150_000;
            while (accepted.size() + unsure.size() < 1000 && System.currentTimeMillis() < end) {
                List<String> keys = new ArrayList<>();
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    if (accepted.contains(record.key())) { System.out.println("RETURNED " + record.key()); System.exit(1); }
                    if (unsure.remove(record.key())) again++;
                    keys.add(record.key());
                    consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                }
                if (keys.isEmpty()) continue;
                boolean sure;
                try {
                    sure = consumer.commitSync(Duration.ofSeconds(5)).values().stream().allMatch(Optional::isEmpty);
                } catch (KafkaException error) {
                    sure = false;
                }
                (sure ? accepted : unsure).addAll(keys);
                if (sure) for (String key : keys) System.out.println("accepted " + key);
                else System.out.println("unsure of " + keys);
                Thread.sleep(10);
            }
            // whatever was lost on the way to the broker comes again
            for (int n = 0; n < 25; n++) {
                List<String> keys = new ArrayList<>();
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    if (accepted.contains(record.key())) { System.out.println("RETURNED " + record.key()); System.exit(1); }
                    if (unsure.remove(record.key())) again++;
                    keys.add(record.key());
                    consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                }
                if (!keys.isEmpty()) { commit(consumer); accepted.addAll(keys); }
            }
        }
        Set<String> all = new HashSet<>(accepted);
        all.addAll(unsure);
        check(all.size() == 1000, "lost: " + (1000 - all.size()));
        System.out.println("done: " + accepted.size() + " accepted, " + unsure.size() + " accepted without an answer, " + again + " came again");
        System.exit(0);
    }

    // ------------------------------------------------------------------------------------------------

    static String topic(String name, int partitions) throws Exception {
        String topic = name + "-" + RUN;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
        return topic;
    }

    static String group(String name) throws Exception {
        String group = name + "-" + RUN;
        set(group, "share.auto.offset.reset", "earliest");
        return group;
    }

    static void set(String group, String name, String value) throws Exception {
        set(ConfigResource.Type.GROUP, group, name, value);
    }

    static void set(ConfigResource.Type type, String of, String name, String value) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            ConfigResource resource = new ConfigResource(type, of);
            AlterConfigOp change = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            Config config = null;
            for (int n = 0; n < 50 && (config == null || !config.get(name).value().equals(value)); n++) {
                Thread.sleep(n == 0 ? 0 : 100); // a broker learns it from its controller
                config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            }
            check(config.get(name).value().equals(value), config);
        }
    }

    static void produce(String topic, int count) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "batch.size", 400, "linger.ms", 0);
        try (Producer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < count; n++) sent.add(producer.send(new ProducerRecord<>(topic, "" + n, "value " + n)));
            for (Future<RecordMetadata> one : sent) one.get();
        }
    }

    static ShareConsumer<String, String> consumer(String group, int records) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "group.id", group, "max.poll.records", records,
            "share.acknowledgement.mode", "explicit");
        return new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static void commit(ShareConsumer<String, String> consumer) {
        for (var entry : consumer.commitSync().entrySet()) check(entry.getValue().isEmpty(), entry);
    }

    // polls until that many came, acknowledges each so, and tells them as key#deliveries in order
    static List<String> take(ShareConsumer<String, String> consumer, int count, AcknowledgeType type) {
        return take(consumer, count, type, 40_000);
    }

    static List<String> take(ShareConsumer<String, String> consumer, int count, AcknowledgeType type, long patience) {
        List<String> taken = new ArrayList<>();
        long end = System.currentTimeMillis() + patience;
        while (taken.size() < count && System.currentTimeMillis() < end) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                taken.add(record.key() + "#" + record.deliveryCount().get());
                consumer.acknowledge(record, type);
            }
            commit(consumer);
        }
        return taken;
    }

    static boolean silence(ShareConsumer<String, String> consumer) {
        for (int n = 0; n < 10; n++) if (!consumer.poll(Duration.ofMillis(200)).isEmpty()) return false;
        return true;
    }

    static void check(boolean right, Object why) {
        if (!right) throw new IllegalStateException(String.valueOf(why));
    }

    static void told(String story) {
        System.out.println("ok  " + story);
    }
}
