"""Apache Cassandra: one node. CQL in the clear and over TLS on one port.

Ports: CQL, and the storage port that only other nodes would use."""

import json
import socket
import ssl
import struct

from . import certificates, fetch
from .server import Launch, Server

USER = PASSWORD = "cassandra"  # what Cassandra itself sets up
# Cassandra's conf/jvm17-server.options.
EXPORTS = """java.base/jdk.internal.misc java.base/java.lang.ref java.management.rmi/com.sun.jmx.remote.internal.rmi
java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql jdk.attach/sun.tools.attach jdk.unsupported/sun.misc"""
OPENS = """java.base/java.io java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect java.base/java.util
java.base/jdk.internal.loader java.base/jdk.internal.math java.base/jdk.internal.module java.base/jdk.internal.ref
java.base/jdk.internal.reflect java.base/jdk.internal.util.jar java.base/sun.nio.ch jdk.management/com.sun.management.internal"""
LOGBACK = """<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %p %m [%logger]%n</pattern></encoder></appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
"""


class Cassandra(Server):
    name = "cassandra"
    version = "5.0.9"
    about = "Apache Cassandra, one node; CQL in the clear and over TLS on one port"
    options = {
        "heap": ("512m", ""),
        "auth": ("none", "or password: user cassandra, password cassandra"),
        "tls": ("optional", "or required, or mutual: required, and clients show a certificate"),
    }
    own_settings = True
    start_seconds = 150
    stop_seconds = 20

    @classmethod
    def fetch(cls):
        fetch.java(17, 17)
        return fetch.jars("cassandra")

    def port_count(self):
        return 2

    def prepare(self):
        certificates.make(self.home / "tls")
        (self.home / "logback.xml").write_text(LOGBACK)
        # JSON is YAML too.
        (self.home / "cassandra.yaml").write_text(json.dumps(self.settings() | self.own(), indent=2))

    def settings(self):
        cql, storage = self.ports
        tls = self.home / "tls"
        password = self.choice("auth", "none", "password") == "password"
        pem = {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"}
        return {
            "cluster_name": "riverrun",
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "num_tokens": 1,
            "initial_token": "0",
            "auto_bootstrap": False,
            "endpoint_snitch": "SimpleSnitch",
            "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [{"seeds": f"127.0.0.1:{storage}"}]}],
            "listen_address": "127.0.0.1",
            "storage_port": storage,
            "ssl_storage_port": storage,
            "rpc_address": "127.0.0.1",
            "native_transport_port": cql,
            "data_file_directories": [str(self.home / "data" / "tables")],
            **{key: str(self.home / "data" / key.removesuffix("_directory")) for key in ("commitlog_directory", "saved_caches_directory", "hints_directory", "cdc_raw_directory")},
            # A row is on disk before it is acknowledged: no other node has it where this one is killed.
            "commitlog_sync": "batch",
            "commitlog_segment_size": "8MiB",
            "memtable_heap_space": "64MiB",
            "memtable_offheap_space": "64MiB",
            "file_cache_size": "32MiB",
            "key_cache_size": "8MiB",
            "authenticator": "PasswordAuthenticator" if password else "AllowAllAuthenticator",
            "authorizer": "CassandraAuthorizer" if password else "AllowAllAuthorizer",
            "role_manager": "CassandraRoleManager",
            "client_encryption_options": {
                "enabled": True,
                "optional": self.choice("tls", "optional", "required", "mutual") == "optional",
                "keystore": str(tls / "server.pem"),
                "truststore": str(tls / "ca.crt"),
                "require_client_auth": self.given["tls"] == "mutual",
                "ssl_context_factory": pem,
            },
        }

    def launches(self):
        jars = self.fetch()
        modules = [f"--add-exports={m}=ALL-UNNAMED" for m in EXPORTS.split()] + [f"--add-opens={m}=ALL-UNNAMED" for m in OPENS.split()]
        properties = {
            "cassandra.config": f"file://{self.home / 'cassandra.yaml'}",
            "cassandra.storagedir": self.home / "data",
            "cassandra.logdir": self.home,
            "logback.configurationFile": self.home / "logback.xml",
            "cassandra-foreground": "yes",
            # No other node is there to wait for.
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.ring_delay_ms": 100,
            "cassandra.superuser_setup_delay_ms": 0,
            "java.net.preferIPv4Stack": "true",
            "jdk.attach.allowAttachSelf": "true",
            "io.netty.tryReflectionSetAccessible": "true",
        }
        flags = ["-Xms256m", f"-Xmx{self.given['heap']}", "-Xss512k", "-XX:+UseSerialGC", f"-javaagent:{next(jars.glob('jamm-*.jar'))}"]
        flags += modules + [f"-D{k}={v}" for k, v in properties.items()]
        return [Launch("cassandra", [fetch.java(17, 17), *flags, "-cp", f"{jars}/*", "org.apache.cassandra.service.CassandraDaemon"])]

    def ready(self, _running):
        return lets_in(self.ports[0], self.home / "tls")

    def env(self):
        tls = self.home / "tls"
        return {
            "CASSANDRA": f"127.0.0.1:{self.ports[0]}",
            "CASSANDRA_USERNAME": USER if self.given["auth"] == "password" else "",
            "CASSANDRA_PASSWORD": PASSWORD if self.given["auth"] == "password" else "",
            "CASSANDRA_CA": tls / "ca.crt",
            "CASSANDRA_STRANGER_CA": tls / "stranger-ca.crt",
            "CASSANDRA_CLIENT_CERTIFICATE": tls / "client.crt",
            "CASSANDRA_CLIENT_KEY": tls / "client.key",
        }


def lets_in(port, tls):
    """Whether a client gets in: STARTUP, and USER's login if that is asked for, of CQL's native protocol, version 4
    (https://cassandra.apache.org/doc/latest/cassandra/reference/native-protocol.html). In the clear if that is accepted, else over TLS."""
    try:
        return _logged_in(socket.create_connection(("127.0.0.1", port), timeout=5)) or _logged_in(_over_tls(port, tls))
    except (OSError, struct.error):
        return False


def _over_tls(port, tls):
    context = ssl.create_default_context(cafile=tls / "ca.crt")
    context.load_cert_chain(tls / "client.crt", tls / "client.key")
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=5), server_hostname="127.0.0.1")


def _logged_in(connection):
    startup, ready, authenticate, auth_response, auth_success = 1, 2, 3, 15, 16
    with connection, connection.makefile("rb") as answers:

        def ask(opcode, body):
            connection.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(body)) + body)
            if len(header := answers.read(9)) < 9:  # closed: TLS is required
                return None
            _version, _flags, _stream, answer, length = struct.unpack(">BBhBi", header)
            answers.read(length)
            return answer

        try:
            answer = ask(startup, struct.pack(">hh11sh5s", 1, 11, b"CQL_VERSION", 5, b"3.0.0"))
        except ConnectionResetError:
            return False
        if answer == authenticate:
            token = f"\0{USER}\0{PASSWORD}".encode()
            return ask(auth_response, struct.pack(">i", len(token)) + token) == auth_success
        return answer == ready
