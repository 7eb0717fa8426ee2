"""Stands between clients and broker, sees what they say, and can stop the world at the frame that a test waits for."""
import socket
import struct
import threading
from collections import deque

from rig import process

PRODUCE, OFFSET_COMMIT, END_TXN = 0, 8, 26
FLEXIBLE_FROM = {PRODUCE: 9, OFFSET_COMMIT: 8, END_TXN: 3}


class Frame:
    """A request, or the answer to one."""

    def __init__(self, request, is_answer):
        self.api, self.version = struct.unpack_from(">hh", request)
        self.request, self.is_answer = request, is_answer

    def transactional_id(self):
        """The first field of Produce and of EndTxn; empty if there is none."""
        at = 10 + max(struct.unpack_from(">h", self.request, 8)[0], 0)  # behind api, version, correlation and client ids
        if self.version < FLEXIBLE_FROM[self.api]:
            length = struct.unpack_from(">h", self.request, at)[0]
            return self.request[at + 2:at + 2 + max(length, 0)].decode()
        length = self.request[at + 1] - 1  # behind no tagged fields; ours are shorter than 127
        return self.request[at + 2:at + 2 + max(length, 0)].decode()


class Between:
    """A port that clients are told instead of the broker's."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", process.free_port()))
        self.port, self.target = self.listener.getsockname()[1], None
        self.sockets, self.is_awaited, self.lock = [], None, threading.Lock()
        self.caught, self.passes = threading.Event(), threading.Event()
        self.passes.set()

    def start(self, target):
        """Begins to hand on to the broker's own port."""
        self.target = ("127.0.0.1", target)
        threading.Thread(target=self._accept, daemon=True).start()

    def catch(self, is_awaited):
        """The first frame that is awaited, and all that come behind it on any connection, are held back. Returns what is set then."""
        self.caught.clear()
        self.is_awaited = is_awaited
        return self.caught

    def release(self):
        """What was held back goes on."""
        self.passes.set()

    def cut(self):
        """All connections are gone, with what was held back; new ones are whole again."""
        sockets, self.sockets = self.sockets, []
        for one in sockets:
            _end(one)  # closing would not wake who reads from it
        self.passes.set()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                broker = socket.create_connection(self.target, 5)
            except OSError:
                client.close()  # it is down
                continue
            self.sockets += [client, broker]
            asked = deque()  # requests without an answer yet: answers come in their order
            threading.Thread(target=self._hand_on, args=(client, broker, asked, False), daemon=True).start()
            threading.Thread(target=self._hand_on, args=(broker, client, asked, True), daemon=True).start()

    def _hand_on(self, source, sink, asked, are_answers):
        try:
            reader = source.makefile("rb")
            while len(head := reader.read(4)) == 4:
                body = reader.read(struct.unpack(">I", head)[0])
                if not are_answers:
                    asked.append(body)
                self._look(Frame(asked.popleft() if are_answers else body, are_answers))
                self.passes.wait()
                sink.sendall(head + body)
        except OSError:
            pass  # cut, or one side has gone
        _end(source)
        _end(sink)

    def _look(self, frame):
        with self.lock:
            if self.is_awaited and self.is_awaited(frame):
                self.is_awaited = None
                self.passes.clear()
                self.caught.set()


def _end(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended
