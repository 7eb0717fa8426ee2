"""The management API: the same paths, status codes and field names as RabbitMQ's."""
import time

import pytest

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def has(item, **fields):
    """The item has these fields with these values."""
    assert {name: item.get(name) for name in fields} == fields


def eventually(look):
    """RabbitMQ collects statistics every few seconds."""
    deadline = time.monotonic() + 15
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found
    return found


def test_who_asks_must_say_who_he_is_and_be_let_in(api, as_user, user):
    status, answer, headers = as_user(None).call("GET", "overview")
    assert status == 401 and headers["www-authenticate"].startswith("Basic")
    assert as_user("guest", "wrong").status("GET", "overview") == 401
    status, answer, _ = as_user(user(), "secret").call("GET", "whoami")
    assert (status, answer) == (401, {"error": "not_authorised", "reason": "Not management user"})
    has(api.get("whoami"), name="guest", tags=["administrator"])


def test_paths_and_methods_that_are_none(api):
    assert api.call("GET", "nope")[:2] == (404, {"error": "Object Not Found", "reason": "Not Found"})
    status, _, headers = api.call("DELETE", "overview")
    assert status == 405 and "GET" in headers["allow"]
    assert api.status("GET", "queues", "/", "nope") == 404
    assert api.status("GET", "queues", "nope") == 404
    assert api.status("GET", "overview", "") == 200  # a slash at the end says nothing


def test_the_overview_names_product_version_and_totals(api):
    overview = api.get("overview")
    assert overview["rabbitmq_version"].startswith("4.") and overview["management_version"]
    assert {"queues", "exchanges", "connections", "channels", "consumers"} <= set(overview["object_totals"])
    assert "amqp" in {listener["protocol"] for listener in overview["listeners"]}
    assert {"direct", "fanout", "topic", "headers"} <= {kind["name"] for kind in overview["exchange_types"]}
    assert api.get("nodes")[0]["running"] is True


def test_queues_come_and_go(api, vhost):
    assert api.put("queues", vhost, "q", durable=True, arguments={"x-message-ttl": 100000}) == 201
    assert api.put("queues", vhost, "q", durable=True, arguments={"x-message-ttl": 100000}) == 204
    status, answer, _ = api.call("PUT", "queues", vhost, "q", body={"durable": True})
    assert (status, answer["error"]) == (400, "bad_request")
    assert answer["reason"].startswith(f"inequivalent arg 'x-message-ttl' for queue 'q' in vhost '{vhost}'")
    has(api.get("queues", vhost, "q"), name="q", vhost=vhost, durable=True, auto_delete=False, type="classic", state="running")
    assert api.get("queues", vhost, "q")["arguments"]["x-message-ttl"] == 100000
    assert [queue["name"] for queue in api.get("queues", vhost)] == ["q"]
    assert api.status("PUT", "queues", vhost, "q2", body=b"{bad") == 400
    assert api.put("queues", vhost, "q2", durable=True, auto_delete="yes") == 400
    assert api.put("queues", "nope", "q2") == 404
    assert api.put("queues", vhost, "amq.q", durable=True) == 401
    assert api.put("queues", vhost, "q3", durable=True, auto_delete=True, arguments={"x-queue-type": "quorum"}) == 400
    assert api.delete("queues", vhost, "q") == 204
    assert api.delete("queues", vhost, "q") == 404


def test_lists_are_filtered_sorted_and_cut(api, vhost):
    for queue in ("b", "a", "other"):
        assert api.put("queues", vhost, queue, durable=True) == 201
    page = api.get("queues", vhost, query="?page=1&page_size=2&sort=name&name=%5E%5Bab%5D%24&use_regex=true")
    has(page, filtered_count=2, item_count=2, page=1, page_count=1, page_size=2, total_count=3)
    assert [queue["name"] for queue in page["items"]] == ["a", "b"]
    names = api.get("queues", vhost, query="?columns=name&sort=name&sort_reverse=true")
    assert names == [{"name": "other"}, {"name": "b"}, {"name": "a"}]
    assert api.status("GET", "queues", vhost, query="?page=9") == 400


def test_exchanges_come_and_go(api, vhost):
    assert api.put("exchanges", vhost, "x", type="topic", durable=True) == 201
    assert api.put("exchanges", vhost, "x", type="topic", durable=True) == 204
    status, answer, _ = api.call("PUT", "exchanges", vhost, "x", body={"type": "direct", "durable": True})
    assert status == 400 and answer["reason"].startswith("inequivalent arg 'type' for exchange 'x'")
    assert api.put("exchanges", vhost, "y", type="nope") == 400
    has(api.get("exchanges", vhost, "x"), name="x", type="topic", durable=True, internal=False, auto_delete=False, arguments={})
    has(api.get("exchanges", vhost, "amq.default"), name="", type="direct")
    names = {exchange["name"] for exchange in api.get("exchanges", vhost)}
    assert {"", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic", "amq.rabbitmq.trace", "x"} == names
    assert api.delete("exchanges", vhost, "amq.direct") == 401
    assert api.delete("exchanges", vhost, "x") == 204
    assert api.delete("exchanges", vhost, "x") == 404


def test_a_binding_is_addressed_by_its_key(api, vhost):
    api.put("queues", vhost, "q", durable=True)
    path = ("bindings", vhost, "e", "amq.topic", "q", "q")
    status, _, headers = api.call("POST", *path, body={"routing_key": "a b+c/d.#~", "arguments": {}})
    assert (status, headers["location"]) == (201, "q/a%2Bb%252Bc%252Fd.%2523%257E")
    assert api.call("POST", *path, body={})[2]["location"] == "q/~"
    bindings = api.get(*path)
    assert {binding["properties_key"] for binding in bindings} == {"~", "a+b%2Bc%2Fd.%23%7E"}
    has(next(b for b in bindings if b["routing_key"] == ""), source="amq.topic", vhost=vhost, destination="q",
        destination_type="queue", arguments={})
    assert len(api.get("queues", vhost, "q", "bindings")) == 3  # and the one to the default exchange
    assert len(api.get("exchanges", vhost, "amq.topic", "bindings", "source")) == 2
    assert api.delete(*path, "~") == 204
    assert api.delete(*path, "~") == 404
    assert api.status("POST", "bindings", vhost, "e", "nope", "q", "q", body={}) == 404
    assert api.status("POST", "bindings", vhost, "e", "amq.topic", "q", "nope", body={}) == 404
    assert api.status("POST", "bindings", vhost, "e", "amq.topic", "e", "amq.fanout", body={"routing_key": "k"}) == 201
    has(api.get("exchanges", vhost, "amq.fanout", "bindings", "destination")[0], source="amq.topic", destination_type="exchange")


def publish(api, vhost, key, payload="hello", **properties):
    message = {"properties": properties, "routing_key": key, "payload": payload, "payload_encoding": "string"}
    return api.post("exchanges", vhost, "amq.default", "publish", body=message)


def test_messages_are_published_and_got(api, vhost):
    api.put("queues", vhost, "q", durable=True)
    properties = {"delivery_mode": 2, "content_type": "text/plain", "headers": {"n": 1, "s": "t"}}
    assert publish(api, vhost, "q", **properties) == {"routed": True}
    assert publish(api, vhost, "nowhere") == {"routed": False}
    get = {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}
    message = api.post("queues", vhost, "q", "get", body=get)[0]
    has(message, payload="hello", payload_bytes=5, payload_encoding="string", redelivered=False, exchange="", routing_key="q",
        message_count=0, properties=properties)
    cut = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 2}
    has(api.post("queues", vhost, "q", "get", body=cut)[0], payload="aGU=", payload_encoding="base64", redelivered=True)
    assert len(api.post("queues", vhost, "q", "get", body={**get, "ackmode": "ack_requeue_false"})) == 1
    assert api.post("queues", vhost, "q", "get", body=get) == []
    publish(api, vhost, "q")
    assert api.delete("queues", vhost, "q", "contents") == 204
    assert api.post("queues", vhost, "q", "get", body=get) == []


@pytest.mark.parametrize("change, status", [
    ({"payload": "!!!", "payload_encoding": "base64"}, 400), ({"payload_encoding": "zip"}, 400), ({"properties": None}, 400)])
def test_what_cannot_be_published(api, vhost, change, status):
    message = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string", **change}
    message = {name: value for name, value in message.items() if value is not None}
    assert api.status("POST", "exchanges", vhost, "amq.default", "publish", body=message) == status


def test_publishing_and_getting_need_something_to_do_it_with(api, vhost):
    message = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
    assert api.status("POST", "exchanges", vhost, "nope", "publish", body=message) == 404
    get = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    assert api.status("POST", "queues", vhost, "nope", "get", body=get) == 404
    assert api.status("POST", "queues", vhost, "nope", "get", body={"count": 1}) in (400, 404)


def test_what_passes_is_counted(api, vhost, connect):
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    for _ in range(5):
        channel.basic_publish("", "q", b"x")
    first, second = (channel.basic_get("q")[0].delivery_tag for _ in range(2))
    channel.basic_ack(first)
    channel.basic_nack(second, requeue=True)
    assert channel.basic_get("q", auto_ack=True)[0].redelivered
    for method, _, _ in channel.consume("q", inactivity_timeout=2):
        if not method:
            break
        channel.basic_ack(method.delivery_tag)
    expected = {"publish": 5, "get": 2, "get_no_ack": 1, "redeliver": 1, "deliver": 3, "ack": 4, "deliver_get": 6}

    def counted():
        stats = api.get("queues", vhost, "q").get("message_stats", {})
        return stats if {name: stats.get(name) for name in expected} == expected else None

    stats = eventually(counted)
    assert all(stats[f"{name}_details"]["rate"] >= 0 for name in expected)
    overview = api.get("overview")["message_stats"]
    assert overview["publish"] >= 5 and overview["ack_details"]["rate"] >= 0


def test_virtual_hosts_say_what_they_are_for(api, vhost):
    assert api.put("vhosts", vhost, description="shop", tags="a,b", default_queue_type="quorum") == 204
    has(api.get("vhosts", vhost), name=vhost, description="shop", tags=["a", "b"], default_queue_type="quorum")
    assert api.get("vhosts", vhost, "permissions") == [{"user": "guest", "vhost": vhost, **EVERYTHING}]
    assert vhost in {found["name"] for found in api.get("vhosts")}
    assert api.status("GET", "vhosts", "nope") == 404 and api.delete("vhosts", "nope") == 404
    assert api.put("queues", vhost, "q", durable=True) == 201
    assert api.get("queues", vhost, "q")["type"] == "quorum"
    assert api.delete("vhosts", vhost) == 204
    assert api.status("GET", "queues", vhost) == 404


def test_users_and_what_they_may_do(api, name, vhost):
    assert api.put("users", name, password="p", tags="management") == 201
    assert api.put("users", name, password="p", tags=["management"]) == 204
    found = api.get("users", name)
    has(found, name=name, tags=["management"], hashing_algorithm="rabbit_password_hashing_sha256", limits={})
    assert len(found["password_hash"]) == 48
    assert api.put("users", name, password="p") == 400
    assert api.put("users", name, password_hash="not base64!", tags="") == 400
    assert name in {user["name"] for user in api.get("users", "without-permissions")}
    assert api.put("permissions", vhost, name, configure=".*") == 400
    assert api.put("permissions", vhost, name, **{**EVERYTHING, "write": "("}) == 400
    assert api.put("permissions", vhost, "nope", **EVERYTHING) == 400
    assert api.put("permissions", vhost, name, **EVERYTHING) == 201
    assert api.put("permissions", vhost, name, **EVERYTHING) == 204
    assert api.get("permissions", vhost, name) == {"user": name, "vhost": vhost, **EVERYTHING}
    assert api.get("users", name, "permissions") == [{"user": name, "vhost": vhost, **EVERYTHING}]
    assert api.status("GET", "permissions", "/", name) == 404
    topic = {"exchange": "amq.topic", "write": "^a", "read": ".*"}
    assert api.put("topic-permissions", vhost, name, **topic) == 201
    assert api.get("topic-permissions", vhost, name) == [{"user": name, "vhost": vhost, **topic}]
    assert api.delete("topic-permissions", vhost, name) == 204
    assert api.delete("permissions", vhost, name) == 204
    assert api.delete("permissions", vhost, name) == 404
    assert api.delete("users", name) == 204
    assert api.delete("users", name) == 404


def test_policies_of_both_kinds(api, vhost):
    policy = {"pattern": "^q", "definition": {"message-ttl": 5000, "max-length": 10}, "priority": 1, "apply_to": "queues"}
    assert api.put("policies", vhost, "p", **policy) == 201
    assert api.put("policies", vhost, "p", **policy) == 204
    has(api.get("policies", vhost, "p"), vhost=vhost, name="p", pattern="^q", priority=1,
        definition={"message-ttl": 5000, "max-length": 10})
    assert api.get("policies", vhost, "p")["apply-to"] == "queues"
    for bad in ({"pattern": "("}, {"definition": {"nope": 5}}, {"definition": {"message-ttl": "a"}}, {"definition": {}}, {"apply_to": "no"}):
        assert api.put("policies", vhost, "bad", **{**policy, **bad}) == 400, bad
    assert api.status("PUT", "policies", vhost, "bad", body={"definition": {"max-length": 1}}) == 400
    operator = {"pattern": "^q", "definition": {"max-length": 5}, "apply_to": "queues"}
    assert api.put("operator-policies", vhost, "o", **operator) == 201
    assert api.put("operator-policies", vhost, "bad", **{**operator, "definition": {"dead-letter-exchange": "a"}}) == 400
    assert [found["name"] for found in api.get("operator-policies", vhost)] == ["o"]
    api.put("queues", vhost, "q", durable=True)
    queue = eventually(lambda: (found := api.get("queues", vhost, "q")).get("policy") and found)
    has(queue, policy="p", operator_policy="o", effective_policy_definition={"message-ttl": 5000, "max-length": 5})
    assert api.delete("policies", vhost, "p") == 204 and api.delete("policies", vhost, "p") == 404
    assert api.delete("operator-policies", vhost, "o") == 204


def test_limits_are_set_and_lifted(api, vhost, user):
    who = user()
    assert api.put("vhost-limits", vhost, "max-queues", value=1) == 204
    assert api.get("vhost-limits", vhost) == [{"vhost": vhost, "value": {"max-queues": 1}}]
    assert api.put("vhost-limits", vhost, "nope", value=1) == 400
    assert api.put("vhost-limits", vhost, "max-queues", value="a") == 400
    assert api.put("vhost-limits", vhost, "max-queues") == 400
    assert api.status("GET", "vhost-limits", "nope") == 404
    assert api.delete("vhost-limits", vhost, "max-queues") == 204
    assert api.put("user-limits", who, "max-channels", value=1) == 204
    assert api.get("user-limits", who) == [{"user": who, "value": {"max-channels": 1}}]
    assert api.put("user-limits", who, "nope", value=1) == 400
    assert api.put("user-limits", "nope", "max-channels", value=1) == 400
    assert api.delete("user-limits", who, "max-channels") == 204


def test_connections_channels_and_consumers_are_seen(api, vhost, connect):
    channel = connect(client_properties={"connection_name": "seen"}).channel()
    channel.queue_declare("q", durable=True)
    channel.basic_qos(prefetch_count=7)
    channel.basic_consume("q", lambda *_: None, arguments={"x-priority": 3})
    own = eventually(lambda: [c for c in api.get("connections") if c.get("vhost") == vhost and c.get("channels")])[0]
    has(own, user="guest", vhost=vhost, protocol="AMQP 0-9-1", auth_mechanism="PLAIN", state="running", frame_max=131072,
        channel_max=2047, host="127.0.0.1", ssl=False)
    assert own["client_properties"]["connection_name"] == "seen"
    assert own["name"] == f"{own['peer_host']}:{own['peer_port']} -> {own['host']}:{own['port']}"
    seen = eventually(lambda: [c for c in api.get("channels") if c["vhost"] == vhost and c.get("consumer_count")])[0]
    has(seen, number=1, name=f"{own['name']} (1)", prefetch_count=7, consumer_count=1, confirm=False, transactional=False)
    consumer = eventually(lambda: api.get("consumers", vhost))[0]
    has(consumer, ack_required=True, exclusive=False, prefetch_count=7, active=True, activity_status="up",
        arguments={"x-priority": 3}, queue={"name": "q", "vhost": vhost})
    assert consumer["channel_details"]["connection_name"] == own["name"]
    assert eventually(lambda: api.get("queues", vhost, "q")["consumer_details"])[0]["consumer_tag"] == consumer["consumer_tag"]
    assert api.get("connections", own["name"])["name"] == own["name"]
    assert api.status("GET", "connections", "nope") == 404 and api.delete("connections", "nope") == 404


TAGS = ["", "management", "policymaker", "monitoring"]


@pytest.mark.parametrize("path, allowed", [
    (("overview",), "management policymaker monitoring"), (("queues",), "management policymaker monitoring"),
    (("queues", "{vhost}"), "management policymaker monitoring"), (("queues", "/"), ""), (("vhosts",), "management policymaker monitoring"),
    (("vhosts", "{vhost}"), ""), (("users",), ""), (("permissions",), ""), (("policies", "{vhost}"), "management policymaker monitoring"),
    (("parameters",), "policymaker"), (("nodes",), "monitoring"), (("definitions",), ""), (("connections",), "management policymaker monitoring"),
    (("health", "checks", "alarms"), "management policymaker monitoring"), (("aliveness-test", "{vhost}"), "management policymaker monitoring"),
])
def test_a_tag_opens_what_it_opens(as_user, user, vhost, path, allowed):
    path = [part.format(vhost=vhost) for part in path]
    for tag in TAGS:
        # RabbitMQ 4.3.6 does not even say that somebody else's virtual host exists
        expected = (200,) if tag and tag in allowed.split() else (401, 404) if path == ["queues", "/"] else (401,)
        assert as_user(user(tag), "secret").status("GET", *path) in expected, tag


def test_who_may_set_policies_and_make_virtual_hosts(as_user, user, vhost, name):
    policy = {"pattern": "^z", "definition": {"max-length": 5}, "apply_to": "queues"}
    for tag, expected in [("management", 401), ("monitoring", 401), ("policymaker", 201)]:
        own = as_user(user(tag), "secret")
        assert own.put("policies", vhost, "z", **policy) == expected, tag
        assert own.put("queues", vhost, f"q-{tag}", durable=True) == 201
        assert own.put("vhosts", f"{name}-more") == 401
        assert own.put("operator-policies", vhost, "z", **policy) == 401
        assert own.put("vhost-limits", vhost, "max-queues", value=9) == 401


def test_permissions_hold_here_too(as_user, user, vhost):
    own = as_user(user("management", configure="^own-"), "secret")
    assert own.put("queues", vhost, "own-q", durable=True) == 201
    assert own.put("queues", vhost, "q", durable=True) == 401


def test_health(api, vhost):
    for check in ("alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical"):
        assert api.get("health", "checks", check)["status"] == "ok"
    assert api.get("aliveness-test", vhost)["status"] == "ok"
    assert api.get("health", "checks", "protocol-listener", "amqp")["status"] == "ok"
    status, answer, _ = api.call("GET", "health", "checks", "port-listener", "5")
    assert status == 503 and answer["status"] == "failed" and answer["missing"] == 5


def everything(api, vhost, name):
    """One of everything, as definitions."""
    return {
        "users": [{"name": name, "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
                   "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["management"], "limits": {"max-channels": 5}}],
        "vhosts": [{"name": vhost, "metadata": {"description": "d", "tags": ["a"], "default_queue_type": "classic"}}],
        "permissions": [{"user": name, "vhost": vhost, **EVERYTHING}],
        "topic_permissions": [{"user": name, "vhost": vhost, "exchange": "amq.topic", "write": "^a", "read": ".*"}],
        "parameters": [
            {"component": "vhost-limits", "vhost": vhost, "name": "limits", "value": {"max-queues": 50}},
            {"component": "operator_policy", "vhost": vhost, "name": "o",
             "value": {"pattern": "^q", "definition": {"max-length": 5}, "priority": 0, "apply-to": "queues"}}],
        "policies": [{"vhost": vhost, "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 2,
                      "definition": {"dead-letter-exchange": "x"}}],
        "queues": [{"name": "q", "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}],
        "exchanges": [{"name": "x", "vhost": vhost, "type": "topic", "durable": True, "auto_delete": False,
                       "arguments": {"alternate-exchange": "amq.fanout"}}],
        "bindings": [{"source": "x", "vhost": vhost, "destination": "q", "destination_type": "queue", "routing_key": "a.#",
                      "arguments": {"k": 1}}],
    }


def test_definitions_come_back_as_they_went_in(api, as_user, name):
    vhost = f"{name}-defined"
    document = everything(api, vhost, name)
    try:
        assert api.status("POST", "definitions", body=document) == 204
        assert api.status("POST", "definitions", body=document) == 204  # what is there stays
        exported = api.get("definitions")
        for kind, items in document.items():
            for item in items:
                assert any({**found, **item} == found for found in exported[kind]), (kind, item, exported[kind])
        assert as_user(name, "test12").status("GET", "whoami") == 200, "the imported hash opens"
        of_vhost = api.get("definitions", vhost)
        assert [queue["name"] for queue in of_vhost["queues"]] == ["q"] and "vhost" not in of_vhost["queues"][0]
        assert api.status("POST", "definitions", body=b"{bad") == 400
        queue = {"name": "lost", "vhost": f"{name}-nope", "durable": True, "auto_delete": False, "arguments": {}}
        assert api.status("POST", "definitions", body={"queues": [queue]}) == 400
        assert api.status("POST", "definitions", vhost, body={"queues": [{**queue, "vhost": vhost}]}) == 204
        assert api.status("GET", "queues", vhost, "lost") == 200
    finally:
        api.delete("vhosts", vhost)
        api.delete("users", name)
