"""What deploy/ has for Compose, systemd and Supervisor, read and run by these programs."""

import json
import subprocess
import unittest
from pathlib import Path

import yaml
from client import Client, listening, publish
from container import (
    APP,
    CONFIG,
    DEFAULT_PROFILE,
    OUR_PROFILE,
    REPOSITORY,
    Container,
    Machine,
    until,
)
from pages import lines

DOTENV = "".join(f"{name}={value}\n" for name, value in APP.items())
EMPTY_UNIT = "[Unit]\nDescription=nothing\n"
DRAIN_S = 5 + 3


class OnMachine(unittest.TestCase):
    """A test with a machine of its own."""

    def boot(self, command, environment=None, files=None):
        self.machine = Machine(command, environment or {}, files=files or {}, workdir="/src")
        self.addCleanup(self.machine.__exit__)

    def run_lines(self, commands):
        for command in commands:
            done = self.machine.run(["sh", "-c", command])
            self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def serves(self):
        """A broadcast arrives. Returns the client, still subscribed."""
        listening()
        browser = Client().subscribe("news")
        self.addCleanup(browser.close)
        self.assertEqual(publish("news", "E", "x"), 200)
        self.assertEqual(browser.hear()["event"], "E")
        return browser


class Systemd(OnMachine):
    """deploy/slapback.service under systemd as PID 1, with each of its restrictions in force."""

    def setUp(self):
        units = ["basic", "multi-user", "sysinit"]
        files = {f"/etc/systemd/system/{unit}.target": EMPTY_UNIT for unit in units}
        files["/etc/slapback/environment"] = DOTENV
        # Of the units that Debian has, none is started: they are for a kernel of one's own.
        environment = {"container": "test", "SYSTEMD_UNIT_PATH": "/etc/systemd/system"}
        command = ["/lib/systemd/systemd", "--unit=basic.target", "--log-target=null"]
        self.boot(command, environment, files)
        until(lambda: self.machine.run("systemctl is-system-running").stdout == "running\n")

    def show(self, name):
        return self.run_lines([f"systemctl show --property={name} --value slapback"]).strip()

    def install(self):
        # Type=exec: it is started before it listens.
        *commands, health = lines("systemd")
        self.run_lines(commands)
        listening()
        self.run_lines([health])

    def test_it_serves_on_io_uring_behind_every_restriction(self):
        self.install()
        self.serves()
        pid = int(self.show("MainPID"))
        of = self.machine.run(f"cat /proc/{pid}/status").stdout
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"]:
            self.assertIn(line, of)
        self.assertNotIn("Uid:\t0\t", of)
        self.assertIn("io_uring", self.machine.run(f"ls -l /proc/{pid}/fd").stdout)
        (root,) = self.run_lines([f"grep ' / ' /proc/{pid}/mounts"]).splitlines()
        self.assertEqual(root.split()[3].split(",")[0], "ro")

    def test_it_comes_back_after_any_end_but_a_configuration_that_cannot_be_served(self):
        self.install()
        for end in ["slapback restart", "kill -TERM {}", "kill -KILL {}"]:
            before = self.show("MainPID")
            self.run_lines([end.format(before)])
            until(lambda past=before: self.show("MainPID") not in ["0", past])
            self.serves()
        self.run_lines(["echo REVERB_SERVER_PORT=none >> /etc/slapback/environment"])
        self.machine.run("systemctl restart slapback")
        until(lambda: self.show("ActiveState") == "failed")
        self.assertEqual((self.show("ExecMainStatus"), self.show("NRestarts")), ("2", "0"))

    def test_a_reload_is_a_sighup_and_a_stop_is_a_drain(self):
        self.install()
        browser = self.serves()
        before = self.show("MainPID")
        self.run_lines(["systemctl reload slapback"])
        self.assertEqual(self.show("MainPID"), before)
        self.run_lines(["systemctl stop slapback"])
        self.assertEqual(browser.close_code(), 4100)
        self.assertEqual((self.show("ActiveState"), self.show("Result")), ("inactive", "success"))
        self.assertGreater(seconds(self.show("TimeoutStopUSec")), DRAIN_S)

    def test_systemd_finds_nothing_to_say_about_the_unit(self):
        self.run_lines(lines("systemd")[:1])
        verify = self.machine.run(
            ["env", "-u", "SYSTEMD_UNIT_PATH", "systemd-analyze", "verify", UNIT]
        )
        self.assertEqual((verify.returncode, verify.stdout + verify.stderr), (0, ""))
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", UNIT]
        security = self.machine.run(command)
        self.assertEqual(security.returncode, 0, security.stdout)


class Supervisor(OnMachine):
    """deploy/supervisor.conf under Supervisor."""

    def start(self, files):
        # What a login shell has for files is less than a server wants.
        limited = ["sh", "-c", 'ulimit -S -n 1024 && exec "$@"', "sh"]
        daemon = ["supervisord", "--nodaemon", "--configuration=/etc/supervisor/supervisord.conf"]
        self.boot([*limited, *daemon], files=files)
        self.machine.says("supervisord started")

    def state(self):
        return self.machine.run("supervisorctl status reverb").stdout.split()[1]

    def pid(self):
        return self.run_lines(["supervisorctl pid reverb"]).strip()

    def test_it_starts_restarts_and_stops(self):
        self.start({"/var/www/html/.env": DOTENV})
        *commands, health = lines("Supervisor and Forge")
        self.run_lines(commands)
        browser = self.serves()
        self.run_lines([health])
        first = self.pid()
        self.assertIn("Uid:\t33\t", self.machine.run(f"cat /proc/{first}/status").stdout)

        self.run_lines(["supervisorctl restart reverb"])
        self.assertEqual(browser.close_code(), 4100)
        browser = self.serves()
        second = self.pid()
        self.assertNotEqual(second, first)

        # That ends it with 0, and still it comes back.
        self.run_lines(["slapback reverb:restart"])
        self.assertEqual(browser.close_code(), 4100)
        until(lambda: self.state() == "RUNNING" and self.pid() != second)
        browser = self.serves()

        self.run_lines(["supervisorctl stop reverb"])
        self.assertEqual(browser.close_code(), 4100)
        self.assertEqual(self.state(), "STOPPED")
        log = self.machine.run("cat /var/log/supervisor/reverb.log").stdout
        self.assertEqual(log.count("INFO  Starting server on 0.0.0.0:8080."), 3)
        self.assertEqual(log.count("INFO  Gracefully terminating connections."), 3)

    def test_supervisor_itself_takes_its_section_when_it_starts(self):
        program = (REPOSITORY / "deploy/supervisor.conf").read_text()
        self.start({"/etc/supervisor/conf.d/reverb.conf": program})
        self.machine.says("Increased RLIMIT_NOFILE limit to 10000")

    def test_a_stop_has_more_time_than_a_drain_takes(self):
        text = (REPOSITORY / "deploy/supervisor.conf").read_text()
        (wait,) = [line for line in text.splitlines() if line.startswith("stopwaitsecs=")]
        self.assertGreater(int(wait.partition("=")[2]), DRAIN_S)


class Compose(OnMachine):
    """deploy/compose.yml as Compose understands it, against the image."""

    def setUp(self):
        self.boot(["sleep", "600"], files={"/stack/.env": DOTENV})
        self.run_lines(["cp /src/deploy/compose.yml /src/deploy/seccomp.json /stack/"])
        said = self.run_lines(["cd /stack && docker-compose config --format json"])
        self.stack = json.loads(said)
        self.reverb = self.stack["services"]["reverb"]

    def test_it_is_valid_and_its_server_is_the_image(self):
        reverb = self.reverb
        self.assertEqual(set(self.stack["services"]), {"app", "redis", "reverb", "traefik"})
        test, *check = reverb["healthcheck"]["test"]
        self.assertEqual((test, check), ("CMD", CONFIG["Healthcheck"]["Test"]))
        for name in ["interval", "timeout", "start_period", "retries"]:
            said = CONFIG["Healthcheck"][name.replace("_", "-")]
            self.assertEqual(str(reverb["healthcheck"][name]), said)
        port = reverb["labels"]["traefik.http.services.reverb.loadbalancer.server.port"]
        self.assertEqual(port, CONFIG["Port"])
        app = self.stack["services"]["app"]["environment"]
        self.assertEqual((app["REVERB_HOST"], app["REVERB_PORT"]), ("reverb", port))
        self.assertGreater(seconds(reverb["stop_grace_period"]), DRAIN_S)

    def test_the_server_runs_as_the_file_says(self):
        reverb = self.reverb
        self.assertIn("seccomp:./seccomp.json", reverb["security_opt"])
        self.assertEqual((reverb["cap_drop"], reverb["read_only"]), (["ALL"], True))
        options = {"environment": reverb["environment"], "read_only": True, "profile": OUR_PROFILE}
        with Container(reverb["command"], **options) as container:
            container.serves().says("driver: io_uring (self-test passed)")
            self.serves()
            self.assertTrue(container.is_healthy())
            self.assertEqual(container.stop(), 0)

    def test_without_what_may_be_left_out_only_the_image_line_is_new(self):
        text = (REPOSITORY / "deploy/compose.yml").read_text()
        kept, _, _ = text.partition("    # From here on it is for Slapback")
        service = yaml.safe_load(kept)["services"]["reverb"]
        self.assertEqual(set(service), {"image", "command", "env_file", "labels", "restart"})
        with Container(service["command"]) as container:
            container.serves()
            self.serves()


class Profile(unittest.TestCase):
    """deploy/seccomp.json against the profile it is made from."""

    def test_it_is_the_default_and_three_calls(self):
        made = subprocess.run(
            [REPOSITORY / "deploy/seccomp.sh"], check=True, capture_output=True
        ).stdout
        self.assertEqual(made, Path(OUR_PROFILE).read_bytes(), "make seccomp")
        default, ours = (
            json.loads(Path(path).read_text()) for path in [DEFAULT_PROFILE, OUR_PROFILE]
        )
        added = set()
        for before, after in zip(default["syscalls"], ours["syscalls"], strict=True):
            if before != after:
                self.assertEqual(after["action"], "SCMP_ACT_ALLOW")
                self.assertFalse(after["args"] or after["includes"] or after["excludes"])
                added |= set(after.pop("names")) - set(before.pop("names"))
        self.assertEqual(added, {"io_uring_enter", "io_uring_register", "io_uring_setup"})
        self.assertEqual(default, ours)

    def test_a_profile_that_has_a_rule_for_them_is_left_alone(self):
        command = [REPOSITORY / "deploy/seccomp.sh", OUR_PROFILE]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (5, ""))
        self.assertIn("the profile has a rule for io_uring already", done.stderr)


def seconds(text):
    """A time as Compose and systemd write it: `15s`."""
    assert text.endswith("s"), text
    return int(text[:-1])


UNIT = "/src/deploy/slapback.service"

if __name__ == "__main__":
    unittest.main()
