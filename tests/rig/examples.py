"""The programs of examples/python: unchanged from the seed but for marked lines, and run at its own addresses."""
import re
import socket
import subprocess
import time
from pathlib import Path

from . import cache, process

FOLDER = Path(__file__).resolve().parents[2] / "examples/python"
SECONDS_MAX = 90
PORTS = {"kafka": 9092, "rabbitmq": 5672}
# In the order they run: the consumer reads what the producer wrote.
PROGRAMS = {
    "kafka": ["kafka_producer", "kafka_consumer", "kafka_aiokafka", "kafka_auto_commit", "kafka_at_most_once",
              "kafka_at_least_once", "kafka_exactly_once"],
    "rabbitmq": ["rabbitmq_pika", "rabbitmq_dead_letters", "rabbitmq_aio_pika", "rabbitmq_delay", "rabbitmq_orders_406",
                 "rabbitmq_move_queue"],
}
# Which snippet of seed.md (the heading above it) a program is.
SNIPPETS = {
    "kafka_producer": "Producer Best Practices (confluent-kafka)",
    "kafka_consumer": "Consumer Best Practices",
    "kafka_aiokafka": "Async Kafka (aiokafka)",
    "rabbitmq_pika": "Python with pika (Sync)",
    "rabbitmq_dead_letters": "Dead Letter Exchange (DLX)",
    "rabbitmq_aio_pika": "Async RabbitMQ (aio-pika)",
    "rabbitmq_delay": "Delay Queue Pattern",
}


def claim(*ports):
    """Refuses to go on when somebody listens on a port of loopback that these programs have in their text."""
    for port in ports:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as probe:
                probe.settimeout(2)
                if probe.connect_ex((address, port)) == 0:
                    raise process.NotReady(f"port {port} of {address} is taken, and these programs say localhost:{port}: "
                                           f"stop what listens there (ss -ltnp 'sport = :{port}' names it)")


def unchanged():
    """Each program, with its added lines left out and its changed lines put back, is its snippet."""
    snippets = dict(re.findall(r"^### ([^\n]+)\n```python\n(.*?)^```", (FOLDER / "seed.md").read_text(), re.M | re.S))
    different = 0
    for program, heading in SNIPPETS.items():
        if _meat(_original((FOLDER / f"{program}.py").read_text())) != _meat(snippets.pop(heading)):
            print(f"{program}.py differs from the seed's '{heading}' in a line that is not marked", flush=True)
            different += 1
    for heading in snippets:
        print(f"no program for the seed's '{heading}'", flush=True)
    return 1 if different or snippets else 0


def _original(program):
    """The program's text without its head and the marked changes."""
    body = re.sub(r'\A""".*?"""\n', "", program, flags=re.S)
    lines = []
    for line in body.splitlines():
        if re.search(r"# added\b", line):
            continue
        if change := re.match(r"(\s*).*# changed: (.*)", line):
            line = change.group(1) + change.group(2)
        lines.append(line)
    return "\n".join(lines)


def _meat(text):
    """The lines that are not blank, without blanks at their ends."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def run(system, kind):
    """Runs the programs of a kind, each within its time; exit code and output must be right."""
    python = cache.python(FOLDER / "requirements.txt")
    claim(PORTS[kind])
    good, bad, start = 0, 0, time.monotonic()
    with system as broker:
        print(f"# {broker.name} on port {PORTS[kind]}", flush=True)
        for program in PROGRAMS[kind]:
            begun = time.monotonic()
            wrong = _run(python, program, broker.name.lower())
            good, bad = good + (not wrong), bad + bool(wrong)
            print(f"{'FAILED' if wrong else 'ok':6} {program}.py {time.monotonic() - begun:.1f} s{wrong}", flush=True)
        if bad:
            print(f"# the end of the log of {broker.name}\n{broker.log_tail()}", flush=True)
    print(f"{good} passed, {bad} failed in {time.monotonic() - start:.1f}s", flush=True)
    return 1 if bad else 0


def _run(python, program, system):
    """What was wrong with it, or nothing."""
    own = FOLDER / f"{program}.{system}.expected"  # where a broker says more than the others
    expected = (own if own.exists() else FOLDER / f"{program}.expected").read_text()
    try:
        done = subprocess.run([python, f"{program}.py"], cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired as late:
        return f"\nnot done after {SECONDS_MAX} s\n{_text(late.stdout)}{_text(late.stderr)}"
    if done.returncode == 0 and done.stdout == expected:
        return ""
    return f"\nexit {done.returncode}, and it said\n{done.stdout}instead of\n{expected}{done.stderr[-4000:]}"


def _text(output):
    return (output or b"").decode(errors="replace")
