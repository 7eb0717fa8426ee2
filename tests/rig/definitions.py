"""What a real RabbitMQ exports goes into Ottla, and what Ottla exports then goes back into RabbitMQ: nothing changes on the way."""
import base64
import json
import urllib.error
import urllib.request

from .ottla import Ottla
from .rabbitmq import RabbitMQ

KINDS = ["users", "vhosts", "permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings"]
EVERYTHING = {"configure": ".*", "write": "^own", "read": ".*"}
FILLING = [
    ("PUT", "vhosts/shop", {"description": "d", "tags": "a,b", "default_queue_type": "quorum"}),
    ("PUT", "users/anna", {"password": "secret", "tags": "management,policymaker"}),
    ("PUT", "user-limits/anna/max-channels", {"value": 5}),
    ("PUT", "permissions/shop/anna", EVERYTHING),
    ("PUT", "topic-permissions/shop/anna", {"exchange": "amq.topic", "write": "^{username}", "read": ".*"}),
    ("PUT", "vhost-limits/shop/max-queues", {"value": 50}),
    ("PUT", "policies/shop/p", {"pattern": "^q", "definition": {"max-length": 9, "dead-letter-exchange": "x"}, "apply-to": "queues"}),
    ("PUT", "operator-policies/shop/o", {"pattern": "", "definition": {"max-length": 5}, "priority": 3, "apply-to": "queues"}),
    ("PUT", "exchanges/shop/x", {"type": "topic", "durable": True, "arguments": {"alternate-exchange": "amq.fanout"}}),
    ("PUT", "exchanges/shop/y", {"type": "headers", "durable": True}),
    ("PUT", "queues/shop/q", {"durable": True}),
    ("PUT", "queues/shop/classic", {"durable": True, "arguments": {"x-queue-type": "classic", "x-max-priority": 5, "x-message-ttl": 60000}}),
    ("PUT", "queues/shop/stream", {"durable": True, "arguments": {"x-queue-type": "stream", "x-max-age": "7D"}}),
    ("POST", "bindings/shop/e/x/q/q", {"routing_key": "a.#", "arguments": {}}),
    ("POST", "bindings/shop/e/x/e/y", {"routing_key": "b"}),
    ("POST", "bindings/shop/e/y/q/classic", {"arguments": {"x-match": "any", "n": 1, "s": "t"}}),
]


def call(address, method, path, body=None):
    request = urllib.request.Request(f"http://{address}/api/{path}", method=method)
    request.add_header("authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error
    return json.loads(text) if text else None


def missing(there, here):
    """What stands there and not here, by kind; anything more here does no harm."""
    plugins = "amq.rabbitmq."  # their exchanges are RabbitMQ's own affair
    return [(kind, item) for kind in KINDS for item in there[kind]
            if not any({**found, **item} == found for found in here[kind]) and not item.get("name", "").startswith(plugins)]


def both_ways(suite):
    """Exit code 0 if nothing was lost either way."""
    with RabbitMQ(suite, management=True) as rabbitmq, Ottla(http="127.0.0.1:0") as ottla:
        foreign, own = rabbitmq.env()["HTTP"], ottla.env()["HTTP"]
        for method, path, body in FILLING:
            call(foreign, method, path, body)
        exported = call(foreign, "GET", "definitions")
        call(own, "POST", "definitions", exported)
        taken = call(own, "GET", "definitions")
        lost = missing(exported, taken)
        call(foreign, "DELETE", "vhosts/shop")
        call(foreign, "DELETE", "users/anna")
        call(foreign, "POST", "definitions", taken)
        lost += missing(exported, call(foreign, "GET", "definitions"))
        for kind, item in lost:
            print(f"lost: {kind} {item}", flush=True)
        count = sum(len(exported[kind]) for kind in KINDS)
        print(f"# {rabbitmq.name}: {count} definitions there and back\n{'1 failed' if lost else '1 passed'} in 0.0s", flush=True)
        return 1 if lost else 0
