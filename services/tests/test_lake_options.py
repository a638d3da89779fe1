"""Options of Delta tables in an object store, each of which changes what is seen from outside; and what is told of a store that cannot
be had."""

import contextlib
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from certificate import certificate
from lake import Bucket
from runs import Run, bounded, rows, until

# 50 rows a round, a round every 20 ms: a run of two seconds.
WRITER = """
SET pipeline.name = 'writer';
CREATE TABLE made (transaction_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, timestamp TIMESTAMP NOT NULL)
WITH (connector = 'generator', rate = 2500, count = 5000);
CREATE TABLE lake WITH (connector = 'delta', path = '${LAKE}' ${MORE});
INSERT INTO lake SELECT transaction_id, amount FROM made;
"""
READER = """
SET pipeline.name = 'reader';
CREATE TABLE lake (transaction_id VARCHAR, amount DOUBLE) WITH (connector = 'delta', path = '${LAKE}', follow = 'true' ${MORE});
CREATE TABLE copies WITH (connector = 'filesystem', path = '${DATA_DIR}/copies.jsonl', format = 'json');
INSERT INTO copies SELECT transaction_id FROM lake;
"""


@pytest.fixture
def bucket(s3, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3)


@pytest.fixture
def write(riverrun, bucket, tmp_path):
    """Writes 5000 rows into a table with these options; gives the table."""

    def write(name, fails=False, **options):
        (folder := tmp_path / name).mkdir(exist_ok=True)
        more = "".join(f", '{option}' = '{value}'" for option, value in options.items())
        said = bounded(riverrun, WRITER, folder, fails=fails, LAKE=bucket.url(name), MORE=more)
        return said if fails else bucket.table(name)

    return write


def commits(table):
    """How many commits wrote rows."""
    return sum(entry["operation"] == "WRITE" for entry in table.history())


def test_roll_interval(write, bucket):
    assert commits(write("rare", roll_interval="1 hour")) == 1, "at the end"
    assert commits(write("often", roll_interval="100 ms")) > 5
    assert bucket.rows("often", "count(DISTINCT transaction_id), count(*)") == [(5000, 5000)]


def test_roll_size(write, bucket):
    assert commits(write("small", roll_interval="1 hour", roll_size="20 kB")) > 3
    assert bucket.rows("small", "count(DISTINCT transaction_id), count(*)") == [(5000, 5000)]


def test_properties_of_a_table(write):
    properties = {"delta.dataSkippingNumIndexedCols": "1", "delta.logRetentionDuration": "interval 5 days"}
    assert properties.items() <= write("some", **properties).metadata().configuration.items()


@pytest.mark.long
def test_whether_and_to_what_size_small_files_are_merged(riverrun, bucket, tmp_path):
    """A minute and a half of a commit every half second: merging is looked at once a minute."""
    script = WRITER.replace("rate = 2500, count = 5000", "rate = 100, count = 9000")
    cases = {"auto": "compact = 'auto'", "off": "compact = 'off'", "tiny": "compact_size = '1 kB'"}
    with contextlib.ExitStack() as stack:
        runs = {}
        for name, more in cases.items():
            (folder := tmp_path / name).mkdir()
            given = {"LAKE": bucket.url(name), "MORE": f", roll_interval = '500 ms', {more}"}
            runs[name] = stack.enter_context(Run(riverrun, script, folder, **given))
        for name, run in runs.items():
            assert run.ends(180) == 0, f"{name}: {run.said()}"
    merged = {name: sum(entry["operation"] == "OPTIMIZE" for entry in bucket.table(name).history()) for name in cases}
    assert merged["auto"] > 0 and merged["off"] == merged["tiny"] == 0, merged
    for name in cases:
        assert bucket.rows(name, "count(DISTINCT transaction_id), count(*)") == [(9000, 9000)], name


def test_starting_version(riverrun, write, bucket, tmp_path):
    table = write("versions", roll_interval="200 ms")
    last, all_rows = table.version(), 5000
    assert last > 3
    before = bucket.table("versions", version=last - 1).to_pyarrow_dataset().count_rows()
    for start, count in (("0", all_rows), (str(last), all_rows - before), ("latest", 0)):
        (folder := tmp_path / f"from-{start}").mkdir()
        with Run(riverrun, READER, folder, LAKE=bucket.url("versions"), MORE=f", starting_version = '{start}'") as run:
            run.started()
            until(lambda folder=folder, count=count: len(rows(folder / "data" / "copies.jsonl")) >= count, what=run.said)
            time.sleep(1)
            assert run.stop() == 0, run.said()
        assert len(rows(folder / "data" / "copies.jsonl")) == count, start


def test_poll_interval(riverrun, write, bucket, tmp_path):
    write("polled", roll_interval="1 hour")
    copies = {interval: tmp_path / interval / "data" / "copies.jsonl" for interval in ("100 ms", "1 hour")}
    with contextlib.ExitStack() as stack:
        for interval, path in copies.items():
            path.parent.parent.mkdir()
            run = Run(riverrun, READER, path.parent.parent, LAKE=bucket.url("polled"), MORE=f", poll_interval = '{interval}'")
            stack.enter_context(run).started()
        until(lambda: all(len(rows(path)) == 5000 for path in copies.values()))
        write("polled", roll_interval="1 hour")
        until(lambda: len(rows(copies["100 ms"])) == 10_000)
        time.sleep(3)
        assert len(rows(copies["1 hour"])) == 5000


# How the store is asked, and what is told where it cannot be.


class Noted(BaseHTTPRequestHandler):
    """Refuses all, and notes what was asked."""

    def handle_one(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def stranger(tls=None):
    """Somebody who is no store: the URL, and what was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Noted)
    server.asked, server.daemon_threads = [], True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}", server.asked
    server.shutdown()
    server.server_close()


def test_session_token(write):
    with stranger() as (url, asked):
        for token in ("token-1", None):
            asked.clear()
            said = write("none", fails=True, **{"s3.endpoint": url}, **({"s3.session_token": token} if token else {}))
            sent = {headers.get("X-Amz-Security-Token", headers.get("x-amz-security-token")) for _, headers in asked}
            assert sent == {token} and "token-1" not in said, (sent, said)


def test_virtual_hosted_style_request(write, bucket):
    with stranger() as (url, asked):
        for hosted in ("false", "true"):
            asked.clear()
            write("none", fails=True, **{"s3.endpoint": url, "s3.virtual_hosted_style_request": hosted})
            in_path = {path.startswith(f"/{bucket.name}") for path, _ in asked}
            assert in_path == {hosted == "false"}, asked


def test_a_store_that_is_not_there(write, bucket):
    said = write("none", fails=True, **{"s3.endpoint": "http://127.0.0.1:9"})
    assert f"sink lake: cannot open the Delta table at {bucket.url('none')}" in said and "127.0.0.1:9" in said, said
    assert said.count("cannot open the Delta table") == 1


def test_an_expired_certificate(write, bucket, tmp_path, monkeypatch):
    pem, key = certificate(tmp_path, expired=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with stranger(tls=(pem, key)) as (url, asked):
        said = write("none", fails=True, **{"s3.endpoint": url})
    assert f"cannot open the Delta table at {bucket.url('none')}" in said and "certificate" in said and not asked, said


def test_another_type(riverrun, write, bucket, tmp_path):
    write("typed")
    script = WRITER.replace("SELECT transaction_id, amount", "SELECT transaction_id, CAST(amount AS VARCHAR) AS amount")
    said = bounded(riverrun, script, tmp_path, fails=True, LAKE=bucket.url("typed"), MORE="")
    assert f"the rows do not fit the Delta table at {bucket.url('typed')}" in said and "amount" in said, said
