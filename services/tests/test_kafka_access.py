"""Every way into the broker lets in those who may, and nobody else."""

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from kafka_clients import new_topic, read, send

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def plaintext(kafka):
    return {"bootstrap.servers": kafka["KAFKA_BROKERS"]}


def tls(kafka, **more):
    return {"bootstrap.servers": kafka["KAFKA_SSL"], "security.protocol": "SSL", "ssl.ca.location": kafka["KAFKA_CA"], **more}


def mutual_tls(kafka):
    own = {"ssl.certificate.location": kafka["KAFKA_CLIENT_CERTIFICATE"], "ssl.key.location": kafka["KAFKA_CLIENT_KEY"]}
    return tls(kafka, **own) | {"bootstrap.servers": kafka["KAFKA_MTLS"]}


def sasl(kafka, mechanism, over_tls, password=None):
    login = {"sasl.mechanism": mechanism, "sasl.username": kafka["KAFKA_USERNAME"], "sasl.password": password or kafka["KAFKA_PASSWORD"]}
    if over_tls:
        return {"bootstrap.servers": kafka["KAFKA_SASL_SSL"], "security.protocol": "SASL_SSL", "ssl.ca.location": kafka["KAFKA_CA"], **login}
    return {"bootstrap.servers": kafka["KAFKA_SASL_PLAINTEXT"], "security.protocol": "SASL_PLAINTEXT", **login}


WAYS_IN = {"PLAINTEXT": plaintext, "SSL": tls, "MTLS": mutual_tls}
for name in MECHANISMS:
    WAYS_IN[f"{name}"] = lambda kafka, name=name: sasl(kafka, name, over_tls=False)
    WAYS_IN[f"{name}-over-TLS"] = lambda kafka, name=name: sasl(kafka, name, over_tls=True)


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_record_goes_in_and_out(kafka, way):
    client = WAYS_IN[way](kafka)
    topic = new_topic(client)
    send(client, topic, "one", "two")
    assert read(client, topic) == ["one", "two"]


def refused(client, *expected):
    """Whether a client gets an error of one of these codes instead of a connection; others may come before it."""
    errors = []
    admin = AdminClient({**client, "error_cb": errors.append})
    for _ in range(100):
        admin.poll(0.1)
        if any(error.code() in expected for error in errors):
            return True
    return False


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_refused(kafka, mechanism):
    assert refused(sasl(kafka, mechanism, over_tls=True, password="wrong"), KafkaError._AUTHENTICATION)


def test_a_client_that_trusts_another_authority_refuses_the_broker(kafka):
    assert refused(tls(kafka, **{"ssl.ca.location": kafka["KAFKA_STRANGER_CA"]}), KafkaError._SSL)


def test_a_client_without_certificate_is_refused_where_one_is_required(kafka):
    assert refused(tls(kafka) | {"bootstrap.servers": kafka["KAFKA_MTLS"]}, KafkaError._SSL, KafkaError._TRANSPORT)
