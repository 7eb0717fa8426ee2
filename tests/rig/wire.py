"""The first words of each protocol, said by hand: is a server there and does it speak?"""
import socket
import struct


def speaks_kafka(port):
    """Answers an ApiVersions request (key 18, version 0) with no error."""
    with socket.create_connection(("127.0.0.1", port), 2) as peer:
        peer.settimeout(5)
        peer.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
        head = _read(peer, 10)
        return len(head) == 10 and struct.unpack(">ih", head[4:]) == (7, 0)


def speaks_amqp(port):
    """Answers the protocol header with a method frame on channel 0 (connection.start)."""
    with socket.create_connection(("127.0.0.1", port), 2) as peer:
        peer.settimeout(5)
        peer.sendall(b"AMQP\x00\x00\x09\x01")
        head = _read(peer, 11)
        return len(head) == 11 and head[:3] == b"\x01\x00\x00" and head[7:] == b"\x00\x0a\x00\x0a"


def _read(peer, length):
    data = b""
    while len(data) < length and (piece := peer.recv(length - len(data))):
        data += piece
    return data
