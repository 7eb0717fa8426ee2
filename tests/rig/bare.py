"""A bare Debian with a C compiler and the Rust toolchain, and nothing else: the default binary builds there."""
import os
import shutil
import subprocess
from pathlib import Path

from . import cache
from .ottla import ROOT
from .rabbitmq import mirror

SUITE = "bookworm"
PACKAGES = "gcc,libc6-dev"
FORBIDDEN = ("c++", "g++", "clang++", "cmake", "java", "python3", "pkg-config")


def distribution():
    """The folder, made once."""
    cache.need(("debootstrap", "debootstrap"), ("chroot", "coreutils"), ("unshare", "util-linux"), ("cargo", "rustup"))
    if os.geteuid() != 0:
        raise cache.Missing("debootstrap and chroot need root: run as root")
    place = cache.folder("debian") / "bare"
    with cache.locked("debian-bare"):
        if not (place / "ottla-ready").exists():
            cache.run(["rm", "-rf", "--one-file-system", place], 120)
            cache.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, place, mirror()], 900)
            (place / "ottla-ready").touch()
    return place


def build():
    """Builds the binary inside with what cargo fetched outside, offline, and asks its version. Returns an exit code."""
    place = distribution()
    sysroot = cache.run(["rustc", "--print", "sysroot"], 60, cwd=ROOT).strip()
    fetched = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "registry"
    cache.run(["cargo", "fetch", "--locked"], 300, cwd=ROOT)
    _mirror(sysroot, place / "opt/rust", ["bin", "lib"])
    _mirror(fetched, place / "opt/cargo/registry", ["index", "cache"])
    source = place / "opt/source"
    shutil.rmtree(source, ignore_errors=True)
    for name in cache.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], 60, cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    jobs = os.environ.get("CARGO_BUILD_JOBS") or os.cpu_count()
    inside = ["unshare", "--mount", "sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', str(place),
              "/usr/bin/env", "-i", "-C", "/opt/source", "PATH=/opt/rust/bin:/usr/bin:/bin", "HOME=/tmp",
              "CARGO_HOME=/opt/cargo", "CARGO_TARGET_DIR=/opt/target", f"CARGO_BUILD_JOBS={jobs}"]
    for program in FORBIDDEN:
        if subprocess.run([*inside, "which", program], stdout=subprocess.DEVNULL).returncode == 0:
            print(f"the bare folder has {program}: it proves nothing", flush=True)
            return 1
    for command in (["cargo", "build", "--locked", "--offline", "--package", "ottla-cli"], ["/opt/target/debug/ottla", "--version"]):
        code = subprocess.run([*inside, *command], stdin=subprocess.DEVNULL).returncode
        if code != 0:
            return code
    return 0


def _mirror(source, target, parts):
    """Makes `parts` of a folder appear in another: hard links where that is possible, copies where not."""
    for part in parts:
        origin = Path(source) / part
        if not origin.exists():
            continue
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target / part, ignore_errors=True)
        if subprocess.run(["cp", "-al", origin, target / part], stderr=subprocess.DEVNULL).returncode != 0:
            shutil.rmtree(target / part, ignore_errors=True)
            cache.run(["cp", "-a", origin, target / part], 300)
