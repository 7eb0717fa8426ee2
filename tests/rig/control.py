"""Lets a test in another process restart the broker that this process owns.

`python3 -m rig.control SOCKET` is the RESTART command of the acceptance tests: it returns when the broker, killed with
SIGKILL and started on the same data, is ready again.
"""
import os
import socket
import sys
import tempfile
import threading
import traceback


class Control:
    """Serves restarts of `broker` on a Unix socket while the block runs."""

    def __init__(self, broker):
        self.broker = broker

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="ottla-control-")
        self.path = os.path.join(self.folder.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def command(self):
        """The command line that asks for a restart."""
        return f"{sys.executable} -m rig.control {self.path}"

    def _serve(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return  # closed: the block is over
            with peer:
                try:
                    self.broker.kill()
                    self.broker.start()
                    peer.sendall(b"ok")
                except Exception:  # told to the one who asked, who fails the test
                    peer.sendall(traceback.format_exc().encode())

    def __exit__(self, *_):
        self.listener.close()
        self.folder.cleanup()


def ask(path):
    """Asks for a restart; returns the answer."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(110)
        peer.connect(path)
        answer = b""
        while piece := peer.recv(4096):
            answer += piece
    return answer.decode()


if __name__ == "__main__":
    told = ask(sys.argv[1])
    if told != "ok":
        sys.exit(told)
