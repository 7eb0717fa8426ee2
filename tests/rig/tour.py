"""docs/tour.md, done: its `sh` blocks in order in one shell, its `text` blocks as what they print."""
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from . import cache, examples, process
from .ottla import ROOT, binary

PAGE = ROOT / "docs/tour.md"
SECONDS_MAX = 120
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def by_hand():
    """Runs the tour in a temporary folder with the binary on the path; what the page shows must be what is printed."""
    cache.need(("kcat", "kcat"), ("bash", "bash"), ("python3", "python3-venv"))
    examples.claim(9092, 5672)
    with tempfile.TemporaryDirectory(prefix="ottla-tour-") as home:
        home = Path(home)
        (home / "bin").mkdir()
        (home / "bin/ottla").symlink_to(binary().resolve())
        blocks = _blocks(PAGE.read_text())
        (home / "tour.sh").write_text(_script(blocks))
        (home / "work").mkdir()
        env = {**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}", "HERE": str(home)}
        script = f"cd {home}/work && exec bash {home}/tour.sh"
        shell = process.Server("the tour", ["bash", "-c", script], home / "log", env)
        begun = time.monotonic()
        try:
            code = shell.process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            code = f"not done after {SECONDS_MAX} s"
        finally:
            shell.kill()
        return _judge(blocks, home, code, shell, begun)


def _blocks(page):
    """The commands of each `sh` block with what the `text` block right behind it says they print, if there is one."""
    found = []
    for kind, text in BLOCK.findall(page):
        if kind == "sh":
            found.append((text, None))
        elif kind == "text" and found and found[-1][1] is None:
            found[-1] = (found[-1][0], text)
    return found


def _script(blocks):
    pieces = ["set -eu\n"]
    for number, (commands, _) in enumerate(blocks):
        pieces.append(f"{{\n{commands}}} > \"$HERE/out.{number}\"\n")
    return "".join([*pieces, 'touch "$HERE/done"\n'])


def _judge(blocks, home, code, shell, begun):
    bad = 0
    for number, (commands, expected) in enumerate(blocks):
        out = home / f"out.{number}"
        said = out.read_text() if out.exists() else None
        right = said is not None and (expected is None or said == expected)
        bad += not right
        print(f"{'ok' if right else 'FAILED':6} {commands.splitlines()[0]}", flush=True)
        if not right:
            print(f"it said\n{said}instead of\n{expected}", flush=True)
    if code != 0 or not (home / "done").exists():
        bad = max(bad, 1)
        logs = "".join(f"# {log.name}\n{log.read_text(errors='replace')}" for log in home.glob("work/*.log"))
        print(f"exit {code}\n{shell.tail()}{logs}", flush=True)
    print(f"{len(blocks) - bad} passed, {bad} failed in {time.monotonic() - begun:.1f}s", flush=True)
    return 1 if bad else 0
