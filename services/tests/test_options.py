"""Which test fails where a documented option is ignored: every option of Cassandra's tables, of the lake, and of Avro with its registry,
as docs/connectors.md has them, against the real server."""

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

TESTS = {
    "cassandra": {
        "contact_points": "cassandra_sink.table_and_contact_points", "keyspace": "cassandra_sink.a_table_is_created_from_the_query",
        "table": "cassandra_sink.table_and_contact_points", "partition_key": "cassandra_sink.partition_key", "create": "cassandra_sink.create",
        "replication": "cassandra_sink.replication", "compaction": "cassandra_sink.compaction", "ttl": "cassandra_sink.ttl",
        "timestamps": "cassandra_sink.timestamps", "null_keys": "cassandra_sink.null_keys", "consistency": "cassandra_sink.consistency",
        "datacenter": "cassandra_sink.datacenter", "concurrency": "cassandra_sink.concurrency", "request_timeout": "cassandra_sink.request_timeout",
        "username": "cassandra_sink.logins_and_certificates", "password": "cassandra_sink.logins_and_certificates", "tls": "cassandra_sink.tls",
        "ssl_ca_location": "cassandra_sink.tls", "ssl_certificate_location": "cassandra_sink.logins_and_certificates",
        "ssl_key_location": "cassandra_sink.logins_and_certificates",
        "ssl_endpoint_identification": "cassandra_sink.a_certificate_for_another_address",
    },
    "delta": {
        "path": "lake_s3.what_is_wrong_with_the_store_is_told", "partition_by": "lake_s3.killed_between_all_steps", "roll_size": "lake_options.roll_size",
        "roll_interval": "lake_options.roll_interval", "add_columns": "lake_s3.columns_are_added_on_request",
        "compact": "lake_options.whether_and_to_what_size_small_files_are_merged",
        "compact_size": "lake_options.whether_and_to_what_size_small_files_are_merged", "follow": "lake_options.starting_version",
        "starting_version": "lake_options.starting_version", "ignore_deletes": "lake_s3.following_stops_at_rows_that_another_client_deletes",
        "poll_interval": "lake_options.poll_interval", "s3.endpoint": "lake_s3.options_of_the_table_go_before_the_environment",
        "s3.region": "lake_s3.options_of_the_table_go_before_the_environment",
        "s3.access_key_id": "lake_s3.options_of_the_table_go_before_the_environment",
        "s3.secret_access_key": "lake_s3.options_of_the_table_go_before_the_environment", "s3.session_token": "lake_options.session_token",
        "s3.virtual_hosted_style_request": "lake_options.virtual_hosted_style_request", "delta.*": "lake_options.properties_of_a_table",
    },
    "avro-and-the-schema-registry": {
        "schema_registry": "avro.the_first_registry_that_answers_is_asked", "schema_registry_username": "avro.who_asks",
        "schema_registry_password": "avro.who_asks", "schema_registry_token": "avro.who_asks",
        "schema_registry_ca_location": "avro.certificates_are_checked",
        "schema_registry_timeout": "avro.a_slow_registry_is_waited_for_as_long_as_the_option_says",
        "schema_registry_cache": "avro.a_restart_needs_no_registry_for_what_is_cached", "subject": "avro.columns_by_a_subject_of_another_name",
        "subject_strategy": "avro.names_of_the_subject_and_the_record", "schema_version": "avro.columns_come_from_the_registry",
        "reader_schema": "avro.reader_schema_gives_defaults", "auto_register": "avro.without_auto_register_the_registered_schema_is_written",
        "compatibility": "avro.compatibility_is_set_and_an_incompatible_schema_is_refused_at_the_start",
        "record_name": "avro.names_of_the_subject_and_the_record", "record_doc": "avro.names_of_the_subject_and_the_record",
    },
}
# What goes wrong, each with one message that says what and where.
ERRORS = {
    "wrong password": ["cassandra_sink.logins_and_certificates", "lake_s3.what_is_wrong_with_the_store_is_told", "avro.who_asks"],
    "wrong keyspace, bucket or subject": ["cassandra_sink.create", "lake_s3.what_is_wrong_with_the_store_is_told", "avro.a_subject_that_is_not_there_is_told"],
    "type mismatch": ["cassandra_sink.a_table_that_does_not_fit_is_told_by_what_differs", "lake_options.another_type", "avro.bad_records_cost_themselves_and_say_why"],
    "unreachable host": ["cassandra_sink.a_node_that_is_not_there", "lake_options.a_store_that_is_not_there", "avro.a_sink_starts_without_the_registry_once_its_schema_is_registered"],
    "expired certificate": ["cassandra_sink.an_expired_certificate", "lake_options.an_expired_certificate", "avro.an_expired_certificate"],
    "unknown schema id": ["avro.bad_records_cost_themselves_and_say_why"],
}


def documented(section):
    """The options in the first table of options of a section."""
    text = (ROOT / "docs" / "connectors.md").read_text()
    body = re.split(r"^## ", text, flags=re.MULTILINE)
    [own] = [part for part in body if re.sub(r"[^a-z0-9]+", "-", part.split("\n", 1)[0].lower()) == section]
    rows = own.split("| option | default |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def exists(test):
    file, name = test.split(".")
    tree = ast.parse((Path(__file__).parent / f"test_{file}.py").read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == f"test_{name}" for node in tree.body)


@pytest.mark.parametrize("section", TESTS)
def test_each_documented_option_has_a_test(section):
    assert set(documented(section)) == set(TESTS[section])
    missing = [test for test in TESTS[section].values() if not exists(test)]
    assert not missing


def test_each_error_has_a_test():
    missing = [test for tests in ERRORS.values() for test in tests if not exists(test)]
    assert not missing
