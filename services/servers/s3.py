"""Versity S3 Gateway over a directory: an S3 server whose conditional writes (If-None-Match, If-Match; also of multipart uploads) are
atomic."""

from . import fetch
from .process import http_status
from .server import Launch, Server

USER, SECRET, REGION = "riverrun", "riverrun-secret", "us-east-1"


class S3(Server):
    name = "s3"
    version = "1.8.0"
    about = "Versity S3 Gateway (versitygw): S3 over a directory"
    start_seconds = 20

    @classmethod
    def fetch(cls):
        return fetch.go_program("github.com/versity/versitygw/cmd/versitygw", f"v{cls.version}")

    def prepare(self):
        for directory in ("objects", "metadata"):
            (self.home / directory).mkdir(exist_ok=True)

    def launches(self):
        # Metadata in files of its own, not in extended attributes: those are not on every file system.
        backend = ["posix", "--sidecar", self.home / "metadata", self.home / "objects"]
        argv = [self.fetch(), "--port", f"127.0.0.1:{self.ports[0]}", "--region", REGION, "--keep-alive", *backend]
        return [Launch("s3", argv, {"ROOT_ACCESS_KEY": USER, "ROOT_SECRET_KEY": SECRET})]

    def ready(self, _running):
        """It answers, if only that an unsigned question is refused."""
        return http_status(f"http://127.0.0.1:{self.ports[0]}/") == 403

    def env(self):
        """By the names that AWS's own clients, boto3 and Rust's object_store read."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports[0]}",
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }
