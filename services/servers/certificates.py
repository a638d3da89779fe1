"""Certificates for tests, made by openssl: an authority, and what it signed for server and client, as PEM files valid for
127.0.0.1 and localhost. Keys are on P-256: made in milliseconds."""

from .fetch import command

DAYS = "30"


def make(directory):
    """Makes `ca.crt`, `server.*`, `client.*`, and `stranger-ca.crt`, an authority that signed nothing. `NAME.pem` holds key and
    chain together, as Kafka takes them."""
    if (directory / "done").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    for ca in ("ca", "stranger-ca"):
        _authority(directory, ca)
    for name in ("server", "client"):
        _signed(directory, name)
    (directory / "done").touch()


def _key(path):
    command(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path], "making a key")


def _authority(directory, name):
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    _key(key)
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    argv = ["openssl", "req", "-x509", "-new", "-key", key, "-days", DAYS, "-subj", f"/CN=Riverrun test {name}", "-out", certificate]
    # Without a configuration of ours, openssl.cnf would add a second basicConstraints.
    config = directory / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = name\n[name]\n")
    command([*argv, "-config", config, *extensions], "making an authority")


def _signed(directory, name):
    at = {end: directory / f"{name}.{end}" for end in ("key", "csr", "ext", "crt", "pem")}
    _key(at["key"])
    config = directory / "openssl.cnf"
    command(["openssl", "req", "-new", "-key", at["key"], "-subj", f"/CN={name}", "-config", config, "-out", at["csr"]], "asking for a certificate")
    at["ext"].write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    ca = ["-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-CAcreateserial"]
    argv = ["openssl", "x509", "-req", "-in", at["csr"], *ca, "-days", DAYS, "-extfile", at["ext"], "-out", at["crt"]]
    command(argv, "signing a certificate")
    at["pem"].write_text(at["key"].read_text() + at["crt"].read_text() + (directory / "ca.crt").read_text())
