"""Containers of the image that image.py built, and machines: started, looked into, told to stop."""

import itertools
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILT = REPOSITORY / "target/container"
CONFIG = json.loads((BUILT / "config.json").read_text())
ENTER = ["/usr/bin/python3", str(Path(__file__).with_name("enter.py"))]

DEFAULT_PROFILE = "/usr/share/containers/seccomp.json"
OUR_PROFILE = str(REPOSITORY / "deploy/seccomp.json")

APP = {"REVERB_APP_ID": "app-1", "REVERB_APP_KEY": "key-1", "REVERB_APP_SECRET": "secret-1"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What an engine waits between SIGTERM and SIGKILL unless it is told otherwise.
GRACE_S = 10
DEADLINE_S = 20


class Inside:
    """A process that is the first of its own container. Leaving the context ends all in there."""

    def __init__(self, image, command, environment, **spec):
        self.spec = {
            "image": str(BUILT / image),
            "environment": {"PATH": PATH, **environment},
            "workdir": "/",
            "binds": {},
            "files": {},
            "read_only": False,
            "is_machine": False,
            "profile": None,
            **spec,
        }
        self.lines = []
        self.said_more = threading.Condition()
        self.process, self.pid = self._start(command)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _start(self, command):
        reading, writing = os.pipe()
        spec = {**self.spec, "command": command, "report": writing}
        process = subprocess.Popen(
            [*ENTER, "start", json.dumps(spec)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=[writing],
            text=True,
        )
        os.close(writing)
        with open(reading) as report:
            pid = report.read()
        assert pid, f"the container did not start: {process.communicate()[0]}"
        return process, int(pid)

    def _read(self):
        for line in itertools.chain(self.process.stdout, [None]):
            with self.said_more:
                self.lines.append(line and line.rstrip("\n"))
                self.said_more.notify_all()

    def said(self):
        """All that it has said so far."""
        return "\n".join(line for line in self.lines if line is not None)

    def says(self, part):
        """Waits for a line with `part` in it and returns it."""

        def line():
            return next((line for line in self.lines if line is not None and part in line), None)

        with self.said_more:
            self.said_more.wait_for(lambda: line() or None in self.lines, DEADLINE_S)
            assert line(), f"never said {part!r}:\n{self.said()}"
            return line()

    def signal(self, number):
        os.kill(self.pid, number)

    def exit_code(self, within_s=DEADLINE_S):
        """Waits for its end."""
        code = self.process.wait(within_s)
        self.reader.join(DEADLINE_S)
        return code

    def run(self, command, **spec):
        """What `docker exec` does: the finished process, with what it said as text."""
        spec = {**self.spec, "pid": self.pid, "command": words(command), **spec}
        join = [*ENTER, "join", json.dumps(spec)]
        return subprocess.run(join, capture_output=True, text=True, timeout=DEADLINE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        self.process.stdout.close()


class Container(Inside):
    """A container of the image. As in a compose file, `command` takes the place of its CMD."""

    def __init__(
        self, command=None, *, entrypoint=(), environment=APP, profile=DEFAULT_PROFILE, **spec
    ):
        if command is None and not entrypoint:
            command = CONFIG["Cmd"]
        spec = {"user": CONFIG["User"], "workdir": CONFIG["WorkingDir"], "open_files": 4096, **spec}
        environment = {**CONFIG["Env"], **environment}
        command = [*words(entrypoint), *words(command or [])]
        super().__init__("rootfs", command, environment, profile=profile, **spec)

    def serves(self):
        """Waits until it listens."""
        self.says("Starting server on ")
        return self

    def stop(self):
        """What `docker stop` does. Its exit code, which comes before the engine would kill it."""
        self.signal(getattr(signal, CONFIG["StopSignal"]))
        return self.exit_code(GRACE_S)

    def is_healthy(self):
        """What the image's HEALTHCHECK says."""
        return self.run(CONFIG["Healthcheck"]["Test"]).returncode == 0

    def status(self):
        """The kernel's view of PID 1: /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


class Machine(Inside):
    """A Debian machine with this repository in /src; `command` is its first process."""

    def __init__(self, command, environment, **spec):
        binds = {str(REPOSITORY): "/src"}
        super().__init__("machine", command, environment, binds=binds, is_machine=True, **spec)


def until(condition):
    """Asks again and again until it is so, where nothing tells that it has come about."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it never came about"


def words(command):
    """A command as a compose file has it: a list, or a line that is split as a shell would."""
    return shlex.split(command) if isinstance(command, str) else list(command)
