"""Every command of docs/deployment.md does what the page says."""

import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml
from container import OUR_PROFILE, REPOSITORY, Container
from pages import blocks, lines, table_commands


class Pages(unittest.TestCase):
    def test_every_block_is_one_that_is_run_or_is_for_the_operators_docker(self):
        run_elsewhere = {"systemd", "Supervisor and Forge", "Health", "io_uring", "Restart"}
        for block in blocks():
            with self.subTest(block=block):
                match block.language:
                    case "sh":
                        self.assertIn(block.heading, run_elsewhere)
                    case "console":
                        for line in block.text.splitlines():
                            self.assertRegex(line, r"^\$ (docker|make image)( |$)")
                    case "yaml":
                        self.assertEqual(
                            yaml.safe_load(block.text)["services"]["reverb"]["image"], "slapback"
                        )
                    case other:
                        self.fail(f"{other} is run by nobody")

    def test_the_command_lines_of_its_table(self):
        commands = table_commands()
        self.assertGreaterEqual(len(commands), 5)
        for command in commands:
            with self.subTest(command=command), Container(command) as container:
                if "reverb:start" in command:
                    container.serves()
                    self.assertEqual(container.stop(), 0)
                else:
                    fails = "artisan" not in command
                    self.assertEqual(container.exit_code(), 127 if fails else 0)

    def test_the_health_checks(self):
        with Container() as container:
            container.serves()
            for line in lines("Health"):
                done = container.run(line)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, r"io_uring +does not work +io_uring is not available")

    def test_the_restart(self):
        (line,) = lines("Restart")
        with Container() as container:
            container.serves()
            self.assertEqual(container.run(line).returncode, 0)
            self.assertEqual(container.exit_code(), 0)

    def test_a_profile_of_ones_own(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "deploy").symlink_to(REPOSITORY / "deploy")
            for line in lines("io_uring"):
                subprocess.run(["sh", "-c", line], cwd=folder, check=True)
            made = Path(folder, "seccomp.json").read_bytes()
        self.assertEqual(made, Path(OUR_PROFILE).read_bytes())


if __name__ == "__main__":
    unittest.main()
