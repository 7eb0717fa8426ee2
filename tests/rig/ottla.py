"""Ottla itself: the binary that was built, on free ports, with its data in a temporary folder."""
import json
import os
import tempfile
from pathlib import Path

from . import cache, process

ROOT = Path(__file__).resolve().parents[2]


def binary():
    """The program under test: OTTLA, or the release build of this repository."""
    path = Path(os.environ.get("OTTLA") or ROOT / "target/release/ottla")
    if not path.exists():
        raise cache.Missing(f"{path} is missing: cargo build --release -p ottla-cli, or set OTTLA to a binary")
    return path


class Ottla:
    """`with Ottla() as broker:` starts it; a restart keeps data and ports."""

    name = "Ottla"

    def __init__(self, *flags, kafka="127.0.0.1:0", amqp="127.0.0.1:0", http="off"):
        self.flags, self.kafka, self.amqp, self.http = flags, kafka, amqp, http

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory(prefix="ottla-data-")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        ready = Path(self.home.name) / "ready.json"
        ready.unlink(missing_ok=True)
        self.server = process.Server(self.name, [
            binary(), "serve", "--data", f"{self.home.name}/data", "--kafka", self.kafka, "--amqp", self.amqp,
            "--http", self.http, "--ready-file", ready, *self.flags], f"{self.home.name}/log")
        self.server.wait_until(lambda: _complete(ready), 30)
        self.bound = json.loads(ready.read_text())
        self.kafka, self.amqp, self.http = (self._address(name) for name in ("kafka", "amqp", "http"))

    def _address(self, listener):
        """Where a listener is bound, to be the same after a restart."""
        return next(iter(self.bound[listener]), "off")

    def kill(self):
        self.server.kill()

    def log_tail(self):
        return self.server.tail()

    def env(self):
        addresses = {"KAFKA": self.kafka, "AMQP": f"amqp://guest:guest@{self.amqp}/", "HTTP": self.http}
        return {name: address for name, address in addresses.items() if self.bound[name.lower()]}

    def __exit__(self, *_):
        if hasattr(self, "server"):
            self.server.stop()
        self.home.cleanup()


def _complete(ready):
    try:
        return isinstance(json.loads(ready.read_text()), dict)
    except ValueError:
        return False  # being written
