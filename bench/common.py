"""What the comparisons share: the generator, the machine, time that is given out, tables."""
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from rig import cache, ottla, process, wire  # noqa: E402

GENERATOR = Path(os.environ.get("BENCH_GENERATOR") or ROOT / "target/release/ottla-bench")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Ottla(ottla.Ottla):
    """Ottla on ports that are known before it starts, so that all sides are waited for alike."""

    def __init__(self, *flags):
        super().__init__(*flags)
        self.kafka_port, self.amqp_port = process.free_port(), process.free_port()

    def start(self):
        command = [ottla.binary(), "serve", "--data", f"{self.home.name}/data", "--kafka", f"127.0.0.1:{self.kafka_port}",
                   "--amqp", f"127.0.0.1:{self.amqp_port}", "--http", "off", *self.flags]
        self.server = process.Server(self.name, command, f"{self.home.name}/log")

    @property
    def pid(self):
        return self.server.process.pid


class Time:
    """The time one side may take. A row that does not fit in what is left is not begun, and named."""

    def __init__(self, seconds):
        self.until = time.monotonic() + seconds
        self.left_out = []

    @property
    def left(self):
        return self.until - time.monotonic()

    def fits(self, name, seconds):
        if seconds <= self.left:
            return True
        self.left_out.append(name)
        return False


def generate(arguments, patience, pid=None, device=None):
    """One row of the generator; {"failed": why} if it gave none."""
    with start_generator(arguments, pid, device) as running:
        return finish_generator(running, patience)


def start_generator(arguments, pid=None, device=None):
    command = [GENERATOR, *arguments, "--json"]
    command += ["--pid", pid] if pid else []
    command += ["--device", device] if pid and device else []
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_generator(running, patience):
    try:
        out, errors = running.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGKILL)
        running.communicate()
        return {"failed": f"not done after {patience:.0f} s"}
    if running.returncode != 0:
        return {"failed": errors.strip().removeprefix("ottla-bench: ")[:200]}
    return json.loads(out)


def until_speaking(server, speaks, start):
    """Starts it; seconds until it answers. `server()` is its `process.Server`."""
    began = time.monotonic()
    start()
    while time.monotonic() < began + 240:
        try:
            if speaks():
                return time.monotonic() - began
        except OSError:
            pass
        if server().process.poll() is not None:
            break
        time.sleep(0.001)
    raise process.NotReady(server().tail())


def resident(pid):
    """MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def device_of(folder):
    number = os.stat(folder).st_dev
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip() or done.stderr.strip()


def ottla_line():
    binary = ottla.binary()
    changed = said("git", "status", "--porcelain", "--untracked-files=no", "--", "crates")
    return f"{said(str(binary), '--version') or '?'} ({binary.name}, sources at {said('git', 'rev-parse', '--short', 'HEAD')}{' and changes' if changed else ''})"


def machine_line(folder):
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    mount = " ".join(said("findmnt", "-no", "FSTYPE,SOURCE", "-T", folder).split())
    return f"- {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, Linux {platform.release()}, {mount}. Generator and broker share them."


def load_line(loads):
    shown = ", ".join(f"{load:.2f}" for load in loads)
    quiet = max(loads, default=0) < 1.5
    return f"- Load average before each side: {shown}. " + (
        "The benchmark's own rows make it; nothing else was at work before the first." if quiet else
        "Above 1.5 something else than the benchmark may have been at work: read ratios, not figures.")


def sync_line(folder, seconds=1.0):
    """How long a sync takes; returns the line and its p50 in ms."""
    row = generate(["disk", "--folder", folder, "--seconds", seconds], 60)
    if "failed" in row:
        return f"- One fdatasync of 4 KiB: {row['failed']}.", None
    spread = row["sync_ms"]
    return f"- One fdatasync of an overwritten 4 KiB on that disk, before the first side: p50 {spread['p50']:.3f} ms, p99 {spread['p99']:.2f}.", spread["p50"]


def table(head, lines):
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]])


def figure(row, form):
    """A cell: what a row gave, or why it gave nothing."""
    if row is None:
        return "left out"
    if isinstance(row, dict) and "failed" in row:
        return f"failed: {row['failed'][:60]}"
    return form(row)


def worked(row):
    return row if row is not None and not (isinstance(row, dict) and "failed" in row) else None


def verdict(met):
    return "not measured" if met is None else "**met**" if met else "missed"


def size(count):
    return f"{count // MIB} MiB" if count >= MIB else f"{count // KIB} KiB" if count >= KIB else f"{count} B"


def count(number):
    return f"{number:,.0f}".replace(",", " ")


def today():
    return datetime.date.today().isoformat()


def report_path(name):
    """A dated file that is not there yet: what people wrote into an earlier report of the day stays."""
    names = (f"{name}-{today()}{suffix}.md" for suffix in ["", *(f"-{number}" for number in range(2, 1000))])
    return next(path for path in (ROOT / "docs/bench" / name for name in names) if not path.exists())


def use_folder(folder):
    tempfile.tempdir = str(folder)


def write(report, out, results, as_json):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report)
    if as_json:
        as_json.write_text(json.dumps(results, indent=1))
    print(f"wrote {out}")


def need_generator():
    if not GENERATOR.exists():
        raise cache.Missing(f"{GENERATOR} is missing: cargo build --release -p ottla-cli -p ottla-bench")
