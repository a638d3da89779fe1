"""Prometheus, of Debian. Scrapes every second what the JSON files in one directory name, and evaluates the rules in another; both may
change while it runs (rules: SIGHUP, or POST /-/reload)."""

import shutil
from pathlib import Path

from . import fetch
from .process import http_status
from .server import Launch, Server

CONFIG = """global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: ['{home}/rules/*.yml']
scrape_configs:
  - job_name: riverrun
    file_sd_configs:
      - files: ['{home}/targets/*.json']
"""


class Prometheus(Server):
    name = "prometheus"
    version = "Debian's"
    about = "Prometheus and promtool, in the version of this machine's Debian"
    start_seconds = 30

    @classmethod
    def fetch(cls):
        """The directory with `prometheus` and `promtool`: those on the PATH where there is no apt-get."""
        found = shutil.which("prometheus")
        if found and shutil.which("promtool") and not shutil.which("apt-get"):
            return Path(found).parent
        return fetch.debian("prometheus") / "usr" / "bin"

    def prepare(self):
        for directory in ("targets", "rules"):
            (self.home / directory).mkdir(exist_ok=True)
        (self.home / "prometheus.yml").write_text(CONFIG.format(home=self.home))

    def launches(self):
        argv = [
            self.fetch() / "prometheus",
            f"--config.file={self.home / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.home / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.ports[0]}",
            "--web.enable-lifecycle",
        ]
        return [Launch("prometheus", argv)]

    def ready(self, _running):
        return http_status(f"http://127.0.0.1:{self.ports[0]}/-/ready") == 200

    def env(self):
        return {
            "PROMETHEUS_URL": f"http://127.0.0.1:{self.ports[0]}",
            "PROMETHEUS_TARGETS": self.home / "targets",
            "PROMETHEUS_RULES": self.home / "rules",
            "PROMTOOL": self.fetch() / "promtool",
        }
