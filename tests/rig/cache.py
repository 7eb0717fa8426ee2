"""The cache folder outside the repository, and what is fetched into it once: programs we need, Python environments."""
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

UNAVAILABLE = 69  # sysexits EX_UNAVAILABLE: something this machine lacks, said in one line


class Missing(Exception):
    """Something that this machine lacks; the text says what to install."""


def folder(*parts):
    """A folder below the cache, made if need be."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home.joinpath("ottla", *parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def need(*programs):
    """Refuses to go on unless each (program, Debian package) is there; says all that are missing at once."""
    lacking = [(program, package) for program, package in programs if not shutil.which(program)]
    if lacking:
        raise Missing("; ".join(f"`{program}` is missing: apt-get install {package}" for program, package in lacking))


@contextmanager
def locked(name):
    """One process at a time fetches a thing."""
    with open(folder() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command, seconds, **options):
    """Runs a command that prepares something; its output is shown only when it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, timeout=seconds, **options)
    except subprocess.TimeoutExpired:
        raise Missing(f"{' '.join(map(str, command))}: not done after {seconds} s") from None
    if done.returncode != 0:
        raise Missing(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def python(requirements):
    """The interpreter of an environment with exactly the pinned packages of a requirements file."""
    text = Path(requirements).read_text()
    key = hashlib.sha256(f"{sys.version_info[:2]} {text}".encode()).hexdigest()[:12]
    place = folder("python") / key
    with locked(f"python-{key}"):
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            try:
                run([sys.executable, "-m", "venv", place], 120)
            except Missing as error:
                raise Missing(f"no Python environment: apt-get install python3-venv\n{error}") from None
            run([place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], 400)
            (place / "ready").touch()
    return place / "bin/python"
