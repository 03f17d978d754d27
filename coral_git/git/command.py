"""The only module that runs the git binary.

The binary is looked up once, in the absolute entries of the search path, so that a ``git`` in the current
directory is never run. Messages are asked for in English, because some of them are read.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import IO

from coral_git.errors import GitError, UsageError

_REPOSITORY_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_CEILING_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DEFAULT_HASH",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INDEX_VERSION",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_PUSH_OPTION_COUNT",
        "GIT_QUARANTINE_PATH",
        "GIT_REFLOG_ACTION",
        "GIT_REF_PARANOIA",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_TEMPLATE_DIR",
        "GIT_WORK_TREE",
    }
)
"""The variables by which git tells a child about one repository; they must not reach another one."""

_PATHSPEC_VARIABLES = frozenset(
    {"GIT_GLOB_PATHSPECS", "GIT_ICASE_PATHSPECS", "GIT_LITERAL_PATHSPECS", "GIT_NOGLOB_PATHSPECS"}
)
"""What the user asked of one command must not change the meaning of the pathspecs we pass."""

_MESSAGE_LINES = 6
_STDERR_BYTES = 1 << 16
_TAKE_A_VALUE = frozenset(
    {"-c", "-C", "--git-dir", "--work-tree", "--namespace", "--exec-path", "--config-env"}
)

Process = subprocess.Popen[bytes]
"""A git that runs beside us."""


@lru_cache(maxsize=1)
def executable() -> str:
    """The path of the git binary.

    Raises:
        GitError: there is none.
    """
    name = "git.exe" if os.name == "nt" else "git"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise GitError("there is no git on the search path", hint="install git 2.35 or newer")


def clean_environment() -> dict[str, str]:
    """The environment without what git says about the calling repository; the user's settings stay."""
    return {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}


class Git:
    """Runs git in one place.

    Args:
        directory: where git is started; the current directory by default.
        env: the whole environment of git; that of this process by default.
    """

    def __init__(self, directory: str | None = None, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._env = env

    @classmethod
    def elsewhere(cls, git_dir: str) -> Git:
        """Git for another repository, whatever repository this process was called for."""
        place = os.path.abspath(git_dir)
        return cls(place, {**clean_environment(), "GIT_DIR": place})

    @cached_property
    def version(self) -> tuple[int, ...]:
        """The version of the git binary, e.g. ``(2, 39, 5)``."""
        words = self.run("version").decode().split()
        numbers = words[2].split(".") if len(words) > 2 else []
        return tuple(int(number) for number in numbers[:3] if number.isdigit())

    def run(
        self, *args: str, input: bytes = b"", check: bool = True, env: Mapping[str, str] | None = None
    ) -> bytes:
        """Standard output of ``git <args>``.

        Args:
            args: the arguments after ``git``.
            input: what git reads on its standard input.
            check: whether a failure is an error; without, what was printed before it is returned.
            env: variables to add to the environment.

        Raises:
            GitError: git failed and ``check`` is set; the message carries what it said.
        """
        with self._refusal():
            done = subprocess.run(
                [executable(), *args],
                input=input,
                capture_output=True,
                cwd=self.directory,
                env=self._environment(env),
                check=False,
            )
        if check and done.returncode:
            raise failure(args, done.returncode, done.stderr)
        return done.stdout

    def succeeds(self, *args: str) -> bool:
        """Whether ``git <args>`` exits with 0; what it prints is dropped."""
        with self._refusal():
            done = subprocess.run(
                [executable(), *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.directory,
                env=self._environment(None),
                check=False,
            )
        return done.returncode == 0

    def call(self, *args: str, env: Mapping[str, str] | None = None, apart: bool = False) -> int:
        """Run ``git <args>`` for the user, on the terminal of this process, and return its exit code.

        Args:
            args: the arguments after ``git``.
            env: variables to add to the environment.
            apart: whether what git prints goes to standard error: the result is this process's to print.
        """
        with self._refusal():
            done = subprocess.run(
                [executable(), *args],
                cwd=self.directory,
                stdout=sys.stderr.fileno() if apart else None,
                env={**(os.environ if self._env is None else self._env), **(env or {})},
                check=False,
            )
        return done.returncode if done.returncode >= 0 else 128 - done.returncode

    def ask(self, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Run ``git <args>`` with nothing on the terminal: its exit code, and all that it printed.

        Args:
            args: the arguments after ``git``.
            env: variables to add to the environment.
        """
        with self._refusal():
            done = subprocess.run(
                [executable(), *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment(env),
                check=False,
            )
        return done.returncode, done.stdout

    @contextlib.contextmanager
    def stream(self, *args: str) -> Iterator[IO[bytes]]:
        """Standard output of ``git <args>`` as a file, while git writes it.

        A block that ends before it has read everything ends git too, and that is no failure.

        Raises:
            GitError: at the end of the block, when git failed.
        """
        with self.start(*args, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.close()
            said = _Tail(process.stderr)
            try:
                yield process.stdout
            except BaseException:
                process.stdout.close()
                said.read()  # or its thread might read a descriptor that is another thread's by then
                raise
            cut_short = bool(process.stdout.read(1))
            process.stdout.close()
            message = said.read()
            if process.wait() and not cut_short:
                raise failure(args, process.returncode, message)

    def start(self, *args: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
        """Start a long-lived ``git <args>`` with pipes to its standard input and output.

        Raises:
            GitError: it cannot be started.
        """
        with self._refusal():
            return subprocess.Popen(
                [executable(), *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self.directory,
                env=self._environment(None),
            )

    @contextlib.contextmanager
    def _refusal(self) -> Iterator[None]:
        """Translate the error of an operating system that does not start git."""
        try:
            yield
        except OSError as error:
            place = f" in '{self.directory}'" if self.directory else ""
            raise GitError(f"cannot run git{place}: {(error.strerror or str(error)).lower()}") from error

    def _environment(self, added: Mapping[str, str] | None) -> dict[str, str]:
        base = os.environ if self._env is None else self._env
        kept = {name: value for name, value in base.items() if name not in _PATHSPEC_VARIABLES}
        return {**kept, "LC_ALL": "C", **(added or {})}


def run_for_user(line: str, directory: str) -> tuple[int, bytes]:
    """Run a line that the user typed, by the shell; its standard error is that of this process.

    Nothing but an argument of a command of coral-git may come here, never what a repository says.

    Returns:
        The exit code, and what it printed.
    """
    done = subprocess.run(
        line,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=directory,
        check=False,
    )
    return done.returncode, done.stdout


def call_for_user(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command that the user typed, on the terminal of this process, and return its exit code.

    Nothing but arguments of a command of coral-git may come here, never what a repository says.

    Args:
        command: the program and its arguments.
        env: variables to add to the environment.

    Raises:
        UsageError: there is no such program, or it may not be run.
    """
    try:
        done = subprocess.run(list(command), env={**os.environ, **env}, check=False)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot run {command[0]!a}: {reason}") from error
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


class _Tail:
    """Reads a pipe beside the reader of another one, and keeps the end of what came."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def read(self) -> bytes:
        """Wait for the end of the pipe and give what was kept."""
        self._thread.join()
        return self._kept

    def _follow(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed by who gave up on the process
            while piece := os.read(self._pipe.fileno(), _STDERR_BYTES):
                self._kept = (self._kept + piece)[-_STDERR_BYTES:]


def failure(args: tuple[str, ...], status: int, stderr: bytes) -> GitError:
    """The error for a git that failed; control characters in what it said are escaped."""
    text = stderr.decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip()][-_MESSAGE_LINES:]
    said = "\n".join(
        "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line) for line in lines
    )
    subcommand = next(plain_words(args), "")  # alone: values of options may hold what must not be shown
    what = f"git {subcommand} failed ({status})"
    return GitError(f"{what}: {said}" if said else what)


def plain_words(args: Iterable[str], take_a_value: Container[str] = _TAKE_A_VALUE) -> Iterator[str]:
    """The arguments that are neither options nor values of options; after ``git``, the subcommand first.

    Args:
        args: the arguments.
        take_a_value: options whose value is the argument after them; by default git's own.
    """
    words = iter(args)
    for word in words:
        if word in take_a_value:
            next(words, None)
        elif not word.startswith("-"):
            yield word
