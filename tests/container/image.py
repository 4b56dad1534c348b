"""Builds the image that deploy/Dockerfile describes in a directory, without a container engine.

    image.py DIRECTORY

leaves its file system in DIRECTORY/rootfs and what it says of itself in DIRECTORY/config.json. The
Dockerfile's own instructions are carried out, one after the other; one that is not known here is an
error. Two things stand in for what only an engine could fetch:

- `FROM debian:NAME-slim` is made by mmdebstrap, from the archive that this machine's apt uses;
- `FROM rust:…` is this machine and its own toolchain. What that stage runs, it runs here, in the
  context that .dockerignore leaves, with the target directory of the repository.

DIRECTORY/machine is the same Debian with what the other files of deploy/ are for: systemd,
Supervisor and Compose.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "deploy/Dockerfile"

# What Debian's slim images leave out, and how its images keep apt from filling them.
SLIM = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
]
MACHINE = ["curl", "docker-compose", "procps", "supervisor", "systemd"]
APT_CLEAN = """APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""


def instructions(text):
    """The instructions of a Dockerfile as (word, rest)."""
    joined = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        joined += line.rstrip("\\")
        if line.endswith("\\") or not joined.strip():
            continue
        word, _, rest = joined.strip().partition(" ")
        yield word, rest.strip()
        joined = ""


def options(rest):
    """Splits `--name=value … words` into a dictionary and what follows."""
    found = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, _, value = option[2:].partition("=")
        found[name] = value
        rest = rest.lstrip()
    return found, rest


def is_ignored(path, patterns):
    """Whether .dockerignore keeps a path out: the last that names it or a parent decides."""
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        if wanted == "*" or path == wanted or path.startswith(wanted + "/"):
            ignored = wanted == pattern
    return ignored


def context():
    """The files of the build context, by their paths in the repository."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    kept = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert all("*" not in pattern for pattern in kept), "only whole paths are read here"
    for top in kept:
        path = REPOSITORY / top
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            name = str(file.relative_to(REPOSITORY))
            if file.is_file() and not is_ignored(name, patterns):
                yield name


class Stage:
    """One stage of the build: a file system that grows, and what is said of it."""

    def __init__(self, directory, base):
        self.is_here = base.startswith("rust:")
        self.root = directory
        self.config = {"Env": {}, "WorkingDir": "/", "User": "0:0"}
        shutil.rmtree(directory, ignore_errors=True)
        if self.is_here:
            directory.mkdir(parents=True)
        else:
            release = base.removeprefix("debian:").removesuffix("-slim")
            assert base == f"debian:{release}-slim", f"{base} cannot be made here"
            fresh = debian(release, directory.with_name(f"debian-{release}"))
            subprocess.run(["cp", "-a", fresh, directory], check=True)
            debian(release, directory.with_name("machine"), *MACHINE)

    def path(self, name):
        """Where a path of the image lies on this machine."""
        return self.root / os.path.join(self.config["WorkingDir"], name).lstrip("/")

    def carry_out(self, word, rest, stages):
        chosen, words = options(rest)
        match word:
            case "WORKDIR":
                self.config["WorkingDir"] = rest
                self.path(".").mkdir(parents=True, exist_ok=True)
            case "ENV":
                self.config["Env"].update(pair.split("=", 1) for pair in shlex.split(rest))
            case "COPY":
                self.copy(chosen, *words.split(), stages)
            case "RUN":
                self.run(rest)
            case "USER" | "EXPOSE" | "STOPSIGNAL":
                name = {"USER": "User", "EXPOSE": "Port", "STOPSIGNAL": "StopSignal"}[word]
                self.config[name] = rest
            case "CMD" | "ENTRYPOINT":
                self.config[word.capitalize()] = json.loads(rest)
            case "HEALTHCHECK":
                command = json.loads(words.removeprefix("CMD "))
                self.config["Healthcheck"] = {"Test": command, **chosen}
            case _:
                sys.exit(f"image.py: {word} is not known here")

    def copy(self, chosen, source, destination, stages):
        if stage := chosen.pop("from", None):
            files = {destination: stages[stage].path(source)}
        elif source == ".":
            files = {os.path.join(destination, name): REPOSITORY / name for name in context()}
        else:
            assert source in context(), f"{source} is not in the context: see .dockerignore"
            files = {destination: REPOSITORY / source}
        assert not chosen, f"COPY with {chosen} is not known here"
        for name, file in files.items():
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, self.path(name))

    def run(self, command):
        shell = ["/bin/sh", "-c", command]
        if self.is_here:
            target = REPOSITORY / "target"
            target.mkdir(exist_ok=True)
            self.path("target").symlink_to(target)
            quiet(shell, cwd=self.path("."))
            return
        # As an engine does, the machine's own resolver is lent for the time of the command.
        resolver = self.root / "etc/resolv.conf"
        resolver.touch()
        lent = 'mount --bind /etc/resolv.conf "$1/etc/resolv.conf" && shift && exec chroot "$@"'
        namespaces = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={self.root}/proc"]
        variables = {"PATH": os.defpath + ":/usr/sbin:/sbin", **self.config["Env"]}
        environment = ["env", "-i"] + [f"{name}={value}" for name, value in variables.items()]
        inside = [self.root, self.root, *environment, *shell]
        quiet([*namespaces, "sh", "-c", lent, "sh", *inside])


def debian(release, directory, *packages):
    """A fresh, small Debian system in a directory. Made once."""
    if directory.exists():
        return directory
    unfinished = directory.with_name(directory.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--dpkgopt={option}" for option in SLIM]
    command += [f"--include={package}" for package in packages]
    sources = "\n".join(archive(release)).encode()
    quiet([*command, release, unfinished, "-"], input=sources)
    (unfinished / "etc/apt/apt.conf.d/clean").write_text(APT_CLEAN)
    return unfinished.rename(directory)


def quiet(command, **options):
    """Runs a command, of which something is heard only if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        sys.exit(f"{done.stdout.decode()}\nimage.py: {command} failed")


def archive(wanted):
    """The sources of a Debian release, at the places where this machine gets its own."""
    each = "$(ORIGIN) $(SITE) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", each, "Created-By: Packages"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = {
        line.removeprefix("Debian ") for line in said.splitlines() if line.startswith("Debian ")
    }
    assert lines, "this machine's apt has no sources of Debian"
    own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    for line in sorted(lines):
        site, release, component = line.split()
        yield f"deb {site} {release.replace(own, wanted)} {component}"


def build(directory):
    """Builds the image. The last stage is what is left."""
    stages = {}
    for word, rest in instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = Stage(directory / (name or "rootfs"), base)
            stages[name or "rootfs"] = stage
        else:
            stage.carry_out(word, rest, stages)
    (directory / "config.json").write_text(json.dumps(stage.config, indent=2))
    size = subprocess.run(
        ["du", "-sm", stage.root], check=True, capture_output=True, text=True
    ).stdout
    print(f"image: {size.split()[0]} MB on disk, {DOCKERFILE.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
