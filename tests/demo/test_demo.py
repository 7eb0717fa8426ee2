"""The order system on a broker elsewhere: money and stock add up, twice, and the poison orders are found and sent back."""

import json
import os
import subprocess

import pytest

PROGRAM = os.environ["DEMO_PROGRAM"]
LINES = [f"kafka://{os.environ['KAFKA']}"] if "KAFKA" in os.environ else []
LINES += [os.environ["AMQP"]] if "AMQP" in os.environ else []


def ottla(*arguments):
    told = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=200)
    assert told.returncode == 0, f"{arguments}: {told.stdout}{told.stderr}"
    return told.stdout


def letters(verb, line, *more):
    told = ottla("dead-letters", verb, "queue:shipping", "shipping", "--at", line, "--json", *more)
    return [json.loads(one) for one in told.splitlines()]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split(":")[0])
def test_the_order_system_adds_up_and_its_poison_orders_can_be_sent_back(line):
    for run in (1, 2):  # an earlier run's messages disturb nobody
        told = ottla("demo", "--on", line)
        assert sum(one.startswith("ok ") for one in told.splitlines()) == 4, told
        assert len(letters("list", line)) == run, told
    first, second = letters("list", line)
    assert {first["reason"], second["reason"]} == {"panicked"}
    assert "street" in first["cause"] and first["history"][0]["attempt"] == 1
    wanted = ("--id", second["id"])  # the one behind: what is before it stays
    assert [one["id"] for one in letters("redrive", line, *wanted, "--preview")] == [second["id"]]
    assert letters("redrive", line, *wanted) == [{"sent": 1, "stayed": 1}]
    assert [one["id"] for one in letters("list", line)] == [first["id"]]
