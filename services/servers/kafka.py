"""Apache Kafka: 1 to 3 brokers that are their own controllers (KRaft), each with listeners for every way in.

Invariant: broker i listens on ports[6 (i - 1)] and the five after it, in the order of LISTENERS, then its controller."""

import base64
import socket
import struct
import uuid

from . import certificates, fetch
from .server import Launch, Server

LISTENERS = {"PLAINTEXT": "PLAINTEXT", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SSL": "SSL", "SASL_SSL": "SASL_SSL", "MTLS": "SSL"}
PER_BROKER = len(LISTENERS) + 1
USER, PASSWORD = "riverrun", "riverrun-secret"
JAAS = "org.apache.kafka.common.security"
LOG4J = """status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


class Kafka(Server):
    name = "kafka"
    version = "4.3.1"
    about = "Apache Kafka, KRaft; PLAINTEXT, SASL (PLAIN, SCRAM), TLS, SASL over TLS, TLS with client certificates"
    options = {"brokers": ("1", "1 to 3"), "heap": ("512m", "of each broker")}
    own_settings = True
    start_seconds = 90
    stop_seconds = 15

    @classmethod
    def fetch(cls):
        fetch.java(17)
        return fetch.jars("kafka")

    def brokers(self):
        return range(1, self.number("brokers", 1, 3) + 1)

    def port_count(self):
        return PER_BROKER * len(self.brokers())

    def port(self, broker, listener):
        names = [*LISTENERS, "CONTROLLER"]
        return self.ports[PER_BROKER * (broker - 1) + names.index(listener)]

    def addresses(self, listener):
        return ",".join(f"127.0.0.1:{self.port(i, listener)}" for i in self.brokers())

    def broker_home(self, broker):
        return self.home / str(broker)

    def prepare(self):
        certificates.make(self.home / "tls")
        (self.home / "log4j2.properties").write_text(LOG4J)
        cluster = self.home / "cluster-id"
        if not cluster.exists():
            cluster.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
        for broker in self.brokers():
            home = self.broker_home(broker)
            home.mkdir(exist_ok=True)
            settings = self.settings(broker) | self.own()
            (home / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            if not (home / "data" / "meta.properties").exists():
                self.format(home, cluster.read_text())

    def format(self, home, cluster):
        """Makes a broker's storage, with the users of SCRAM."""
        users = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
        scram = [argument for user in users for argument in ("--add-scram", user)]
        storage = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", home / "server.properties", *scram]
        fetch.command([*self.java("-Xmx128m", "-XX:TieredStopAtLevel=1"), *storage], "formatting Kafka's storage", cwd=self.home)

    def settings(self, broker):
        """server.properties. What differs from Kafka's defaults: replication by the number of brokers; internal topics with few
        partitions, no delay of a group's first rebalance, short intervals of clean-up: for tests that do not want to wait."""
        count = len(self.brokers())
        listeners = [*LISTENERS, "CONTROLLER"]
        at = {listener: f"{listener}://127.0.0.1:{self.port(broker, listener)}" for listener in listeners}
        tls = self.home / "tls"
        replicas = {f"{log}.replication.factor": count for log in ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic")}
        least = {f"{log}min.isr": min(count, 2) for log in ("transaction.state.log.", "share.coordinator.state.topic.")}
        return {
            "process.roles": "broker,controller",
            "node.id": broker,
            "controller.quorum.voters": ",".join(f"{i}@127.0.0.1:{self.port(i, 'CONTROLLER')}" for i in self.brokers()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(at.values()),
            "advertised.listeners": ",".join(at[listener] for listener in LISTENERS),
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in (LISTENERS | {"CONTROLLER": "PLAINTEXT"}).items()),
            "log.dirs": self.broker_home(broker) / "data",
            **replicas,
            **least,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "log.cleaner.dedupe.buffer.size": 4 << 20,  # 128 MiB of heap otherwise
            "log.initial.task.delay.ms": 1000,
            "log.retention.check.interval.ms": 1000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": tls / "server.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": tls / "ca.crt",
            "listener.name.mtls.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            **self.logins("sasl_plaintext"),
            **self.logins("sasl_ssl"),
        }

    def logins(self, listener):
        """Who may come in by SASL: PLAIN has its users here, SCRAM in the storage."""
        plain = f'{JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        scram = {m: f"{JAAS}.scram.ScramLoginModule required;" for m in ("scram-sha-256", "scram-sha-512")}
        return {f"listener.name.{listener}.{m}.sasl.jaas.config": login for m, login in ({"plain": plain} | scram).items()}

    def java(self, *flags):
        log4j = f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}"
        return [fetch.java(17), *flags, "-XX:+UseSerialGC", "-Djava.awt.headless=true", log4j, "-cp", f"{self.fetch()}/*"]

    def launches(self):
        java = self.java("-Xms128m", f"-Xmx{self.given['heap']}")
        return [Launch(f"kafka.{i}", [*java, "kafka.Kafka", self.broker_home(i) / "server.properties"]) for i in self.brokers()]

    def ready(self, running):
        """Each broker that runs knows all that run: asked by the protocol's Metadata request."""
        nodes = {int(name.partition(".")[2]) for name in running}
        return all(nodes <= live_brokers(self.port(i, "PLAINTEXT")) for i in nodes)

    def env(self):
        servers = {f"KAFKA_{listener}": self.addresses(listener) for listener in list(LISTENERS)[1:]}
        tls = self.home / "tls"
        return {
            "KAFKA_BROKERS": self.addresses("PLAINTEXT"),
            **servers,
            "KAFKA_USERNAME": USER,
            "KAFKA_PASSWORD": PASSWORD,
            "KAFKA_CA": tls / "ca.crt",
            "KAFKA_STRANGER_CA": tls / "stranger-ca.crt",
            "KAFKA_CLIENT_CERTIFICATE": tls / "client.crt",
            "KAFKA_CLIENT_KEY": tls / "client.key",
        }


def live_brokers(port):
    """Ids of the brokers that the one at `port` takes for alive; none while it does not answer. Metadata request, version 1, for no
    topics (https://kafka.apache.org/protocol#The_Messages_Metadata)."""
    request = struct.pack(">hhih4si", 3, 1, 1, 4, b"wait", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s, s.makefile("rb") as answer:
            s.sendall(struct.pack(">i", len(request)) + request)
            _size, _correlation, count = struct.unpack(">iii", answer.read(12))
            brokers = set()
            for _ in range(count):
                node, host = struct.unpack(">ih", answer.read(6))
                answer.read(host + 4)
                rack = struct.unpack(">h", answer.read(2))[0]
                answer.read(max(rack, 0))
                brokers.add(node)
            return brokers
    except (OSError, struct.error):
        return set()
