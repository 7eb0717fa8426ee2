"""`ottla queue`, `ottla exchange` and their kin, as people type them. For Ottla alone."""
import json
import os
import subprocess

import pika
import pytest

from rig import ottla

HTTP = os.environ["HTTP"]


@pytest.fixture(autouse=True)
def only_ottla(on_ottla):
    if not on_ottla:
        pytest.skip("these are Ottla's commands")


def run(*command, given=None, http=HTTP):
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
    return subprocess.run([ottla.binary(), *command, "--http", http], input=given, env=env, capture_output=True, text=True, timeout=30)


@pytest.fixture
def say(vhost):
    """Runs a command in the virtual host; what it wrote."""
    def say(*command, given=None):
        told = run(*command, "--vhost", vhost, given=given)
        assert told.returncode == 0, told.stderr
        return told.stdout
    return say


def rows(table):
    return [line.split() for line in table.splitlines()[1:]]


def test_a_queue_from_declaration_to_deletion(say):
    assert say("queue", "declare", "jobs", "--type", "quorum", "-a", "x-max-length=5") == "declared queue jobs\n"
    say("publish", "jobs", "first", "-p", "content_type=text/plain", "--header", "n=1")
    say("publish", "jobs", given="second")
    assert rows(say("queue", "list"))[0][:5] == ["jobs", "quorum", "2", "0", "0"]
    found = json.loads(say("queue", "describe", "jobs", "--json"))
    assert found["arguments"]["x-max-length"] == 5 and found["durable"] is True
    assert "second" in say("get", "jobs", "--skip", "1") and "first" not in say("get", "jobs", "--skip", "1")
    for _ in range(2):
        seen = json.loads(say("get", "jobs", "--json"))
        assert [(m["payload"], m["redelivered"]) for m in seen] == [("first", False), ("second", False)], "looking changes nothing"
    assert seen[0]["properties"] == {"content_type": "text/plain", "delivery_mode": 2, "headers": {"n": 1}}
    assert "first" in say("get", "jobs", "--take", "--count", "1")
    assert say("queue", "purge", "jobs") == "purged queue jobs: 1 messages were ready\n"
    assert say("queue", "delete", "jobs", "--if-empty") == "deleted queue jobs\n"


def test_a_queue_is_moved_to_one_that_is_declared_otherwise(say):
    """What docs/guide/orders-406.md tells to do."""
    say("queue", "declare", "orders")
    for number in range(3):
        say("publish", "orders", str(number))
    say("queue", "declare", "orders-new", "-a", "x-message-ttl=300000")
    assert "would go to orders-new" in say("queue", "move", "orders", "--to", "orders-new", "--preview")
    assert rows(say("queue", "move", "orders", "--to", "orders-new")) == [["3", "moved", "to", "orders-new"]]
    assert "nothing to move" in say("queue", "move", "orders", "--to", "orders-new")
    assert [m["payload"] for m in json.loads(say("get", "orders-new", "--json"))] == ["0", "1", "2"]


def test_dead_letters_are_driven_back_to_where_they_died(say, connect):
    say("exchange", "declare", "dlx", "--type", "fanout")
    say("queue", "declare", "dead")
    say("binding", "create", "dlx", "dead")
    for queue in ("orders", "invoices"):
        say("queue", "declare", queue, "-a", "x-dead-letter-exchange=dlx")
        for number in range(3):
            say("publish", queue, f"{queue}-{number}")
    channel = connect().channel()
    for queue in ("orders", "invoices"):
        for _ in range(3):
            channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)
    say("publish", "dead", "never died")
    preview = say("queue", "redrive", "dead", "--preview")
    assert sorted(rows(preview)) == [["1", "stay:", "it", "has", "never", "died"], ["3", "would", "go", "to", "invoices"],
                                     ["3", "would", "go", "to", "orders"]]
    assert rows(say("queue", "redrive", "dead", "--died-in", "orders", "--limit", "2", "--rate", "50"))[0] == ["2", "redriven", "to", "orders"]
    told = json.loads(say("queue", "redrive", "dead", "--contains", "invoices-1", "--json"))
    assert told["targets"] == {"invoices": 1} and told["moved"] == 1
    assert json.loads(say("queue", "redrive", "dead", "--reason", "expired", "--json"))["moved"] == 0
    assert [m["payload"] for m in json.loads(say("get", "orders", "--json"))] == ["orders-0", "orders-1"]
    method, properties, body = channel.basic_get("invoices", auto_ack=True)
    assert (method.routing_key, method.exchange, body) == ("invoices", "", b"invoices-1")
    assert properties.headers["x-death"][0]["reason"] == "rejected"
    left = [m["payload"] for m in json.loads(say("get", "dead", "--json"))]
    assert left == ["orders-2", "invoices-0", "invoices-2", "never died"]


def test_what_waits_for_its_time_is_seen_and_called_off(say, connect, vhost):
    channel = connect().channel()
    channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare("jobs", durable=True)
    channel.queue_bind("jobs", "later", "j")
    assert say("delayed", "list").splitlines()[-1] == "0 of 0 that wait"
    channel.confirm_delivery()
    for number in range(3):
        properties = pika.BasicProperties(headers={"x-delay": 3_600_000 + number}, message_id=f"m{number}")
        channel.basic_publish("later", "j", b"x" * number, properties)
    found = json.loads(say("delayed", "list", "--json"))
    assert found["total"] == 3
    assert [(m["exchange"], m["routing_key"], m["payload_bytes"], m["properties"]["message_id"]) for m in found["items"]] == [
        ("later", "j", number, f"m{number}") for number in range(3)]
    assert all(3_500_000 < m["due_in_ms"] <= 3_600_002 and m["due_at"] - m["arrived_at"] >= 3_600_000 for m in found["items"])
    first, second, third = (str(m["number"]) for m in found["items"])
    assert rows(say("delayed", "list", "--after", first, "--limit", "1"))[0][0] == second
    assert say("delayed", "cancel", first, third) == "called off 2\n"
    assert rows(say("delayed", "list"))[0][0] == second
    refused = run("delayed", "cancel", first, "--vhost", vhost)
    assert refused.returncode != 0 and "message_not_found" in refused.stderr, "it is gone already"


def test_exchanges_bindings_policies(say):
    say("exchange", "declare", "events", "--type", "topic")
    say("queue", "declare", "q")
    say("binding", "create", "events", "q", "--key", "a.#", "-a", "k=1")
    assert ["events", "q", "queue", "a.#", "k=1"] in rows(say("binding", "list"))
    say("binding", "delete", "events", "q", "--key", "a.#", "-a", "k=1")
    assert "events" not in say("binding", "list")
    say("policy", "set", "limits", "^q", '{"max-length": 10}', "--apply-to", "queues", "--priority", "3")
    say("policy", "set", "hard", "^q", '{"max-length": 5}', "--operator")
    assert rows(say("policy", "list")) == [["limits", "^q", "queues", "3", "max-length=10"]]
    assert "max-length=5" in say("queue", "describe", "q")
    say("policy", "delete", "limits")
    say("policy", "delete", "hard", "--operator")
    say("exchange", "delete", "events")


def test_virtual_hosts_users_permissions(say, vhost, name):
    say("vhost", "create", f"{name}-more", "--default-queue-type", "quorum", "--description", "more")
    assert [f"{name}-more", "more", "quorum", "0"] in rows(say("vhost", "list"))
    say("vhost", "limit", f"{name}-more", "--max-queues", "3", "--max-connections", "none")
    say("user", "set", name, "--new-password", "p", "--tags", "management")
    say("user", "limit", name, "--max-channels", "5")
    say("permission", "set", name, "--configure", "")
    assert [name, vhost, "^$", ".*", ".*"] in rows(say("permission", "list"))
    say("permission", "set-topic", name, "amq.topic", "--write", "^a")
    assert [name, vhost, "amq.topic", "^a", ".*"] in rows(say("permission", "list-topics"))
    say("permission", "delete-topics", name)
    say("permission", "delete", name)
    say("user", "delete", name)
    say("vhost", "delete", f"{name}-more")


def test_definitions_go_to_a_file_and_come_back(say, tmp_path):
    say("queue", "declare", "q", "-a", "x-max-length=5")
    file = str(tmp_path / "definitions.json")
    assert "exported" in say("definitions", "export", file)
    say("queue", "delete", "q")
    assert "imported" in say("definitions", "import", file)
    assert json.loads(say("queue", "describe", "q", "--json"))["arguments"]["x-max-length"] == 5
    only = json.loads(say("definitions", "export", "--only-vhost"))
    assert [queue["name"] for queue in only["queues"]] == ["q"] and "users" not in only


def test_failures_say_what_to_do(say, vhost):
    def failed(code, words, *command, **more):
        told = run(*command, **more)
        assert told.returncode == code, (told.returncode, told.stderr)
        for word in words:
            assert word in told.stderr, told.stderr
    failed(69, ["127.0.0.1:1", "refused", "ottla serve", "--http"], "queue", "list", http="127.0.0.1:1")
    amqp = os.environ["AMQP"].split("@")[1].rstrip("/")
    failed(69, ["another protocol", "--http", "15672"], "queue", "list", http=amqp)
    failed(77, ["guest", "--user", "--password-file"], "queue", "list", "--password", "wrong")
    failed(65, ["no such thing", "--vhost"], "queue", "describe", "nope")
    failed(65, ["no queue wants", "binding list"], "publish", "nowhere", "x", "--vhost", vhost)
    failed(65, ["inequivalent arg 'durable'"], "queue", "declare", "q", "--transient", "--vhost", vhost) if say("queue", "declare", "q") else None
    failed(64, ["not NAME=VALUE"], "queue", "declare", "q", "-a", "x")
    failed(64, ["no JSON"], "policy", "set", "p", ".*", "{bad")
