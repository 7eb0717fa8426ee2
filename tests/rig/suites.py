"""Which tests run against which system: `python3 -m rig.suites NAME…`, all of them without a name."""
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import bare, cache, definitions, examples, process, tour
from .control import Control
from .kafka import Kafka, java
from .ottla import ROOT, Ottla, binary
from .postgres import PostgreSQL
from .rabbitmq import RabbitMQ

TESTS = Path(__file__).resolve().parents[1]
KAFKA = ["test_confluent_kafka.py", "test_aiokafka.py", "test_anti_patterns_kafka.py",
         "test_restart.py::test_records_and_committed_offsets_survive"]
KAFKA_CLIENTS = ["test_kafka_clients.py", "test_kafka_groups.py"]
AMQP = ["test_pika.py", "test_aio_pika.py", "test_anti_patterns_rabbitmq.py",
        "test_restart.py::test_durable_survives_and_transient_does_not"]


SYSTEMS = {
    "ottla": Ottla,
    "kafka": Kafka,
    "rabbitmq-4.0": lambda: RabbitMQ("trixie"),
    "rabbitmq-4.3": lambda: RabbitMQ("forky"),
}


def acceptance(system, tests):
    """The programs of tests/acceptance against a system."""
    return _pytest(system, "acceptance", cache.python(TESTS / "acceptance/requirements.txt"), tests)


def ledger(system, *arguments):
    """Clients keep books while the broker is killed; see tests/ledger."""
    python = cache.python(TESTS / "ledger/requirements.txt")
    return _run([python, "-m", "ledger", "--system", system, *arguments])


def rollback(system, *arguments):
    """A broker whose data is put back to an earlier state must be caught; exit 0 when it is."""
    python = cache.python(TESTS / "ledger/requirements.txt")
    command = [python, "-m", "ledger", "--system", system, "--kills", "2", "--rollback", *arguments]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    told = subprocess.run(command, cwd=TESTS, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    caught = [line for line in told.splitlines() if line.startswith("lost: ")]
    print(told if not caught else f"# caught: {caught[0]}\n1 passed in 0.0s", flush=True)
    return 0 if caught else 1


def history(*arguments):
    """Clients of two libraries write down what they do while their broker is killed and paused; see tests/history."""
    return _run([cache.python(TESTS / "ledger/requirements.txt"), "-m", "history", *arguments])


PLANTED = ("none", "transaction-lost-at-begin", "marker-of-one-partition", "duplicate-window-lost", "group-forgotten")


def planted():
    """Each bug that a debug build can plant is caught by the checker of histories, and nothing is where there is none."""
    path = Path(os.environ.get("OTTLA") or ROOT / "target/debug/ottla")
    if not path.exists():
        raise cache.Missing(f"{path} is missing: cargo build -p ottla-cli, or set OTTLA to a debug build")
    env = {**os.environ, "PYTHONPATH": str(TESTS), "OTTLA": str(path)}
    command = [cache.python(TESTS / "ledger/requirements.txt"), "-m", "history", "--planted"]
    runs = [subprocess.Popen([*command, bug], cwd=TESTS, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for bug in PLANTED]
    for run in runs:
        print(run.communicate()[0], end="", flush=True)
    return max(run.returncode for run in runs)


def clients(system, *tests):
    """Every client library against a system; see tests/clients."""
    sys.path.insert(0, str(TESTS / "clients"))
    import clients as known
    for prepare in [*(client.prepare for client in known.KAFKA_CLIENTS.values()), *known.AMQP_CLIENTS.values()]:
        prepare()  # says what is missing before anything is started
    return _pytest(system, "clients", cache.python(TESTS / "clients/python/requirements.txt"), tests)


def _pytest(system, folder, python, tests):
    """Tests of a folder against a system; restarts are real."""
    with system as broker, Control(broker) as control:
        print(f"# {broker.name}: {broker.env()}", flush=True)
        env = {**os.environ, **broker.env(), "RESTART": control.command(), "PYTHONPATH": str(TESTS)}
        command = [python, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider", "--durations=5", *tests]
        code = subprocess.run(command, cwd=TESTS / folder, env=env, stdin=subprocess.DEVNULL).returncode
        if code != 0:
            print(f"# the end of the log of {broker.name}\n{broker.log_tail()}", flush=True)
        return code


def rules(system):
    """RabbitMQ's rules and words, one test each; see tests/rules."""
    return _pytest(system, "rules", cache.python(TESTS / "acceptance/requirements.txt"), [])


def wire_kafka():
    """The server's own stories of hostile and unusual clients, told to Apache Kafka: it must answer what they assert of Ottla."""
    command = [os.environ.get("CARGO", "cargo"), "test", "--workspace", "--locked", "--test", "it", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    [program] = [made["executable"] for made in artifacts
                 if made.get("executable") and made["manifest_path"] == str(ROOT / "crates/server/Cargo.toml")]
    with Kafka() as broker:
        env = {**os.environ, "OTTLA_IT_BROKER": broker.env()["KAFKA"]}
        return subprocess.run([program, "--test-threads", "2"], env=env, cwd=ROOT / "crates/server", stdin=subprocess.DEVNULL).returncode


def commands(system):
    """`ottla group` and `ottla txn`; see tests/commands."""
    java("ConsoleShareConsumer")  # says what is missing before anything is started
    return _pytest(system, "commands", cache.python(TESTS / "acceptance/requirements.txt"), [])


def bridge(*tests):
    """Both protocols on one log; see tests/bridge."""
    return _pytest(Ottla(), "bridge", cache.python(TESTS / "acceptance/requirements.txt"), tests)


def tools():
    """Kafka's command line tools say the same of Ottla as of Apache Kafka; see tests/tools."""
    java("")  # says what is missing before anything is started
    python = cache.python(TESTS / "acceptance/requirements.txt")
    return _run([python, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider", "--durations=5", "tools"])


def admin(system):
    """The management API, and Ottla's commands over it; see tests/admin."""
    return _pytest(system, "admin", cache.python(TESTS / "acceptance/requirements.txt"), [])


class SmallDisk(Ottla):
    """Ottla with its data on a disk of 300 MiB."""

    def start(self):
        data = Path(self.home.name) / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", data], check=True)
        super().start()

    def __exit__(self, *_):
        if hasattr(self, "server"):
            self.server.stop()
        subprocess.run(["umount", Path(self.home.name) / "data"], check=False)
        super().__exit__()


def full_disk():
    """A small disk under real clients, in a mount namespace of its own; see tests/full_disk."""
    code = "from rig import suites; import sys; sys.exit(suites.full_disk_inside())"
    return _run(["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", code])


def full_disk_inside():
    return _pytest(SmallDisk(), "full_disk", cache.python(TESTS / "ledger/requirements.txt"), [])


def auditors():
    """The ledger's audits and the checker of histories find every planted anomaly."""
    python = cache.python(TESTS / "ledger/requirements.txt")
    return _run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "ledger", "history"])


def _run(command):
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(command, cwd=TESTS, env=env, stdin=subprocess.DEVNULL).returncode


def java_programs(system, folder):
    """Programs of Kafka's own Java libraries in a folder, which starts its brokers itself."""
    java("")  # says what is missing before anything is started
    env = {**os.environ, f"{folder.split('_')[0].upper()}_BROKER": system}
    python = cache.python(TESTS / "acceptance/requirements.txt")
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", folder]
    return subprocess.run(command, cwd=TESTS, env=env, stdin=subprocess.DEVNULL).returncode


def toolkit(system):
    """The conformance suite of the crate `ottla` (crates/toolkit) over each protocol that a system speaks."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "test", "--locked", "-p", "ottla", "--features", "kafka,amqp", "--test", "conformance"]
    command += ["--test", "refused"]
    subprocess.run([*command, "--no-run"], cwd=TESTS.parent, check=True)  # before anything is started
    with system as broker:
        address = broker.env()
        lines = [f"kafka://{address['KAFKA']}"] if "KAFKA" in address else []
        lines += [address["AMQP"]] if "AMQP" in address else []
        codes = []
        for line in lines:
            env = {**os.environ, "CONFORMANCE_AT": line}
            one = [*command, "the_broker_named", "--", "--nocapture"]
            codes.append(subprocess.run(one, cwd=TESTS.parent, env=env, stdin=subprocess.DEVNULL).returncode)
        return max(codes)


def with_clients():
    """The binary with the toolkit's clients of brokers: the same features in the same target directory as `toolkit`,
    so that librdkafka is built once."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "build", "--locked", "-p", "ottla-cli", "--features", "kafka,amqp", "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    lines = (json.loads(line) for line in built.stdout.splitlines())
    (program,) = {line["executable"] for line in lines if line.get("executable")}
    kept = Path(program).with_name("ottla-with-clients")  # the next build without features replaces the other
    shutil.copy2(program, kept)
    return kept


def demo(system):
    """`ottla demo` on a broker elsewhere, twice, and `ottla dead-letters` over what it leaves; see tests/demo."""
    environ = {"DEMO_PROGRAM": str(with_clients())}
    python = cache.python(TESTS / "acceptance/requirements.txt")
    with system as broker:
        env = {**os.environ, **environ, **broker.env(), "PYTHONPATH": str(TESTS)}
        command = [python, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider", "--durations=5", "demo"]
        return subprocess.run(command, cwd=TESTS, env=env, stdin=subprocess.DEVNULL).returncode


def reconnect():
    """A service of the toolkit over each protocol, whose broker is killed twice and comes back."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "test", "--locked", "-p", "ottla", "--features", "kafka,amqp", "--test", "reconnect"]
    subprocess.run([*command, "--no-run"], cwd=ROOT, check=True)
    env = {**os.environ, "RECONNECT_BINARY": str(binary())}
    return subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode


def examples_ottla():
    """Both halves, each on an Ottla of its own at the default ports of loopback."""
    kafka, amqp = examples.PORTS["kafka"], examples.PORTS["rabbitmq"]
    both = {"kafka": f"127.0.0.1:{kafka},[::1]:{kafka}", "amqp": f"127.0.0.1:{amqp},[::1]:{amqp}"}
    return max(examples.run(Ottla(**both), kind) for kind in examples.PROGRAMS)


def stores():
    """The toolkit's store suite, which `cargo test` runs on SQLite, on PostgreSQL and at full length."""
    with PostgreSQL() as server:
        env = {**os.environ, "STORES_DATABASE": server.url, "STORES_ROWS": os.environ.get("STORES_ROWS", "100000")}
        # --workspace: built as `cargo test --workspace` has built it, features and all
        command = ["cargo", "test", "--workspace", "--locked", "--test", "stores", "--test", "saga"]
        return subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode


def relay():
    """Outbox tables written by Python programs on SQLite and PostgreSQL, relayed by the binary over both protocols."""
    python = cache.python(TESTS / "relay/requirements.txt")
    with Ottla() as broker, PostgreSQL() as server:
        env = {**os.environ, **broker.env(), "POSTGRES": server.url, "OTTLA": str(binary()), "PYTHONPATH": str(TESTS)}
        command = [python, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider", "relay"]
        return subprocess.run(command, cwd=TESTS, env=env, stdin=subprocess.DEVNULL).returncode


def schemas():
    """Contracts of the crate `ottla` against a registry that is not ours, and bodies of Confluent's own client."""
    sys.path.insert(0, str(TESTS / "clients"))
    from clients import built
    cache.need(("go", "golang-go"))
    python = cache.python(TESTS / "schemas/requirements.txt")
    command = ["go", "build", "-mod=readonly", "-o", "client", "."]
    program = built(TESTS / "schemas/registry", command) / "client"
    cargo = [os.environ.get("CARGO", "cargo"), "test", "--locked", "-p", "ottla", "--features", "schemas"]
    test = [*cargo, "--test", "schemas"]
    subprocess.run([*cargo, "--lib", "--test", "schemas", "--no-run"], cwd=ROOT, check=True)  # before anything is started
    with tempfile.TemporaryDirectory(prefix="ottla-bodies-") as bodies, subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as registry:
        url = registry.stdout.readline().strip()
        print(f"# registry: {url}", flush=True)
        env = {**os.environ, "SCHEMA_REGISTRY": url, "SCHEMA_BODIES": bodies}
        for command in ([*cargo, "--lib", "schema::"], test, [python, TESTS / "schemas/confluent.py", url, bodies],
                        [*test, "bodies_go", "--", "--nocapture"]):
            code = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, timeout=300).returncode
            if code:
                return code
        registry.stdin.close()
        return registry.wait(10)


SUITES = {
    "schemas": schemas,
    "stores-postgres": stores,
    "relay-ottla": relay,
    "auditors": auditors,
    "bare-build": bare.build,
    "acceptance-ottla-kafka": lambda: acceptance(Ottla(), KAFKA),
    "acceptance-ottla-amqp": lambda: acceptance(Ottla(), AMQP),
    "bridge-ottla": bridge,
    "admin-ottla": lambda: admin(Ottla(http="127.0.0.1:0")),
    "definitions-rabbitmq-4.0": lambda: definitions.both_ways("trixie"),
    "definitions-rabbitmq-4.3": lambda: definitions.both_ways("forky"),
    "admin-rabbitmq-4.0": lambda: admin(RabbitMQ("trixie", management=True)),
    "admin-rabbitmq-4.3": lambda: admin(RabbitMQ("forky", management=True)),
    "rules-ottla-amqp": lambda: rules(Ottla()),
    "clients-ottla-kafka": lambda: clients(Ottla(), *KAFKA_CLIENTS),
    "clients-ottla-amqp": lambda: clients(Ottla(), "test_amqp_clients.py"),
    "examples-unchanged": examples.unchanged,
    "examples-ottla": examples_ottla,
    "tour": tour.by_hand,
    "ledger-ottla-log": lambda: ledger("ottla", "--only", "log", "--no-commits", "--kills", "50", "--most", "1"),
    "ledger-ottla": lambda: ledger("ottla", "--kills", os.environ.get("LEDGER_KILLS", "50"), "--most", "1"),
    "acceptance-rabbitmq-4.0": lambda: acceptance(RabbitMQ("trixie"), AMQP),
    "acceptance-rabbitmq-4.3": lambda: acceptance(RabbitMQ("forky"), AMQP),
    "rules-rabbitmq-4.0": lambda: rules(RabbitMQ("trixie")),
    "rules-rabbitmq-4.3": lambda: rules(RabbitMQ("forky")),
    "rollback-ottla": lambda: rollback("ottla"),
    "full-disk-ottla": full_disk,
    **{f"{folder.split('_')[0]}-{system}": functools.partial(java_programs, system, folder)
       for folder in ("share_groups", "streams", "connect", "migration") for system in ("ottla", "kafka")},
    "tools": tools,
    "commands-ottla": lambda: commands(Ottla()),
    "commands-kafka": lambda: commands(Kafka()),
    "history-ottla": lambda: history("--faults", os.environ.get("HISTORY_FAULTS", "8")),
    "history-kafka": lambda: history("--system", "kafka", "--faults", "3"),
    "history-planted-ottla": planted,
    "examples-rabbitmq-4.0": lambda: examples.run(RabbitMQ("trixie", port=examples.PORTS["rabbitmq"]), "rabbitmq"),
    "clients-rabbitmq-4.0": lambda: clients(RabbitMQ("trixie"), "test_amqp_clients.py"),
    "clients-rabbitmq-4.3": lambda: clients(RabbitMQ("forky"), "test_amqp_clients.py"),
    "toolkit-ottla": lambda: toolkit(Ottla()),
    "toolkit-kafka": lambda: toolkit(Kafka()),
    "toolkit-rabbitmq-4.0": lambda: toolkit(RabbitMQ("trixie")),
    "toolkit-rabbitmq-4.3": lambda: toolkit(RabbitMQ("forky")),
    "demo-ottla": lambda: demo(Ottla()),
    "demo-kafka": lambda: demo(Kafka()),
    "demo-rabbitmq-4.3": lambda: demo(RabbitMQ("forky")),
    "reconnect-ottla": reconnect,
    "ledger-rabbitmq-4.0": lambda: ledger("rabbitmq-4.0", "--kills", "3"),
    "rollback-rabbitmq-4.0": lambda: rollback("rabbitmq-4.0"),
    "acceptance-kafka": lambda: acceptance(Kafka(), KAFKA),
    "wire-kafka": wire_kafka,
    "clients-kafka": lambda: clients(Kafka(), *KAFKA_CLIENTS),
    "examples-kafka": lambda: examples.run(Kafka(port=examples.PORTS["kafka"]), "kafka"),
    "ledger-kafka": lambda: ledger("kafka", "--kills", "3"),
    "rollback-kafka": lambda: rollback("kafka"),
}


def main(names):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # unwinds: brokers are stopped
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        sys.exit(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    broken = 0
    for name in names or SUITES:
        start = time.monotonic()
        try:
            code = SUITES[name]()
        except cache.Missing as missing:
            print(f"{name}: {missing}", flush=True)
            code = cache.UNAVAILABLE
        except process.NotReady as error:
            print(f"{name}: {error}", flush=True)
            code = 1
        print(f"# {name}: {'ok' if code == 0 else f'FAILED ({code})'}, {time.monotonic() - start:.0f} s", flush=True)
        broken = broken or code
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
