"""A worker's part of the history: a file of JSON lines, each written before the next thing is done."""
import itertools
import json
import threading
import time


class Book:
    """Writes events; see check.py for what they are."""

    def __init__(self, path, worker):
        self.out, self.worker = open(path, "a", buffering=1), worker
        self.numbers, self.lock = itertools.count(1), threading.Lock()

    def begin(self, f, process, **more):
        """Before it is sent. Returns how the operation is called."""
        op = f"{self.worker}-{next(self.numbers)}"
        self._write(op=op, type="invoke", f=f, process=process, **more)
        return op

    def end(self, op, type, f, process, **more):
        self._write(op=op, type=type, f=f, process=process, **more)

    def _write(self, **event):
        with self.lock:
            self.out.write(json.dumps({"at": time.monotonic_ns(), **event}) + "\n")


def load(paths):
    """All events of all workers; a last line that was cut is left out."""
    events = []
    for path in paths:
        for line in open(path):
            if line.endswith("\n"):
                events.append(json.loads(line))
    return events
