// One member of a group: reads, commits after each poll, says what it got. Its protocol is an argument.
//   java -cp CLASSPATH Rolling BOOTSTRAP GROUP TOPIC classic|consumer [INSTANCE]
// prints "has 0,2" for each assignment, "got PARTITION VALUE" for each record, "lost" if its partitions were taken; leaves at the end of its input.
//   java -cp CLASSPATH Rolling BOOTSTRAP describe GROUP
// prints what administrators see: "TYPE STATE MEMBERS", and per member in the order of client ids "CLIENT UPGRADED PARTITIONS"

import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

public class Rolling {
    static volatile boolean stop;

    public static void main(String[] args) throws Exception {
        if (args[1].equals("describe")) {
            describe(args[0], args[2]);
            return;
        }
        Thread reader = new Thread(() -> read(args));
        reader.start();
        while (System.in.read() >= 0) { }
        stop = true;
        reader.join(30_000);
        System.exit(0);
    }

    static void read(String[] args) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", args[0], "group.id", args[1], "client.id", args[4],
            "group.protocol", args[3], "auto.offset.reset", "earliest", "enable.auto.commit", false, "enable.metrics.push", false));
        if (args[3].equals("classic")) {
            settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + (args[4].startsWith("eager") ? "RangeAssignor" : "CooperativeStickyAssignor"));
            settings.put("heartbeat.interval.ms", 300);
            settings.put("session.timeout.ms", 6000);
        }
        if (args[4].startsWith("static")) settings.put("group.instance.id", args[4]);
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[2]), new ConsumerRebalanceListener() {
                public void onPartitionsRevoked(Collection<TopicPartition> gone) { }
                public void onPartitionsAssigned(Collection<TopicPartition> given) { }
                public void onPartitionsLost(Collection<TopicPartition> gone) { say("lost " + numbers(gone)); }
            });
            Set<TopicPartition> had = Set.of();
            boolean said = false;
            while (!stop) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                Set<TopicPartition> has = consumer.assignment();
                if (!has.equals(had) || !said) say("has " + numbers(has));
                said = true;
                had = new HashSet<>(has);
                records.forEach(record -> say("got " + record.partition() + " " + record.value()));
                if (records.isEmpty()) continue;
                try {
                    consumer.commitSync();
                } catch (CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException late) {
                    say("late " + late.getClass().getSimpleName());
                }
            }
        } catch (Exception error) {
            say("error " + error);
        }
        say("left");
    }

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static String numbers(Collection<TopicPartition> places) {
        return places.stream().map(TopicPartition::partition).sorted().map(String::valueOf).collect(Collectors.joining(","));
    }

    static void describe(String bootstrap, String group) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            ConsumerGroupDescription told = admin.describeConsumerGroups(List.of(group)).all().get(30, TimeUnit.SECONDS).get(group);
            String listed = admin.listGroups().all().get(30, TimeUnit.SECONDS).stream().filter(one -> one.groupId().equals(group))
                .map(one -> one.type().get() + " " + one.protocol()).findFirst().orElse("none");
            System.out.println(listed + " " + told.type() + " " + told.groupState() + " " + told.members().size());
            told.members().stream().sorted(Comparator.comparing(MemberDescription::clientId)).forEach(member -> System.out.println(
                member.clientId() + " " + member.upgraded().map(String::valueOf).orElse("-") + " " + numbers(member.assignment().topicPartitions())));
            String classic;
            try {
                ClassicGroupDescription old = admin.describeClassicGroups(List.of(group)).all().get(30, TimeUnit.SECONDS).get(group);
                classic = old.protocol() + " " + old.state() + " " + old.members().size();
            } catch (java.util.concurrent.ExecutionException error) {
                classic = error.getCause().getMessage();
            }
            System.out.println("classic: " + classic);
        }
    }
}
