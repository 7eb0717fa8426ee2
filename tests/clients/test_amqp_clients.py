"""What each AMQP client does to a broker, and what it sees when the broker is killed."""
import os
import shlex
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest
from clients import AMQP_CLIENTS
from conftest import amqp as call

LINES = [f"message {i} " + "ü" * (i % 5) for i in range(40)]
FRESH = [("false", line) for line in LINES]


@pytest.fixture(params=["classic", "quorum"])
def queue_type(request):
    return request.param


@pytest.fixture
def orders(client, queue_type):
    """An exchange with a queue of the same name, bound with the key `orders`, and its dead letters."""
    name = f"clients-{uuid.uuid4().hex[:12]}"
    call(client, "topology", name, queue_type)
    return name


@pytest.fixture(params=AMQP_CLIENTS)
def client(request):
    return request.param


def test_confirmed_messages_are_consumed_in_order(client, orders):
    call(client, "publish", orders, lines=LINES)
    assert call(client, "consume", orders, 7, len(LINES)) == FRESH


def test_what_one_client_publishes_another_consumes(client, orders):
    call(client, "publish", orders, lines=LINES)
    assert call("pika", "consume", orders, 7, len(LINES)) == FRESH
    call("pika", "publish", orders, lines=LINES)
    assert call(client, "consume", orders, 7, len(LINES)) == FRESH


def test_a_message_that_no_queue_takes_is_returned(client, orders):
    assert call(client, "unroutable", orders) == [("312", "NO_ROUTE")]


def test_a_nacked_message_comes_again_and_says_so(client, orders):
    call(client, "publish", orders, lines=LINES[:1])
    assert call(client, "requeue", orders) == [("false", LINES[0]), ("true", LINES[0])]


def test_rejected_messages_are_dead_letters_with_their_death(client, orders):
    call(client, "publish", orders, lines=LINES[:8])
    call(client, "reject", orders, 8)
    assert call(client, "dead", f"{orders}-dead", 8) == [("rejected", orders, "1", line) for line in LINES[:8]]


@pytest.mark.parametrize("queue_type", ["classic"], indirect=True)
def test_a_consumer_comes_back_after_the_broker_was_killed(client, orders):
    if "RESTART" not in os.environ:
        pytest.skip("set RESTART to a command that kills the broker and starts it on the same data")
    seen = []
    follower = threading.Thread(target=lambda: seen.extend(call(client, "follow", orders, 20)))
    follower.start()
    call("pika", "publish", orders, lines=LINES[:10])
    time.sleep(1)
    subprocess.run(shlex.split(os.environ["RESTART"]), check=True, timeout=120)
    call("pika", "publish", orders, lines=LINES[10:20])
    follower.join(70)
    assert not follower.is_alive()
    again = [line for redelivered, line in seen if redelivered == "true"]
    first = list(dict.fromkeys(line for _, line in seen))
    expected = LINES[:20] if len(first) == 20 else LINES[:20 - len(again)]
    assert first == expected, "in order, and nothing twice that does not say so"
    assert len(again) <= 10, "what was acknowledged on the way may come again, and nothing else"


def test_a_celery_worker_runs_tasks_retries_and_chords(tmp_path):
    [interpreter, _] = AMQP_CLIENTS["kombu"]()
    folder = Path(__file__).parent / "python"
    env = {**os.environ, "CELERY_QUEUE": f"clients-{uuid.uuid4().hex[:12]}", "CELERY_RESULTS": str(tmp_path)}
    worker = [interpreter, "-m", "celery", "-A", "celery_app", "worker", "--pool", "solo", "--loglevel", "WARNING"]
    with subprocess.Popen(worker, cwd=folder, env={**env, "C_FORCE_ROOT": "1"}, stdin=subprocess.DEVNULL) as process:
        try:
            done = subprocess.run([interpreter, folder / "celery_app.py"], env=env, capture_output=True, text=True, timeout=100)
        finally:
            process.terminate()
    assert done.stdout.splitlines() == ["task\t5", "retries\t2", "chord\t20"], done.stderr[-2000:]
