import os
import uuid

import pika
import pytest

AMQP = os.environ.get("AMQP", "amqp://guest:guest@127.0.0.1:5672/")


@pytest.fixture
def amqp():
    return AMQP


@pytest.fixture
def name():
    """A name no other test has."""
    return f"rules-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def connect():
    """Opens connections and closes them at the end."""
    opened = []

    def connect(**changes):
        parameters = pika.URLParameters(AMQP)
        for key, value in changes.items():
            setattr(parameters, key, value)
        opened.append(pika.BlockingConnection(parameters))
        return opened[-1]

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    return connection.channel()
