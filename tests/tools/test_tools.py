"""Every command line tool of the Kafka distribution: it says the same of Ottla as of Apache Kafka."""
import json
import time

import pytest
from confluent_kafka import Consumer, Producer


@pytest.fixture(scope="session")
def orders(boxes):
    """A topic `orders` with three partitions; in each ten records with the times 1000, 2000, …"""
    for box in boxes:
        assert box.run("topics", "--bootstrap-server", "{broker}", "--create", "--topic", "orders", "--partitions", "3", "--config",
                       "retention.ms=-1")[0] == 0  # the records are of 1970
        producer = Producer({"bootstrap.servers": box.address, "linger.ms": 60_000})  # a batch a partition, sent by the flush: sizes are compared
        for number in range(10):
            for partition in range(3):
                producer.produce("orders", f"order {number}", partition=partition, timestamp=1000 * (number + 1))
        assert producer.flush(30) == 0
    return "orders"


def test_topics(both, orders):
    both("topics", "--create", "--topic", "t", "--partitions", "2", "--config", "retention.ms=60000")
    both("topics", "--create", "--topic", "t", code=1)
    both("topics", "--create", "--topic", "t", "--if-not-exists")
    both("topics", "--create", "--topic", "not/legal", code=1)
    both("topics", "--describe", "--topic", "t")
    both("topics", "--alter", "--topic", "t", "--partitions", "4")
    both("topics", "--alter", "--topic", "t", "--partitions", "1", code=1)
    both("topics", "--describe", "--topic", "t")
    both("topics", "--list", "--exclude-internal")
    both("topics", "--delete", "--topic", "t")
    both("topics", "--describe", "--topic", "t", code=1)
    both("topics", "--describe", "--under-replicated-partitions")


def test_configs(both):
    both("topics", "--create", "--topic", "configured")
    topic = ("--entity-type", "topics", "--entity-name", "configured")
    both("configs", *topic, "--alter", "--add-config", "retention.ms=86400000,cleanup.policy=[compact,delete]")
    both("configs", *topic, "--describe")
    both("configs", *topic, "--alter", "--delete-config", "retention.ms,cleanup.policy")
    both("configs", *topic, "--describe")
    both("configs", *topic, "--describe", "--all", but=of_groups)
    both("configs", *topic, "--alter", "--add-config", "no.such.setting=1", code=1)
    both("configs", *topic, "--alter", "--add-config", "retention.ms=soon", code=1)
    both("configs", "--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "message.max.bytes=2000000")
    both("configs", "--entity-type", "brokers", "--entity-default", "--describe")
    both("configs", "--entity-type", "brokers", "--entity-default", "--alter", "--delete-config", "message.max.bytes")
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--alter", "--add-config", "consumer.session.timeout.ms=50000")
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--describe")
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--describe", "--all", but=of_groups, order=True)
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--alter", "--add-config", "consumer.session.timeout.ms=5", code=1)
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--alter", "--add-config", "colour=red", code=1)
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--alter", "--add-config", "share.auto.offset.reset=by_duration:PT12H")
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--alter", "--add-config", "share.auto.offset.reset=by_duration:12h", code=1)
    both("configs", "--entity-type", "groups", "--entity-name", "g", "--alter", "--delete-config", "consumer.session.timeout.ms")


def of_groups(line):
    """Streams groups are not served; dead letters are, which Kafka has from 4.4 on."""
    return None if line.strip().startswith(("streams.", "errors.deadletterqueue.")) else line


def test_client_metrics(both):
    both("client-metrics", "--alter", "--name", "all", "--metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer.",
         "--interval", "60000", "--match", "client_software_name=apache-kafka-java")
    both("client-metrics", "--describe", "--name", "all")
    both("client-metrics", "--describe")
    both("client-metrics", "--list")
    both("client-metrics", "--alter", "--name", "all", "--interval", "5", code=1)
    both("client-metrics", "--alter", "--name", "all", "--match", "colour=red", code=1)
    both("configs", "--entity-type", "client-metrics", "--describe")
    both("client-metrics", "--delete", "--name", "all")
    both("client-metrics", "--list")
    both("client-metrics", "--describe", "--name", "all")


def commit(address, group, records=30):
    """Reads `orders` to the end as a member of a group, commits, and leaves."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(["orders"])
    deadline, read = time.time() + 40, 0
    while read < records and time.time() < deadline:
        message = consumer.poll(0.1)
        read += message is not None and not message.error()
    assert read == records
    consumer.commit(asynchronous=False)
    consumer.close()


def test_groups(both, each, orders):
    each(lambda address: commit(address, "readers"))
    both("groups", "--list")
    both("consumer-groups", "--list")
    both("consumer-groups", "--list", "--state")
    both("consumer-groups", "--describe", "--group", "readers", order=True)
    both("consumer-groups", "--describe", "--group", "readers", "--state")
    both("consumer-groups", "--describe", "--group", "readers", "--members")
    both("consumer-groups", "--describe", "--all-groups", "--offsets", order=True)
    both("consumer-groups", "--reset-offsets", "--group", "readers", "--topic", "orders:0,1", "--to-earliest", "--dry-run", order=True)
    both("consumer-groups", "--reset-offsets", "--group", "readers", "--topic", orders, "--to-datetime", "1970-01-01T00:00:05.000Z", "--execute", order=True)
    both("consumer-groups", "--reset-offsets", "--group", "readers", "--all-topics", "--shift-by", "-2", "--execute", order=True)
    both("consumer-groups", "--describe", "--group", "readers", order=True)
    both("consumer-groups", "--delete-offsets", "--group", "readers", "--topic", "orders:1")
    both("consumer-groups", "--describe", "--group", "readers", order=True)
    both("consumer-groups", "--delete", "--group", "readers")
    both("consumer-groups", "--delete", "--group", "readers")
    both("consumer-groups", "--describe", "--group", "readers")
    both("groups", "--list")


def test_share_groups(both, orders):
    both("share-groups", "--list")
    both("share-groups", "--describe", "--group", "nobody")
    both("share-groups", "--delete", "--group", "nobody")
    both("configs", "--entity-type", "groups", "--entity-name", "sharers", "--alter", "--add-config", "share.auto.offset.reset=earliest")
    read = both("console-share-consumer", "--topic", orders, "--group", "sharers", "--max-messages", "30", "--timeout-ms", "20000", order=True)
    assert len([line for line in read if line.startswith("order ")]) == 30
    both("share-groups", "--list", "--state")
    both("share-groups", "--describe", "--group", "sharers", "--state", but=without_addresses, tries=20)
    both("share-groups", "--describe", "--group", "sharers", "--members")
    both("share-groups", "--describe", "--group", "sharers", order=True, but=without_start)
    both("share-groups", "--reset-offsets", "--group", "sharers", "--topic", orders, "--to-datetime", "1970-01-01T00:00:04.000Z", "--execute", order=True)
    both("share-groups", "--describe", "--group", "sharers", order=True, tries=20)
    both("share-groups", "--delete-offsets", "--group", "sharers", "--topic", orders)
    both("share-groups", "--delete", "--group", "sharers")
    both("groups", "--list")


def test_a_share_group_begins_as_long_ago_as_it_was_told(both, each):
    def write(address):
        producer = Producer({"bootstrap.servers": address})
        for number in range(1, 11):
            producer.produce("aged", f"{number}", partition=0, timestamp=number * 10**11)  # 1973, 1976, … 2001
        assert producer.flush(30) == 0
    both("topics", "--create", "--topic", "aged", "--config", "retention.ms=-1")
    each(write)
    age = int(time.time() - 5.5 * 10**8)
    both("configs", "--entity-type", "groups", "--entity-name", "young", "--alter", "--add-config", f"share.auto.offset.reset=by_duration:PT{age}S")
    read = both("console-share-consumer", "--topic", "aged", "--group", "young", "--max-messages", "5", "--timeout-ms", "20000")
    assert [line for line in read if line.isdigit()] == ["6", "7", "8", "9", "10"]


def without_start(line):
    """Kafka writes the start offset down a little later (docs/differences.md)."""
    words = line.split(" ")
    return " ".join(words[:3] + words[4:])


def without_addresses(line):
    return " ".join(word for word in line.split(" ") if not word.startswith(("HOST", "BROKER")))


def test_transactions(both, each, orders):
    def open_one(address):
        producer = Producer({"bootstrap.servers": address, "transactional.id": "transfers"})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce("orders", "in a transaction", partition=0)
        assert producer.flush(30) == 0
        return producer
    producers = each(open_one)

    def numbers(line):  # coordinator, producer ids and times are each broker's own
        return " ".join("N" if word.isdigit() and len(word) > 1 else word for word in line.split(" "))
    both("transactions", "list", but=numbers)
    both("transactions", "describe", "--transactional-id", "transfers", but=numbers)
    both("transactions", "describe-producers", "--topic", orders, "--partition", "0", but=numbers)
    both("transactions", "find-hanging", "--broker-id", "1", but=numbers)
    for producer in producers:
        producer.commit_transaction(30)

    def ended(line):  # Kafka still tells when it began
        return numbers(line).replace("None None", "N N")
    both("transactions", "describe", "--transactional-id", "transfers", but=ended, tries=20)  # Kafka writes its markers a little later
    both("transactions", "forceTerminateTransaction", "--transactionalId", "transfers", but=numbers)
    both("transactions", "describe", "--transactional-id", "nobody", code=1, but=numbers)


def test_offsets_and_deleted_records(both, orders, tmp_path):
    offsets = ("--topic", orders)
    both("get-offsets", *offsets)
    both("get-offsets", *offsets, "--time", "earliest")
    both("get-offsets", *offsets, "--time", "5500")
    both("get-offsets", *offsets, "--time", "max-timestamp")
    both("get-offsets", *offsets, "--time", "earliest-local")
    both("get-offsets", *offsets, "--time", "latest-tiered")
    both("get-offsets", "--topic-partitions", "orders:1-3")
    both("get-offsets", "--topic", "no-such-topic", code=1)
    file = tmp_path / "delete.json"
    file.write_text(json.dumps({"version": 1, "partitions": [{"topic": orders, "partition": 2, "offset": 4}]}))
    both("delete-records", "--offset-json-file", file)
    both("get-offsets", *offsets, "--time", "earliest")
    file.write_text(json.dumps({"version": 1, "partitions": [{"topic": orders, "partition": 2, "offset": 400}]}))
    both("delete-records", "--offset-json-file", file, code=0)


ONLY_KAFKA = {  # several nodes, what authorises, and what Ottla does not serve yet
    "SaslHandshake", "WriteTxnMarkers", "DescribeAcls", "CreateAcls", "DeleteAcls", "AlterReplicaLogDirs", "SaslAuthenticate", "CreateDelegationToken",
    "RenewDelegationToken", "ExpireDelegationToken", "DescribeDelegationToken", "DescribeClientQuotas", "AlterClientQuotas",
    "DescribeUserScramCredentials", "AlterUserScramCredentials", "UnregisterBroker", "AddRaftVoter", "RemoveRaftVoter", "InitializeShareGroupState",
    "ReadShareGroupState", "WriteShareGroupState", "DeleteShareGroupState", "ReadShareGroupStateSummary", "StreamsGroupHeartbeat",
    "StreamsGroupDescribe"}
ONLY_OTTLA = {"GetTelemetrySubscriptions", "PushTelemetry"}  # Kafka needs a plugin for them


def test_the_node(both, orders):
    def feature(line):
        own = ("eligible.leader.replicas.version", "kraft.version", "streams.version")  # of several nodes, and of groups that are not served
        return None if any(name in line for name in own) else line.split(" Epoch:")[0]
    both("features", "describe", but=feature)
    both("features", "upgrade", "--feature", "share.version=1")
    both("features", "upgrade", "--feature", "share.version=9", code=1)
    both("features", "upgrade", "--feature", "colour.version=1", code=1)

    def place(line):  # epoch and end are each log's own, and Kafka's controller has a listener
        changing = ("LeaderEpoch:", "HighWatermark:", "CurrentVoters:", "1 ID ")
        return next((word for word in changing if line.startswith(word)), line)
    both("metadata-quorum", "describe", "--status", but=place)
    both("metadata-quorum", "describe", "--replication", but=place)
    both("cluster", "cluster-id", "--bootstrap-server", "{broker}", bootstrap=None)
    both("log-dirs", "--describe", "--topic-list", orders)
    both("broker-api-versions", but=lambda line: None if line.split("(")[0] in ONLY_KAFKA | ONLY_OTTLA else line.rstrip(","))


def test_speed(both, orders):
    def told(line):
        return None if any(letter.isdigit() for letter in line) else line
    both("producer-perf-test", "--topic", orders, "--num-records", "2000", "--record-size", "100", "--throughput", "-1", "--bootstrap-server", "{broker}",
         bootstrap=None, but=told)
    both("consumer-perf-test", "--topic", orders, "--num-records", "2000", "--timeout", "20000", but=told)


def test_a_java_client_tells_what_it_is_asked_for(boxes, brokers):
    """Kafka does this with a plugin only."""
    ours = boxes[1]
    asked = ("--metrics", "*", "--interval", "1000", "--match", "client_software_name=apache-kafka-java,client_id=perf.*")
    assert ours.run("client-metrics", "--bootstrap-server", "{broker}", "--alter", "--name", "perf", *asked)[0] == 0
    code, said = ours.run("producer-perf-test", "--topic", "told", "--num-records", "400", "--record-size", "100", "--throughput", "100",
                          "--bootstrap-server", "{broker}", "--print-metrics")
    assert code == 0 and "400 records sent" in said
    told = [line for line in brokers[1].log_tail().split("\n") if "client metrics" in line]
    assert any("client_id=\"perf-producer-client\"" in line and "org.apache.kafka.producer" in line for line in told), told


def test_leaders_and_replicas(both, orders, tmp_path):
    both("leader-election", "--election-type", "preferred", "--all-topic-partitions")
    both("leader-election", "--election-type", "preferred", "--topic", orders, "--partition", "0")
    both("leader-election", "--election-type", "unclean", "--topic", orders, "--partition", "0")
    both("leader-election", "--election-type", "preferred", "--topic", "no-such-topic", "--partition", "0", code=1)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": orders, "partition": 0, "replicas": [1]}]}))
    both("reassign-partitions", "--reassignment-json-file", plan, "--execute")
    both("reassign-partitions", "--reassignment-json-file", plan, "--verify")
    both("reassign-partitions", "--list")
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": orders, "partition": 0, "replicas": [2]}]}))
    both("reassign-partitions", "--reassignment-json-file", plan, "--execute", code=1)
    topics = tmp_path / "topics.json"
    topics.write_text(json.dumps({"version": 1, "topics": [{"topic": orders}]}))
    both("reassign-partitions", "--topics-to-move-json-file", topics, "--broker-list", "1", "--generate")
