"""A Kafka broker's mouthpiece: passes all on, and on demand leaves the brokers out of its answers about the cluster, as a broker
does for a moment that its controller has just taken for dead."""

import socket
import struct
import threading

METADATA = 3
FLEXIBLE = 9
"""From this version on, lengths are variable and headers have tags."""


class Proxy:
    """Listens on a free port of 127.0.0.1. `broker` (host, port) may be set later, before the first client comes."""

    def __init__(self):
        self.broker = None
        self.lying = threading.Event()
        self.lies = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                broker = socket.create_connection(self.broker)
            except OSError:
                return
            asked = {}
            self.connections += [client, broker]
            threading.Thread(target=self.requests, args=(client, broker, asked), daemon=True).start()
            threading.Thread(target=self.responses, args=(broker, client, asked), daemon=True).start()

    def cut(self):
        """Closes all connections; clients come back."""
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()

    def close(self):
        self.listener.close()
        self.cut()

    def requests(self, client, broker, asked):
        for frame in frames(client):
            api, version, number = struct.unpack_from(">hhi", frame)
            if api == METADATA:
                asked[number] = version
            send(broker, frame)
        broker.close()

    def responses(self, broker, client, asked):
        for frame in frames(broker):
            version = asked.pop(struct.unpack_from(">i", frame)[0], None)
            if version is not None and self.lying.is_set():
                frame = without_brokers(frame, version)
                self.lies += 1
            send(client, frame)
        client.close()


def frames(connection):
    """Requests or responses, without their lengths."""
    try:
        while True:
            length = struct.unpack(">i", exactly(connection, 4))[0]
            yield exactly(connection, length)
    except (OSError, EOFError):
        return


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def send(connection, frame):
    try:
        connection.sendall(struct.pack(">i", len(frame)) + frame)
    except OSError:
        pass


def without_brokers(frame, version):
    """A Metadata response (https://kafka.apache.org/protocol#The_Messages_Metadata) whose list of brokers is empty."""
    assert version >= FLEXIBLE, f"Metadata of version {version} is not known here"
    begin = 4 + 1 + 4
    """Correlation, no tags, throttle time."""
    assert frame[4] == 0, "tags in a header"
    count, at = varint(frame, begin)
    for _ in range(count - 1):
        at += 4
        length, at = varint(frame, at)
        at += length - 1 + 4
        length, at = varint(frame, at)
        at += max(length - 1, 0)
        tags, at = varint(frame, at)
        assert tags == 0, "tags of a broker"
    return frame[:begin] + b"\x01" + frame[at:]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
