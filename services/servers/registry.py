"""Apicurio Registry: a schema registry that speaks the API of Confluent's, over an embedded H2 database on disk."""

from . import fetch
from .process import http_status
from .server import Launch, Server

# Its POM has a parent that Maven Central lacks, so Maven cannot fetch it. Newer versions want Java 21, Cassandra 5 at most 17.
SHA512 = "1ed16d7284599c705a1ccbc551b307064990eb1f58c340e37eedc80716f24aba6216b85db35bc6c1651e44fdfd3598c4c6daa082f18e020e6b8f192036e609c0"


class Registry(Server):
    name = "registry"
    version = "3.0.9"
    about = "Apicurio Registry, a Confluent-compatible schema registry"
    options = {"heap": ("384m", "")}
    start_seconds = 90

    @classmethod
    def fetch(cls):
        fetch.java(17)
        return fetch.central(f"io/apicurio/apicurio-registry-app/{cls.version}/apicurio-registry-app-{cls.version}-all.tar.gz", SHA512)

    def launches(self):
        settings = {
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.home / 'data'}",
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.ports[0],
        }
        flags = [f"-Xmx{self.given['heap']}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *(f"-D{k}={v}" for k, v in settings.items())]
        return [Launch("registry", [fetch.java(17), *flags, "-jar", self.fetch() / f"apicurio-registry-app-{self.version}-runner.jar"])]

    def url(self):
        return f"http://127.0.0.1:{self.ports[0]}/apis/ccompat/v7"

    def ready(self, _running):
        return http_status(f"{self.url()}/subjects") == 200

    def env(self):
        return {"SCHEMA_REGISTRY_URL": self.url()}
