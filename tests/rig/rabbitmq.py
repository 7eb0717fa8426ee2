"""RabbitMQ from Debian: a distribution in a folder (debootstrap), the server in it (chroot), on free ports of loopback."""
import os
import re
import socket
import tempfile
from pathlib import Path

from . import cache, process, wire

PACKAGES = "rabbitmq-server"
INSIDE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/var/lib/rabbitmq", "LANG": "C.UTF-8"}
CONFIG = """\
listeners.tcp.local = 127.0.0.1:{port}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 64MB
vm_memory_high_watermark.absolute = 1GB
loopback_users.guest = true
"""
# There is no /proc in the folder, from which the plugin would read the memory.
MANAGEMENT = """\
management.tcp.ip = 127.0.0.1
management.tcp.port = {port}
vm_memory_calculation_strategy = allocated
"""


def mirror():
    """The mirror of the machine's own apt settings."""
    cache.need(("apt-get", "apt"))
    told = cache.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)"], 30)
    found = [line.split()[0] for line in told.splitlines() if line.endswith(" Debian") and "security" not in line]
    if not found:
        raise cache.Missing("apt knows no Debian mirror: apt-get update, on a Debian machine")
    return found[0].rstrip("/")


def distribution(suite):
    """The folder of a Debian suite with the server in it, made once."""
    cache.need(("debootstrap", "debootstrap"), ("chroot", "coreutils"))
    if os.geteuid() != 0:
        raise cache.Missing("debootstrap and chroot need root: run as root")
    place = cache.folder("debian") / suite
    with cache.locked(f"debian-{suite}"):
        if not (place / "ottla-ready").exists():
            cache.run(["rm", "-rf", "--one-file-system", place], 120)
            cache.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, place, mirror(), "sid"], 900)
            (place / "ottla-ready").touch()
        (place / "etc/hosts").write_text("127.0.0.1 localhost\n")
    return place


def version(suite):
    """The version of the server in a suite's folder, e.g. 4.0.5."""
    told = cache.run(["chroot", distribution(suite), "dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"], 30)
    return re.match(r"[0-9.]+", told).group(0)


class RabbitMQ:
    """`with RabbitMQ("trixie") as broker:` starts it; a restart keeps data and ports."""

    def __init__(self, suite, port=None, management=False, **settings):
        self.suite, self.wanted, self.management, self.settings = suite, port, management, settings

    def __enter__(self):
        self.root = distribution(self.suite)
        self.name = f"RabbitMQ {version(self.suite)}"
        self.home = tempfile.TemporaryDirectory(prefix="ottla-rabbitmq-", dir=self.root / "tmp")
        self.port, self.inter_node, self.mapper = (process.free_port() for _ in range(3))
        self.port = self.wanted or self.port
        config = CONFIG.format(port=self.port) + "".join(f"{key} = {value}\n" for key, value in self.settings.items())
        self.http = process.free_port() if self.management else None
        if self.management:
            config += MANAGEMENT.format(port=self.http)
        (Path(self.home.name) / "rabbitmq.conf").write_text(config)
        (Path(self.home.name) / "plugins").write_text("[rabbitmq_management].\n" if self.management else "[].\n")
        self.servers = []
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        """The port mapper first, in the foreground, so that none is left behind; then the node."""
        inside = "/" + str(Path(self.home.name).relative_to(self.root))
        env = {
            **INSIDE,
            "ERL_EPMD_PORT": str(self.mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"rabbit{self.port}@localhost", "RABBITMQ_DIST_PORT": str(self.inter_node),
            "RABBITMQ_CONFIG_FILE": f"{inside}/rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{inside}/plugins", "RABBITMQ_MNESIA_BASE": f"{inside}/data",
            "RABBITMQ_LOGS": "-", "RABBITMQ_PID_FILE": f"{inside}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
        }
        log = f"{self.home.name}/log"
        into = ["chroot", str(self.root)]
        mapper = process.Server("epmd", [*into, "epmd", "-port", str(self.mapper), "-address", "127.0.0.1"], log, env)
        self.servers = [mapper]
        mapper.wait_until(lambda: _listens(self.mapper), 10)
        node = process.Server(self.name, [*into, "/usr/lib/rabbitmq/bin/rabbitmq-server"], log, env)
        self.servers.append(node)
        node.wait_until(lambda: wire.speaks_amqp(self.port), 90)
        if self.management:
            node.wait_until(lambda: _listens(self.http), 30)

    def kill(self):
        for server in reversed(self.servers):
            server.kill()

    def log_tail(self):
        return self.servers[-1].tail()

    def env(self):
        http = {"HTTP": f"127.0.0.1:{self.http}"} if self.management else {}
        return {"AMQP": f"amqp://guest:guest@127.0.0.1:{self.port}/", **http}

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.stop()
        self.home.cleanup()


def _listens(port):
    with socket.create_connection(("127.0.0.1", port), 1):
        return True
