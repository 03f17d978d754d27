"""The programs in ``docs/examples``, run as whoever reads them would, and killed on the way."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coral_git.testing.health import assert_store_healthy

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
SMALL = ("--steps", "12", "--every", "2", "--width", "32", "--layers", "1")


def losses_of(output: str) -> dict[int, str]:
    """The losses by step; where a step is there twice, it was the same."""
    found: dict[int, str] = {}
    for step, loss in re.findall(r"step (\d+): loss (\S+)", output):
        assert found.setdefault(int(step), loss) == loss
    return found


@pytest.fixture
def train(tmp_path, installed):
    """Runs the training in a repository; after so many lines it is killed."""

    def run(name: str, lines: int = 0) -> str:
        words = [sys.executable, str(EXAMPLES / "language_model.py"), "--repository", name, *SMALL]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            assert process.stdout is not None
            if not lines:
                output = process.stdout.read()
                assert process.wait() == 0
                return output
            output = "".join(process.stdout.readline() for _ in range(lines))
            process.send_signal(signal.SIGKILL)
            return output

    return run


def test_a_training_that_was_killed_has_the_same_losses(train, tmp_path, at, assert_healthy):
    whole = losses_of(train("whole"))
    assert sorted(whole) == list(range(1, 13))
    output = train("killed", lines=7)
    output += train("killed")
    assert re.search(r"goes on from step [246]\n", output)
    assert losses_of(output) == whole
    repo = at(tmp_path / "killed")
    assert_store_healthy(str(repo.path))
    assert repo.coral("experiment", "list").split()[1] == "finished"
    repo.coral("gc", "--prune", "now", "-q")  # what the killed process was writing
    assert_healthy(repo)
