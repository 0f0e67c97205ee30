"""The README is short, and the screen of its quickest command is today's; its Python blocks are tests of their own."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from undertow.cli import app

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def test_the_readme_fits_two_screens():
    assert len(README.splitlines()) <= 110


@pytest.mark.parametrize("command", ["theory"])
def test_a_command_prints_what_the_readme_shows(command):
    line, screen = re.search(rf"undertow ({command} .*)\n```\n\n```text\n(.*?)```", README, re.S).groups()
    done = CliRunner().invoke(app, shlex.split(line), env={"COLUMNS": "110"})
    assert done.exit_code == 0
    assert done.output.startswith(screen)
