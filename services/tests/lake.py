"""Delta tables in the object store, as clients that are not ours see them; and a store that fails on purpose."""

import contextlib
import http.client
import random
import socket
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import duckdb
from deltalake import DeltaTable
from test_s3 import connect


class Bucket:
    """A fresh bucket, and what lies in it."""

    def __init__(self, env):
        self.env, self.name, self.client = env, f"lake-{uuid.uuid4().hex[:12]}", connect(env)
        self.client.create_bucket(Bucket=self.name)

    def url(self, path):
        return f"s3://{self.name}/{path}"

    def table(self, path, version=None):
        """The table as deltalake (Python) sees it."""
        return DeltaTable(self.url(path), version=version, storage_options={**self.env, "aws_conditional_put": "etag"})

    def rows(self, path, columns="*", where="true"):
        """What DuckDB makes of its rows."""
        db = duckdb.connect()
        db.register("lake", self.table(path).to_pyarrow_dataset())
        return db.execute(f"SELECT {columns} FROM lake WHERE {where}").fetchall()

    def objects(self, path):
        """Names and sizes of the data files, whether in the table or not."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{path}/")
        found = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
        return {key: size for key, size in found.items() if "_delta_log" not in key}


def once(ids, expected):
    """Each of the expected ids is there, and once."""
    counts = Counter(ids)
    twice = [key for key, count in counts.items() if count > 1]
    lost = expected - counts.keys()
    assert not twice and not lost and counts.keys() == expected, f"{len(twice)} twice, {len(lost)} lost: {twice[:3]} {list(lost)[:3]}"


class Troubled:
    """An HTTP server before the store that answers 503 to a part of the requests, half of them after the store has carried them out.
    `status`: another answer; None: the connection is cut. `delay`: so long (seconds) each request waits."""

    def __init__(self, endpoint, share, seed=1):
        store, chance = urlsplit(endpoint), random.Random(seed)
        self.share, self.status, self.delay, self.before, self.after, self.slowed = share, 503, 0.0, 0, 0, 0
        troubled = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if troubled.delay:
                    troubled.slowed += 1
                    time.sleep(troubled.delay)
                draw = chance.random()
                if draw < troubled.share / 2:
                    troubled.before += 1
                    return self.refuse()
                connection = http.client.HTTPConnection(store.hostname, store.port, timeout=60)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if draw < troubled.share:
                    troubled.after += 1
                    return self.refuse()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length or 0))
                self.end_headers()
                self.wfile.write(content)

            def refuse(self):
                if troubled.status is None:
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                told = {500: ("InternalError", "We encountered an internal error.")}.get(troubled.status, ("SlowDown", "Reduce your request rate."))
                content = b"<Error><Code>%b</Code><Message>%b</Message></Error>" % tuple(word.encode() for word in told)
                self.send_response_only(troubled.status)
                self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # clients may go while they are answered
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def trouble(self, share=0.0, status=503, delay=0.0):
        """Trouble for a while."""
        self.share, self.status, self.delay = share, status, delay
        try:
            yield
        finally:
            self.share, self.delay = 0.0, 0.0

    def close(self):
        self.server.shutdown()
        self.server.server_close()
