"""The schema registry, as a client of Confluent's API sees it."""

import json
import uuid

import pytest
import requests

CONTENT = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
PATIENCE = 30


@pytest.fixture
def ask(registry):
    """Asks the registry; gives status and answer."""

    def ask(method, path, body=None):
        answer = requests.request(method, f"{registry['SCHEMA_REGISTRY_URL']}/{path}", data=json.dumps(body) if body else None, headers=CONTENT, timeout=PATIENCE)
        return answer.status_code, answer.json()

    return ask


def transaction(*more):
    """An Avro schema with the field `id`, and more."""
    return {"schema": json.dumps({"type": "record", "name": "Transaction", "fields": [{"name": "id", "type": "string"}, *more]})}


OPTIONAL = {"name": "device", "type": ["null", "string"], "default": None}
REQUIRED = {"name": "device", "type": "string"}


@pytest.fixture
def subject():
    return f"test-{uuid.uuid4().hex[:12]}-value"


def test_register_and_fetch(ask, subject):
    _, first = ask("POST", f"subjects/{subject}/versions", transaction())
    _, second = ask("POST", f"subjects/{subject}/versions", transaction(OPTIONAL))
    assert second["id"] != first["id"]
    assert ask("POST", f"subjects/{subject}/versions", transaction()) == (200, {"id": first["id"]})
    for answer, schema in ((first, transaction()), (second, transaction(OPTIONAL))):
        status, fetched = ask("GET", f"schemas/ids/{answer['id']}")
        assert (status, json.loads(fetched["schema"])) == (200, json.loads(schema["schema"]))
    status, latest = ask("GET", f"subjects/{subject}/versions/latest")
    assert (status, latest["id"], latest["version"]) == (200, second["id"], 2)


def test_an_incompatible_schema_is_refused(ask, subject):
    ask("POST", f"subjects/{subject}/versions", transaction())
    assert ask("PUT", f"config/{subject}", {"compatibility": "BACKWARD"})[0] == 200
    check = f"compatibility/subjects/{subject}/versions/latest"
    assert ask("POST", check, transaction(OPTIONAL))[1]["is_compatible"] is True
    assert ask("POST", check, transaction(REQUIRED))[1]["is_compatible"] is False
    status, refusal = ask("POST", f"subjects/{subject}/versions", transaction(REQUIRED))
    assert (status, refusal["error_code"]) == (409, 409)
    assert ask("POST", f"subjects/{subject}/versions", transaction(OPTIONAL))[0] == 200


def test_what_is_not_there(ask, subject):
    status, refusal = ask("GET", "schemas/ids/2000000000")
    assert (status, refusal["error_code"]) == (404, 40403)
    status, refusal = ask("GET", f"subjects/{subject}/versions/latest")
    assert (status, refusal["error_code"]) == (404, 40401)


def test_schemas_survive_a_kill(ask, subject, services):
    _, registered = ask("POST", f"subjects/{subject}/versions", transaction())
    services.run("kill", "registry")
    services.run("start", "registry")
    status, fetched = ask("GET", f"schemas/ids/{registered['id']}")
    assert (status, json.loads(fetched["schema"])) == (200, json.loads(transaction()["schema"]))
