"""The documentation says what the code does: reference pages, help, links, and the sessions in the guide."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import click
import pytest

import coral_git

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


# Reference pages


@pytest.mark.parametrize("name", ["cli.md", "config.md", "errors.md", "limits.md"])
def test_reference_page_is_current(name):
    page = ROOT / "docs" / "reference" / name
    assert page.read_text(encoding="utf-8") == generate.pages()[name], "run 'make docs'"


def test_every_command_and_option_has_help():
    for _, name, command in generate.commands():
        assert command.help, f"git coral {name}"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"git coral {name} {parameter.opts}"


def test_every_error_has_a_docstring_of_its_own():
    for error in generate.error_classes():
        assert error.__doc__, error


def test_every_environment_variable_is_documented():
    named = {
        name
        for path in Path(coral_git.__file__).parent.rglob("*.py")
        for name in re.findall(r"\bCORAL_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert named == set(generate.ENVIRONMENT)


# Pages that are written by hand


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def anchors(page: Path) -> set[str]:
    """The anchors that hosting sites make of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_index():
    seen: set[Path] = set()
    queue = [ROOT / "docs" / "index.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)\s:]+)\)", page.read_text(encoding="utf-8"))
        queue += [(page.parent / target.partition("#")[0]).resolve() for target in targets]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= seen


def test_every_finding_of_doctor_is_explained():
    source = Path(coral_git.__file__).parent / "repository" / "doctor.py"
    calls = (node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call))
    checks = {
        call.args[1].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "Finding"
        and isinstance(call.args[1], ast.Constant)
    }
    page = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text(encoding="utf-8")
    assert len(checks) > 5
    assert not [check for check in checks if f"`{check}`" not in page]


# The guide, carried out

_EXPECTED = re.compile(r"\s*# exit code (\d+)$")


@dataclass
class Step:
    """A command of a session, its exit code and what the page shows of its output; ``…`` is anything."""

    command: str
    code: int
    output: list[str] = field(default_factory=list)


def read_session(text: str) -> Iterator[Step]:
    """The commands in the ``console`` blocks of a page, in order."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        step: Step | None = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                found = _EXPECTED.search(line)
                step = Step(_EXPECTED.sub("", line[2:]), int(found[1]) if found else 0)
            elif step is not None:
                step.output.append(line)
        if step is not None:
            yield step


def is_shown_in(shown: list[str], printed: list[str]) -> bool:
    """Whether the lines of a page occur among those that were printed, in their order."""
    rest = iter(printed)
    for line in shown:
        pattern = re.compile(".*".join(map(re.escape, line.rstrip().split("…"))))
        if line.strip() != "…" and not any(pattern.fullmatch(one.rstrip()) for one in rest):
            return False
    return True


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Path:
    """A home without configuration, ``git-coral`` on the search path, and a folder to work in."""
    for name in list(os.environ):
        if name.startswith(("GIT_", "CORAL_")) or name == "CI":
            monkeypatch.delenv(name)
    programs = tmp_path / "bin"
    programs.mkdir()
    start = 'import sys; sys.argv[0] = "git-coral"; from coral_git.cli.entry import main; sys.exit(main())'
    source = Path(coral_git.__file__).resolve().parents[1]
    program = programs / "git-coral"
    program.write_text(f"#!/bin/sh\nPYTHONPATH='{source}' exec '{sys.executable}' -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    python = programs / "python3"
    python.write_text(f"#!/bin/sh\nPYTHONPATH='{source}' exec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        "[user]\n\tname = T\n\temail = t@example.org\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def run_session(steps: list[Step], folder: Path) -> list[tuple[int, list[str]]]:
    """Run commands in one shell; the exit code and the printed lines of each."""
    mark = "@@step@@"
    script = "".join(f"{step.command}\nprintf '\\n{mark} %d\\n' $?\n" for step in steps)
    done = subprocess.run(
        ["/bin/sh"],
        input=script,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    results = []
    lines: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith(mark):
            results.append((int(line.removeprefix(mark)), lines))
            lines = []
        else:
            lines.append(line)
    return results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "program"),
    [("getting-started.md", "make_model.py"), ("merging.md", "tune.py"), ("experiments.md", "train.py")],
)
def test_a_session_of_the_guide_works(shell, page, program):
    text = (ROOT / "docs" / "guide" / page).read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (shell / program).write_text(code)
    check_session(text, shell, least=16)


def check_session(text: str, folder: Path, least: int) -> None:
    """Carry out the commands of a page, and compare what they print with what it says."""
    steps = list(read_session(text))
    results = run_session(steps, folder)
    assert len(steps) == len(results) >= least
    for step, (code, printed) in zip(steps, results, strict=True):
        assert code == step.code, f"$ {step.command}\n" + "\n".join(printed)
        assert is_shown_in(step.output, printed), f"$ {step.command}\n" + "\n".join(printed)


@pytest.mark.slow
def test_the_session_of_the_examples_works(shell):
    examples = ROOT / "docs" / "examples"
    (shell / "language_model.py").write_bytes((examples / "language_model.py").read_bytes())
    check_session((examples / "README.md").read_text(encoding="utf-8"), shell, least=7)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["python.md", "training.md", "distributed.md"])
def test_the_programs_of_the_guide_work(shell, page):
    text = (ROOT / "docs" / "guide" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) > 1
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=shell, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_program_of_the_frameworks_works(shell, monkeypatch):
    for name, value in {
        "KERAS_BACKEND": "torch",
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": "file:mlruns",
        "PYTHONWARNINGS": "error:MLflowBridge failed,error:WandbBridge failed,error:a checkpoint was not",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    test_the_programs_of_the_guide_work(shell, "frameworks.md")
