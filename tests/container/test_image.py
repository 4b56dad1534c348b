"""The image: every command line that a deployment of Reverb has, health, signals, confinement."""

import signal
import tempfile
import unittest
from pathlib import Path

from client import Client, publish, status
from container import APP, CONFIG, DEFAULT_PROFILE, GRACE_S, OUR_PROFILE, Container, until

NOTHING = ["sleep", "60"]
CURL = "curl --silent --fail http://localhost:8080/up > /dev/null || exit 1"


class CommandLines(unittest.TestCase):
    """What stood in a compose file for Reverb's container goes on standing there."""

    def serves(self, command, **options):
        with self.subTest(command=command, **options), Container(command, **options) as container:
            container.serves()
            self.assertEqual(status("/up"), 200)
            self.assertTrue(container.is_healthy())
            with Client() as browser:
                browser.subscribe("news")
                self.assertEqual(publish("news", "E", "x"), 200)
                self.assertEqual(browser.hear(), {"event": "E", "data": "x", "channel": "news"})
            self.assertEqual(container.stop(), 0)
            return container.said()

    def test_without_a_command_it_serves_on_8080(self):
        said = self.serves(None)
        self.assertIn("INFO  Starting server on 0.0.0.0:8080.", said)
        self.assertEqual(CONFIG["Port"], "8080")

    def test_reverbs_command_lines_start_it(self):
        for command in [
            "php artisan reverb:start",
            "php artisan reverb:start --host=0.0.0.0 --port=8080",
            'php artisan reverb:start --host="0.0.0.0" --hostname=ws.example.com --debug',
            "php artisan reverb:start --host 0.0.0.0 --port 8080 --no-interaction -v",
            "php /var/www/html/artisan reverb:start --debug",
            "/usr/bin/php /var/www/html/artisan reverb:start",
            "/usr/local/bin/php artisan reverb:start",
            "php -d memory_limit=512M artisan --env=production --ansi reverb:start",
            "php artisan --env production reverb:start",
            ["php", "artisan", "reverb:start"],
            "slapback reverb:start",
        ]:
            said = self.serves(command)
            self.assertEqual("--debug" in command, "pusher:subscribe" in said, said)

    def test_it_starts_under_a_shell_and_by_an_entrypoint(self):
        self.serves(["sh", "-c", "php artisan reverb:start"])
        self.serves(["/bin/bash", "-c", "exec php artisan reverb:start"])
        self.serves('sh -c "php artisan config:cache && php artisan reverb:start --debug"')
        self.serves(None, entrypoint=["php", "artisan", "reverb:start"])
        self.serves(["--host=0.0.0.0"], entrypoint="php artisan reverb:start")

    def test_any_other_artisan_command_says_one_line_and_succeeds(self):
        for command in ["queue:work --tries=3", "migrate --force", "schedule:work", "--version"]:
            with Container(f"php artisan {command}") as container:
                self.assertEqual(container.exit_code(), 0, command)
                (line,) = container.said().splitlines()
                self.assertTrue(line.startswith("slapback: artisan "), line)
                self.assertIn("nothing to do in this image", line)

    def test_what_is_not_artisan_fails_with_one_line(self):
        for command in ["php", "php -v", "php -r 'echo 1;'", "php vendor/bin/pest"]:
            with Container(command) as container:
                self.assertEqual(container.exit_code(), 127, command)
                (line,) = container.said().splitlines()
                self.assertTrue(line.startswith("slapback: there is no PHP in this image"), line)

    def test_without_an_app_it_says_what_is_missing_and_leaves_with_2(self):
        with Container(environment={}) as container:
            self.assertEqual(container.exit_code(), 2)
            self.assertIn(
                "set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET", container.said()
            )


class Health(unittest.TestCase):
    def test_it_passes_while_the_server_serves_and_fails_when_none_does(self):
        with Container() as container:
            container.serves()
            self.assertTrue(container.is_healthy())
            self.assertEqual(container.run(["sh", "-c", CURL]).returncode, 0)
        with Container(NOTHING) as container:
            self.assertFalse(container.is_healthy())
            self.assertEqual(container.run(["sh", "-c", CURL]).returncode, 1)

    def test_it_fails_while_the_server_is_leaving(self):
        with Container(environment={**APP, "SLAPBACK_DRAIN_DELAY": "600"}) as container:
            container.serves().signal(signal.SIGTERM)
            container.says("Gracefully terminating connections.")
            until(lambda: not container.is_healthy())
            self.assertEqual(status("/up"), 503)
            container.signal(signal.SIGTERM)
            self.assertEqual(container.exit_code(), 0)

    def test_it_asks_at_the_port_and_path_of_the_environment(self):
        with Container(
            environment={**APP, "REVERB_SERVER_PORT": "6001", "REVERB_SERVER_PATH": "ws"}
        ) as container:
            container.serves()
            self.assertTrue(container.is_healthy())
            self.assertEqual(status("/ws/up", port=6001), 200)

    def test_it_asks_at_the_port_and_path_of_the_command_line(self):
        flags = "--port=6001 --path=ws"
        for command in [
            f"slapback start {flags}",
            f"php artisan reverb:start {flags}",
            ["sh", "-c", f"php artisan reverb:start {flags}"],
        ]:
            with Container(command, environment={**APP, "REVERB_SERVER_PORT": "8080"}) as container:
                container.serves()
                self.assertTrue(container.is_healthy(), command)
                self.assertEqual(status("/ws/up", port=6001), 200)


class Signals(unittest.TestCase):
    """It is PID 1, to which the kernel passes on only what it has asked for."""

    def test_it_is_the_first_process(self):
        for command in [None, "php artisan reverb:start", ["sh", "-c", "php artisan reverb:start"]]:
            with Container(command) as container:
                container.serves()
                self.assertEqual(container.run("cat /proc/1/comm").stdout, "slapback\n")

    def test_a_stop_drains_and_ends_with_0_before_the_engine_kills(self):
        for number in [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]:
            with Container() as container:
                container.serves()
                browsers = [Client().subscribe("news") for _ in range(20)]
                container.signal(number)
                self.assertEqual([browser.close_code() for browser in browsers], [4100] * 20)
                for browser in browsers:
                    browser.close()
                self.assertEqual(container.exit_code(GRACE_S), 0)
                self.assertIn("INFO  Gracefully terminating connections.", container.said())

    def test_a_second_signal_ends_it_at_once(self):
        with Container(environment={**APP, "SLAPBACK_DRAIN_SECONDS": "600"}) as container:
            container.serves()
            with Client(), Client():
                container.signal(signal.SIGTERM)
                container.says("Gracefully terminating connections.")
                container.signal(signal.SIGTERM)
                self.assertEqual(container.exit_code(), 0)

    def test_sighup_does_not_end_it(self):
        with Container() as container:
            container.serves()
            with Client() as browser:
                container.signal(signal.SIGHUP)
                browser.subscribe("news")
                self.assertEqual(publish("news", "E", "x"), 200)
                self.assertEqual(browser.hear()["event"], "E")
            self.assertEqual(container.stop(), 0)


class Restart(unittest.TestCase):
    """`reverb:restart` ends the server with 0, and the engine starts the container again."""

    def test_reverbs_command_drains_the_server_of_the_container(self):
        for command in [None, "php artisan reverb:start --port=8080"]:
            with Container(command) as container:
                container.serves()
                with Client() as browser:
                    done = container.run("php artisan reverb:restart")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIn("INFO  Broadcasting Reverb restart signal.", done.stdout)
                    self.assertEqual(browser.close_code(), 4100)
                self.assertEqual(container.exit_code(GRACE_S), 0)

    def test_where_no_server_runs_it_is_no_failure(self):
        with Container("php artisan reverb:restart") as container:
            self.assertEqual(container.exit_code(), 0)


class Confinement(unittest.TestCase):
    def test_it_runs_as_nobody_in_particular_without_capabilities(self):
        with Container() as container:
            of = container.serves().status()
            self.assertEqual((of["Uid"].split(), of["Gid"].split()), (["10001"] * 4, ["10001"] * 4))
            self.assertEqual(
                {of[f"Cap{kind}"] for kind in ["Inh", "Prm", "Eff", "Bnd"]}, {"0" * 16}
            )
            self.assertEqual((of["NoNewPrivs"], of["Seccomp"]), ("1", "2"))

    def test_any_other_user_will_do(self):
        for user in ["33:33", "1000:1000", "0:0"]:
            with Container(user=user) as container:
                container.serves()
                self.assertTrue(container.is_healthy())
                self.assertEqual(container.status()["Uid"].split()[0], user.split(":")[0])

    def test_a_read_only_root_is_enough(self):
        with Container(read_only=True) as container:
            container.serves()
            self.assertEqual(container.run("touch /usr/local/bin/php", user="0:0").returncode, 1)
            self.assertTrue(container.is_healthy())
            self.assertEqual(container.stop(), 0)

    def test_it_changes_no_file(self):
        with Container(user="0:0") as container:
            container.serves()
            container.run("touch /app/mark")
            changed = container.run("find / -xdev -newer /proc/1 -type f").stdout
            self.assertEqual(changed, "/app/mark\n")

    def test_a_dotenv_mounted_in_the_working_directory_is_read(self):
        text = "REVERB_APP_ID=1\nREVERB_APP_KEY=dotenv-key\nREVERB_APP_SECRET=s\n"
        text += "REVERB_SERVER_PORT=9000\n"
        for workdir in ["/app", "/var/www/html"]:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(text)
                file.flush()
                Path(file.name).chmod(0o644)
                binds = {file.name: f"{workdir}/.env"}
                with Container(environment={}, workdir=workdir, binds=binds) as container:
                    container.serves()
                    Client(key="dotenv-key", port=9000).close()
                    self.assertTrue(container.is_healthy())

    def test_the_default_profile_leaves_epoll_and_ours_allows_io_uring(self):
        for profile, driver in [
            (
                DEFAULT_PROFILE,
                "driver: epoll (io_uring is not available here (Function not implemented",
            ),
            (OUR_PROFILE, "driver: io_uring (self-test passed)"),
        ]:
            with Container(profile=profile) as container:
                line = container.serves().says("driver: ")
                self.assertIn(driver, line)
                hint = "io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
                self.assertEqual(profile == DEFAULT_PROFILE, hint in line, line)
                with Client() as browser:
                    browser.subscribe("news")
                    self.assertEqual(publish("news", "E", "x"), 200)
                    self.assertEqual(browser.hear()["event"], "E")


if __name__ == "__main__":
    unittest.main()
