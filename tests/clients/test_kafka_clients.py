"""What each client writes the others read, and the other way round."""
import time
import uuid

import pytest
from clients import KAFKA_CLIENTS as CLIENTS
from conftest import kafka as call
from conftest import wait_for

VALUES = [(f"k{i % 7}", f"value {i} " + "é" * (i % 5)) for i in range(60)]
ROWS = [(str(i), key, value) for i, (key, value) in enumerate(VALUES)]


def able(command):
    return [name for name, client in CLIENTS.items() if command in client.commands]


@pytest.mark.parametrize("name", able("create"))
def test_a_topic_is_created_and_deleted(name):
    topic = f"clients-{uuid.uuid4().hex[:12]}"
    call(name, "create", topic, 3)
    wait_for(topic, partitions=3)
    call(name, "delete", topic)
    wait_for(topic, partitions=0)


@pytest.mark.parametrize("name,codec", [(name, codec) for name in able("produce") for codec in CLIENTS[name].codecs])
def test_idempotent_records_of_each_codec_arrive_in_order(name, codec, topic):
    call(name, "produce", topic, codec, "idempotent", values=VALUES)
    assert call("confluent-kafka", "read", topic, "beginning", len(ROWS)) == ROWS


@pytest.mark.parametrize("acks", ["0", "1", "all"])
@pytest.mark.parametrize("name", able("produce"))
def test_records_of_each_acks_arrive_in_order(name, acks, topic):
    call(name, "produce", topic, "none", acks, values=VALUES)
    assert call("confluent-kafka", "read", topic, "beginning", len(ROWS)) == ROWS


@pytest.mark.parametrize("name,codec", [(name, codec) for name in able("read") for codec in CLIENTS[name].codecs])
def test_records_of_each_codec_are_read_from_the_beginning(name, codec, topic):
    call("confluent-kafka", "produce", topic, codec, "all", values=VALUES)
    assert call(name, "read", topic, "beginning", len(ROWS)) == ROWS


@pytest.mark.parametrize("name", able("read"))
def test_records_are_read_from_an_offset_inside_a_batch(name, topic):
    call("confluent-kafka", "produce", topic, "lz4", "all", values=VALUES)
    assert call(name, "read", topic, 31, len(ROWS) - 31) == ROWS[31:]


@pytest.mark.parametrize("name", [name for name in able("read") if CLIENTS[name].finds_times])
def test_records_are_read_from_a_time(name, topic):
    call("confluent-kafka", "produce", topic, "none", "all", values=VALUES[:20])
    time.sleep(0.05)
    moment = int(time.time() * 1000)
    time.sleep(0.05)
    call("confluent-kafka", "produce", topic, "none", "all", values=VALUES[20:])
    assert call(name, "read", topic, f"@{moment}", len(ROWS) - 20) == ROWS[20:]


@pytest.mark.parametrize("name", able("group"))
def test_a_group_resumes_where_it_committed(name, topic):
    call("confluent-kafka", "produce", topic, "gzip", "all", values=VALUES)
    assert call(name, "group", topic, f"g-{topic}", len(ROWS)) == ROWS
    more = [("late", "after the commit")]
    call("confluent-kafka", "produce", topic, "none", "all", values=more)
    assert call(name, "group", topic, f"g-{topic}", 1) == [(str(len(ROWS)), *more[0])]


@pytest.mark.parametrize("name", able("transact"))
def test_only_committed_transactions_are_read(name, topic):
    values = [("a", "kept"), ("b", "!aborted"), ("c", "kept too"), ("d", "!aborted too"), ("e", "last")]
    call(name, "transact", topic, f"t-{topic}", values=values)
    kept = [(key, value) for key, value in values if not value.startswith("!")]
    committed = call("confluent-kafka", "read", topic, "beginning", len(kept))  # librdkafka reads what is committed
    assert [row[1:] for row in committed] == kept
    everything = call("aiokafka", "read", topic, "beginning", len(values))  # aiokafka reads all unless told otherwise
    assert [row[1:] for row in everything] == values
    assert [int(row[0]) for row in everything] == [0, 2, 4, 6, 8], "a marker after each transaction"
