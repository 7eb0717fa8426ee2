"""PostgreSQL, Debian's, on a free port with its data in a temporary folder."""
import os
import pwd
import tempfile
from pathlib import Path

from . import cache, process

PROGRAMS = Path("/usr/lib/postgresql")
SETTINGS = {  # nothing here tests what a disk loses; connections for sixteen writers in several tests at once
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "max_connections": "400",
}


class PostgreSQL:
    """`with PostgreSQL() as server:` starts it; `server.url` is its address."""

    name = "PostgreSQL"

    def __enter__(self):
        versions = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if not versions:
            raise cache.Missing("PostgreSQL is missing: apt-get install postgresql")
        programs = versions[-1].parent
        self.home = tempfile.TemporaryDirectory(prefix="ottla-postgres-")
        try:
            # initdb refuses root: the folder and the server belong to nobody.
            user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
            if user:
                os.chown(self.home.name, pwd.getpwnam("nobody").pw_uid, user["group"])
            data = f"{self.home.name}/data"
            cache.run([programs / "initdb", "-D", data, "-U", "ottla", "--auth=trust", "-N", "-E", "UTF8", "--locale=C"], 60,
                      cwd=self.home.name, **user)
            self.port = process.free_port()
            settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
            self.server = process.Server(
                self.name, [programs / "postgres", "-D", data, "-p", str(self.port), "-k", self.home.name, *settings],
                f"{self.home.name}/log", cwd=self.home.name, **user)
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            self.server.wait_until(lambda: process.succeeds(ready), 30)
        except BaseException:
            self.__exit__()
            raise
        self.url = f"postgres://ottla@127.0.0.1:{self.port}/postgres"
        return self

    def __exit__(self, *_):
        if hasattr(self, "server"):
            self.server.stop()
        self.home.cleanup()
