"""What the fault tests have counted is shown at the end of the run."""

import shutil
import subprocess

import pytest

COUNTED = "counted"


@pytest.fixture
def counted(record_property):
    """Say how many faults of which outcome a test has seen: counted("bits flipped", refused=3, same=1)."""

    def say(what, **outcomes):
        record_property(COUNTED, f"{what}: " + ", ".join(f"{n} {how.replace('_', ' ')}" for how, n in outcomes.items()))

    return say


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    asked = [str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if mount is None or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def pytest_terminal_summary(terminalreporter):
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, [])]
    lines = [value for one in reports for key, value in getattr(one, "user_properties", []) if key == COUNTED]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
