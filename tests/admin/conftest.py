import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pika
import pytest

AMQP = os.environ["AMQP"]
HTTP = os.environ["HTTP"]


class Api:
    """The management API for one user. `api.put("queues", "/", "q", durable=True)` is the status."""

    def __init__(self, user="guest", password="guest"):
        self.user, self.password = user, password

    def call(self, method, *path, body=None, query="", headers=None):
        """Status, answer and headers."""
        parts = "/".join(urllib.parse.quote(part, safe="") for part in path)
        request = urllib.request.Request(f"http://{HTTP}/api/{parts}{query}", method=method)
        if self.user is not None:
            request.add_header("authorization", "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode())
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if body is not None:
            request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text, status, told = answer.read(), answer.status, answer.headers
        except urllib.error.HTTPError as error:
            text, status, told = error.read(), error.code, error.headers
        return status, json.loads(text) if text[:1] in (b"{", b"[") else text, told

    def status(self, method, *path, **more):
        return self.call(method, *path, **more)[0]

    def get(self, *path, query=""):
        status, answer, _ = self.call("GET", *path, query=query)
        assert status == 200, (status, answer)
        return answer

    def put(self, *path, **body):
        return self.status("PUT", *path, body={name.replace("apply_to", "apply-to"): value for name, value in body.items()})

    def post(self, *path, body):
        status, answer, _ = self.call("POST", *path, body=body)
        assert 200 <= status < 300, (status, answer)
        return answer

    def delete(self, *path, query=""):
        return self.status("DELETE", *path, query=query)


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def as_user():
    return Api


@pytest.fixture
def on_ottla(api):
    return "ottla_version" in api.get("overview")


@pytest.fixture
def name():
    """A name no other test has."""
    return f"admin-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def vhost(api, name):
    """A virtual host of the test's own, with everything in it gone at the end."""
    assert api.put("vhosts", name) == 201
    yield name
    api.delete("vhosts", name)


@pytest.fixture
def user(api, name, vhost):
    """Makes a user with these tags who may do everything in the virtual host."""
    made = []

    def user(tags="", password="secret", **permission):
        made.append(f"{name}-{len(made)}")
        assert api.put("users", made[-1], password=password, tags=tags) == 201
        everything = {"configure": ".*", "write": ".*", "read": ".*", **permission}
        assert api.put("permissions", vhost, made[-1], **everything) == 201
        return made[-1]

    yield user
    for each in made:
        api.delete("users", each)


@pytest.fixture
def connect(vhost):
    """Opens AMQP connections to the virtual host and closes them at the end."""
    opened = []

    def connect(user="guest", password="guest", **changes):
        parameters = pika.URLParameters(AMQP)
        parameters.virtual_host = vhost
        parameters.credentials = pika.PlainCredentials(user, password)
        for key, value in changes.items():
            setattr(parameters, key, value)
        opened.append(pika.BlockingConnection(parameters))
        return opened[-1]

    yield connect
    for connection in opened:
        try:
            connection.close()
        except pika.exceptions.AMQPError:
            pass
