"""A Cassandra node's mouthpiece: passes all on, counts the rows that are on their way, and on demand keeps answers back."""

import contextlib
import socket
import ssl
import struct
import threading
import time

PREPARE, EXECUTE = 0x09, 0x0A
PREPARED = 4
"""The kind of a result."""
HEADER = struct.Struct(">BBhBi")
"""Version, flags, stream, opcode, length of the body: protocol 4."""


class Proxy:
    """Listens on a port of `host`, a free one if none is given. Of what goes over TLS it understands nothing: `frames=False`; with
    `tls` (certificate and key) clients speak TLS with it, and it in the clear with the node."""

    def __init__(self, address, host="127.0.0.1", frames=True, slow=0.0, port=0, tls=None):
        self.node = (address.split(":")[0], int(address.split(":")[1]))
        self.slow = slow
        self.most = 0
        self.silent = threading.Event()
        self.on_their_way = set()
        self.prepared = {}
        """Inserts that are being prepared, by connection and stream."""
        self.inserts = set()
        """The ids of those that are."""
        self.lock = threading.Lock()
        # On all addresses: the client finds the node's own, 127.0.0.1, besides the one that it was given.
        self.listener = socket.create_server(("", port))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.listener = context.wrap_socket(self.listener, server_side=True)
        self.address = f"{host}:{self.listener.getsockname()[1]}"
        self.frames = frames
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except (ssl.SSLError, ConnectionError):
                continue
            except OSError:
                return
            try:
                node = socket.create_connection(self.node)
            except OSError:
                return
            self.sockets += [client, node]
            requests, answers = (self.requests, self.answers) if self.frames else (self.bytes, self.bytes)
            threading.Thread(target=requests, args=(client, node), daemon=True).start()
            threading.Thread(target=answers, args=(node, client), daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # who waits in accept would keep it open
        self.listener.close()
        for connection in self.sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def bytes(source, target):
        with contextlib.suppress(OSError):
            while some := source.recv(65536):
                target.sendall(some)
            target.shutdown(socket.SHUT_WR)

    def requests(self, client, node):
        for header, frame in read(client):
            body = frame[HEADER.size :]
            if header[3] == PREPARE and b"INSERT INTO" in body:
                self.prepared[node, header[2]] = True
            if header[3] == EXECUTE and short_bytes(body) in self.inserts:
                with self.lock:
                    self.on_their_way.add((node, header[2]))
                    self.most = max(self.most, len(self.on_their_way))
            send(node, frame)
        with contextlib.suppress(OSError):
            node.shutdown(socket.SHUT_WR)

    def answers(self, node, client):
        for header, frame in read(node):
            body = frame[HEADER.size :]
            if self.prepared.pop((node, header[2]), None) and struct.unpack_from(">i", body)[0] == PREPARED:
                self.inserts.add(short_bytes(body[4:]))
            with self.lock:
                of_a_row = (node, header[2]) in self.on_their_way
            if of_a_row:
                if self.silent.is_set():
                    continue
                time.sleep(self.slow)
                with self.lock:
                    self.on_their_way.discard((node, header[2]))
            send(client, frame)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


def short_bytes(data):
    length = struct.unpack_from(">H", data)[0]
    return data[2 : 2 + length]


def read(connection):
    """Frames with their headers."""
    try:
        with connection.makefile("rb") as stream:
            while len(head := stream.read(HEADER.size)) == HEADER.size:
                header = HEADER.unpack(head)
                yield header, head + stream.read(header[4])
    except OSError:
        return


def send(connection, frame):
    with contextlib.suppress(OSError):
        connection.sendall(frame)
