"""A server between a browser and a running pipeline: it passes everything on, but /metrics, of which each series has a value that is known
in advance, and moves as is known, a second from one answer to the next."""

import re
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

START = 1893456000  # 2030-01-01: of the first answer
FLAGS = {"riverrun_ready": 1, "riverrun_live": 1, "riverrun_paused": 0, "riverrun_source_assigned": 1, "riverrun_source_idle": 0, "riverrun_source_failing": 0}


def seconds(answer):
    """When an answer was given, as the page takes it: its clock is far away, so it goes by ours, which has whole seconds."""
    return START + answer + 0.5


class Canned:
    """The series of a text of metrics, with values of our own."""

    def __init__(self, text):
        self.kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        lines = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line and not line.startswith("#")]
        self.series = [(re.split("[{]", line)[0], dict(re.findall(r'(\w+)="([^"]*)"', line)), line) for line in lines]

    def text(self, answer):
        return "".join(f"{line} {self.of(k, answer)!r}\n" for k, (_, _, line) in enumerate(self.series))

    def of(self, k, answer):
        """The value of series k."""
        name, labels, _ = self.series[k]
        at = seconds(answer)
        moments = {
            "riverrun_start_timestamp_seconds": START - 5000, "process_start_time_seconds": START - 6000,
            "riverrun_checkpoint_last_success_timestamp_seconds": at - 7, "riverrun_source_last_record_timestamp_seconds": at - 3,
            "riverrun_source_watermark_seconds": at - 90000, "riverrun_source_watermark_lag_seconds": 90000 + k,
            "riverrun_sink_last_acknowledged_timestamp_seconds": at - 2, "riverrun_checkpoint_interval_seconds": 10,
        }
        if name in moments or name in FLAGS:
            return moments.get(name, FLAGS.get(name))
        if name == "riverrun_sink_failing":
            return int(labels["sink"] == "late")
        if name.endswith("_bucket"):
            return 100 + (2 * answer if self.rank(k) >= len(labels.get("sink", "")) % 8 + 2 else 0)
        if name.endswith(("_sum", "_count")) and self.kinds.get(name.rsplit("_", 1)[0]) == "histogram":
            return (100 + 2 * answer) * (0.05 if name.endswith("_sum") else 1)
        if name.endswith("_seconds_total"):
            return k + 0.01 * answer
        if self.kinds.get(name) == "counter":
            return 1000 * k + (k + 2) * answer
        return 100 * k + 7

    def rank(self, k):
        """Which bucket of its histogram it is."""
        name, labels, _ = self.series[k]
        others = {l: v for l, v in labels.items() if l != "le"}
        of_it = [j for j, (n, l, _) in enumerate(self.series) if n == name and others.items() <= l.items()]
        return of_it.index(k)

    def names(self, name, label):
        return list(dict.fromkeys(labels[label] for n, labels, _ in self.series if n == name))

    def values(self, name, answer, **labels):
        return [self.of(k, answer) for k, (n, l, _) in enumerate(self.series) if n == name and labels.items() <= l.items()]

    def sum(self, name, answer, **labels):
        return sum(self.values(name, answer, **labels))

    def rate(self, name, answer, **labels):
        return (self.sum(name, answer, **labels) - self.sum(name, answer - 3, **labels)) / 3

    def quantile(self, q, answer, name, **labels):
        """Of the last 10 seconds: all that came then fell into one bucket."""
        ks = [k for k, (n, l, _) in enumerate(self.series) if n == f"{name}_bucket" and labels.items() <= l.items()]
        i = next(i for i, k in enumerate(ks) if self.of(k, answer) > self.of(k, answer - 10))
        low, high = (float(self.series[k][1]["le"]) for k in (ks[i - 1], ks[i]))
        return low + (high - low) * q


class Between:
    """The server, for one pipeline. As a context."""

    def __init__(self, address):
        self.canned = Canned(requests.get(f"http://{address}/metrics", timeout=30).text)
        self.answers, lock = -1, threading.Lock()
        between = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path != "/metrics":
                    return self.passed_on()
                with lock:
                    between.answers += 1
                    answer = between.answers
                body = between.canned.text(answer).encode()
                self.send_response_only(200)
                self.send_header("Date", formatdate(START + answer, usegmt=True))
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.passed_on(self.rfile.read(int(self.headers["Content-Length"])))

            def passed_on(self, body=None):
                kept = {n: v for n, v in self.headers.items() if n in ("Accept", "Content-Type")}
                url = f"http://{address}{self.path}"
                try:
                    with requests.request(self.command, url, data=body, headers=kept, stream=True, timeout=300) as answer:
                        self.copy(answer)
                except (requests.RequestException, ConnectionError):
                    self.close_connection = True  # one of the two is gone

            def copy(self, answer):
                self.send_response_only(answer.status_code)
                for name in ("Content-Type", "Content-Security-Policy"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                for part in answer.iter_content(None):
                    self.wfile.write(part)
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
