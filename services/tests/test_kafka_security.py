"""Who riverrun is to the brokers, and who they are to it: every way in works, every wrong one is told, and no secret shows."""

import socket
import threading

import pytest
from kafka_clients import new_topic, send
from runs import bounded, rows

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def tls(kafka, **more):
    return {"brokers": kafka["KAFKA_SSL"], "security_protocol": "ssl", "ssl_ca_location": kafka["KAFKA_CA"], **more}


def mutual_tls(kafka):
    own = {"ssl_certificate_location": kafka["KAFKA_CLIENT_CERTIFICATE"], "ssl_key_location": kafka["KAFKA_CLIENT_KEY"]}
    return tls(kafka, **own) | {"brokers": kafka["KAFKA_MTLS"]}


def sasl(kafka, mechanism, over_tls, **more):
    login = {"sasl_mechanism": mechanism, "sasl_username": kafka["KAFKA_USERNAME"], "sasl_password": kafka["KAFKA_PASSWORD"], **more}
    if over_tls:
        return tls(kafka, security_protocol="sasl_ssl", **login) | {"brokers": kafka["KAFKA_SASL_SSL"]}
    return {"brokers": kafka["KAFKA_SASL_PLAINTEXT"], "security_protocol": "sasl_plaintext", **login}


WAYS_IN = {"TLS": tls, "TLS-both-ways": mutual_tls}
for name in MECHANISMS:
    WAYS_IN[f"{name}"] = lambda kafka, name=name: sasl(kafka, name, over_tls=False)
    WAYS_IN[f"{name}-over-TLS"] = lambda kafka, name=name: sasl(kafka, name, over_tls=True)


def script(topic, options):
    """Reads a topic into another, its bad records into a third: all three clients need the options."""
    given = ", ".join(f"{name} = '{value}'" if "." not in name else f"'{name}' = '{value}'" for name, value in options.items())
    return f"""
    CREATE TABLE t (n BIGINT) WITH (connector = 'kafka', topic = '{topic}', starting_offsets = 'earliest', dead_letter_topic = '{topic}-dlq', {given});
    CREATE TABLE copy WITH (connector = 'kafka', topic = '{topic}-copy', {given});
    CREATE TABLE out WITH (connector = 'filesystem', path = 'out.jsonl');
    INSERT INTO copy SELECT n FROM t;
    INSERT INTO out SELECT n FROM t;
    """


@pytest.fixture
def topic(kafka):
    """A topic with one record."""
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    topic = new_topic(client)
    send(client, topic, '{"n": 1}', "nonsense")
    return topic


@pytest.mark.parametrize("way", WAYS_IN)
def test_every_way_in(kafka, riverrun_tls, tmp_path, topic, way):
    bounded(riverrun_tls, script(topic, WAYS_IN[way](kafka)), tmp_path)
    assert rows(tmp_path / "out.jsonl") == [{"n": 1}]


# Why a connection broke, librdkafka tells in one of several ways, or not at all: then the hint must lead there.
WRONG = {
    "no TLS to a TLS listener": (lambda k: {"brokers": k["KAFKA_SSL"]}, ["no answer", "'security_protocol' right?"]),
    "TLS to a listener without": (lambda k: tls(k) | {"brokers": k["KAFKA_BROKERS"]}, ["no answer", "SSL", "security_protocol"]),
    "brokers of a stranger": (lambda k: tls(k, ssl_ca_location=k["KAFKA_STRANGER_CA"]), ["certificate", "ssl_*"]),
    "no certificate of ours": (lambda k: tls(k) | {"brokers": k["KAFKA_MTLS"]}, ["no answer", "ssl"]),
    "a file that is not there": (lambda k: tls(k, ssl_ca_location="/nowhere/ca.pem"), ["'ssl_ca_location': '/nowhere/ca.pem'", "No such file"]),
    "another user": (lambda k: sasl(k, "SCRAM-SHA-256", True, sasl_username="nobody"), ["refuses", "uthentication", "sasl_*"]),
    "another mechanism": (lambda k: sasl(k, "OAUTHBEARER", True), ["'OAUTHBEARER' is not supported", "SCRAM-SHA-512"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told(kafka, riverrun_tls, tmp_path, topic, wrong):
    options, parts = WRONG[wrong]
    said = bounded(riverrun_tls, script(topic, options(kafka) | {"kafka.socket.timeout.ms": 3000}), tmp_path, fails=True)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_told_at_once_and_never_shown(kafka, riverrun_tls, tmp_path, topic, mechanism):
    options = sasl(kafka, mechanism, over_tls=True, sasl_password="hunter2-wrong") | {"kafka.debug": "all"}
    said = bounded(riverrun_tls, script(topic, options), tmp_path, fails=True, log="trace")
    assert "refuses" in said and "uthentication" in said and "hunter2" not in said


def test_a_right_password_is_never_shown(kafka, riverrun_tls, tmp_path, topic):
    options = sasl(kafka, "PLAIN", over_tls=True) | {"kafka.debug": "all"}
    said = bounded(riverrun_tls, script(topic, options), tmp_path, log="trace")
    assert "SaslHandshake" in said, "debug = all is on"
    assert kafka["KAFKA_PASSWORD"] not in said


def test_the_host_name_must_be_the_certificates(kafka, riverrun_tls, tmp_path, topic):
    """The certificate is for 127.0.0.1; the door at 127.0.0.2 leads to the same broker."""
    with Door("127.0.0.2", int(kafka["KAFKA_SSL"].rpartition(":")[2])) as address:
        options = tls(kafka) | {"brokers": address, "kafka.socket.timeout.ms": 3000}
        said = bounded(riverrun_tls, script(topic, options), tmp_path, fails=True)
        assert "certificate" in said
        bounded(riverrun_tls, script(topic, options | {"ssl_endpoint_identification": "none"}), tmp_path)
    assert rows(tmp_path / "out.jsonl") == [{"n": 1}]


class Door:
    """A port of another address of this machine that leads to a port of 127.0.0.1."""

    def __init__(self, host, port):
        self.listener, self.port = socket.create_server((host, 0)), port

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return "{}:{}".format(*self.listener.getsockname())

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                inside, _ = self.listener.accept()
            except OSError:
                return
            outside = socket.create_connection(("127.0.0.1", self.port))
            for a, b in ((inside, outside), (outside, inside)):
                threading.Thread(target=self._pass_on, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass_on(source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            pass
        target.close()
