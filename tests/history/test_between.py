"""What the port between clients and broker reads in their requests, and that it stops at what is awaited."""
import socket
import struct

from .between import END_TXN, PRODUCE, Between, Frame


def request(api, version, rest, client=b"someone"):
    return struct.pack(">hhih", api, version, 7, len(client)) + client + rest


def test_the_transaction_of_a_request_is_read_in_old_and_flexible_versions():
    assert Frame(request(END_TXN, 1, b"\0\3t-1rest"), False).transactional_id() == "t-1"
    assert Frame(request(END_TXN, 3, b"\0\4t-1rest"), False).transactional_id() == "t-1"
    assert Frame(request(PRODUCE, 8, b"\xff\xff\0\1"), False).transactional_id() == ""
    assert Frame(request(PRODUCE, 9, b"\0\0\0\1"), False).transactional_id() == ""
    assert Frame(request(PRODUCE, 9, b"\0\4t-1\0\1", client=b""), True).transactional_id() == "t-1"


def sent(body):
    return struct.pack(">I", len(body)) + body


def test_what_is_awaited_is_held_back_with_all_behind_it_until_it_is_released_or_cut():
    broker = socket.create_server(("127.0.0.1", 0))
    between = Between()
    between.start(broker.getsockname()[1])
    client = socket.create_connection(("127.0.0.1", between.port))
    served, _ = broker.accept()
    first, second = sent(request(PRODUCE, 9, b"\0\0one")), sent(request(PRODUCE, 9, b"\0\0two"))
    client.sendall(first)
    assert served.recv(99) == first
    caught = between.catch(lambda frame: frame.is_answer)
    served.sendall(sent(b"answer"))
    assert caught.wait(10)
    client.sendall(second)
    client.settimeout(0.1)
    served.settimeout(0.1)
    for one in client, served:
        assert nothing_comes(one)
    between.release()
    client.settimeout(10)
    served.settimeout(10)
    assert (client.recv(99), served.recv(99)) == (sent(b"answer"), second)
    between.cut()
    assert client.recv(99) == b"" and served.recv(99) == b""


def nothing_comes(one):
    try:
        return one.recv(99) is None
    except TimeoutError:
        return True
