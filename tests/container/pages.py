"""What docs/deployment.md tells to run: its fenced blocks and the commands in its tables."""

import re
from dataclasses import dataclass

from container import REPOSITORY

TEXT = (REPOSITORY / "docs/deployment.md").read_text()


@dataclass
class Block:
    heading: str
    language: str
    text: str


def blocks():
    heading, found, block = None, [], None
    for line in TEXT.splitlines():
        if line.startswith("```"):
            if block is None:
                block = Block(heading, line[3:], "")
                found.append(block)
            else:
                block = None
        elif block is not None:
            block.text += line + "\n"
        elif line.startswith("## "):
            heading = line[3:]
    return found


def lines(heading):
    """The commands that stand under a heading."""
    found = [block.text for block in blocks() if (block.heading, block.language) == (heading, "sh")]
    assert found, f"no commands under {heading}"
    return "".join(found).splitlines()


def table_commands():
    """The command lines in the first column of a table."""
    return re.findall(r"^\| `((?:php|sh) .*?)`", TEXT, re.MULTILINE)
