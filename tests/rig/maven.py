"""Jars by Maven, fetched once."""
import hashlib
import os

from . import cache

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"


def classpath(pom, **properties):
    """The run-time class path of a pom's dependencies; `properties` are its `${…}`."""
    cache.need(("java", "default-jdk-headless"), ("mvn", "maven"))
    flags = [f"-D{name.replace('_', '.')}={value}" for name, value in sorted(properties.items())]
    key = hashlib.sha256(f"{flags} {pom.read_text()}".encode()).hexdigest()[:12]
    found = cache.folder("maven") / key
    with cache.locked(f"maven-{key}"):
        if not (found.exists() and all(map(os.path.exists, found.read_text().strip().split(":")))):
            cache.run(["mvn", "-q", "-B", "-f", pom, *flags, PLUGIN, "-Dmdep.includeScope=runtime", f"-Dmdep.outputFile={found}"], 400)
    return found.read_text().strip()


def compiled(source, jars):
    """The class path of one Java file, compiled once for each state of it, together with its jars."""
    cache.need(("javac", "default-jdk-headless"))
    key = hashlib.sha256(f"{jars} {source.read_text()}".encode()).hexdigest()[:12]
    place = cache.folder("classes") / key
    with cache.locked(f"classes-{key}"):
        if not (place / "ready").exists():
            cache.run(["javac", "-cp", jars, "-d", place, source], 120)
            (place / "ready").touch()
    return f"{place}:{jars}"
