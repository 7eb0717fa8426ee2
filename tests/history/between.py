"""Stands between clients and broker, and can keep the broker's answers to itself."""
import socket
import threading

from rig import process


class Between:
    """A port that clients are told instead of the broker's."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", process.free_port()))
        self.port, self.target = self.listener.getsockname()[1], None
        self.silent, self.sockets = threading.Event(), []

    def start(self, target):
        """Begins to hand on to the broker's own port."""
        self.target = ("127.0.0.1", target)
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self):
        """From here on requests arrive, and their answers do not."""
        self.silent.set()

    def cut(self):
        """All connections are gone; new ones are whole again."""
        sockets, self.sockets = self.sockets, []
        for one in sockets:
            _end(one)  # closing would not wake who reads from it
        self.silent.clear()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                broker = socket.create_connection(self.target, 5)
            except OSError:
                client.close()  # it is down
                continue
            self.sockets += [client, broker]
            threading.Thread(target=self._hand_on, args=(client, broker, False), daemon=True).start()
            threading.Thread(target=self._hand_on, args=(broker, client, True), daemon=True).start()

    def _hand_on(self, source, sink, answers):
        try:
            while piece := source.recv(1 << 16):
                if not (answers and self.silent.is_set()):
                    sink.sendall(piece)
        except OSError:
            pass  # cut, or one side has gone
        _end(source)
        _end(sink)


def _end(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended
