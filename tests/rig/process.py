"""A server process of our own: started in its own group, waited for, ended by its id, always within a bound."""
import os
import signal
import socket
import subprocess
import time


class NotReady(Exception):
    """A server that ended or did not answer in time; the text has the end of its log."""


def free_port():
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def succeeds(command):
    """Whether a short command ends with 0."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=10).returncode == 0


class Server:
    """One process group with its output in a file."""

    def __init__(self, name, command, log, env=None, **options):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                                            start_new_session=True, **options)

    def wait_until(self, answers, seconds):
        """Waits until `answers()` is true; `answers` may raise OSError while nobody listens yet."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotReady(f"{self.name} ended with {self.process.returncode}\n{self.tail()}")
            try:
                if answers():
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise NotReady(f"{self.name} is not ready after {seconds} s\n{self.tail()}")

    def kill(self):
        """SIGKILL, for the whole group."""
        self._signal(signal.SIGKILL)
        self.process.wait(30)

    def pause(self):
        """SIGSTOP: it is there and says nothing, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def stop(self, seconds=20):
        """SIGTERM, then SIGKILL for what is left. Returns the exit code, None if it had to be killed."""
        self._signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def tail(self, lines=40):
        """The end of its output."""
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass  # the whole group is gone already
