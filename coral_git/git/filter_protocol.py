"""Git's long-running filter process, protocol version 2 (``gitattributes(5)``).

The module imports next to nothing, so that the handshake is instant; whoever answers the requests is made
when the first one arrives. The content of a request is always read to its end, because git does not listen
before. The capability ``delay`` is announced for the sake of ``can-delay``, by which git says that an
answer goes to the work tree; "delayed" is never answered.
"""

from __future__ import annotations

import os
import sys

from coral_git.errors import CoralError, GitError
from coral_git.git.pktline import BUFFER_BYTES, PacketReader, PacketWriter, PipeClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol, Self

    from coral_git.types import Buffer

    class Handler(Protocol):
        """Answers requests. A method ``finish()``, if there is one, is called when git is done.

        The views of ``content`` are valid until the next one is drawn. Content may be left unread, and may
        not be read after the method has returned: an iterator that it returns is drawn when git has sent
        everything. A ``CoralError`` makes git report this file as failed; the process lives on.
        """

        def clean(self, request: Request, content: Iterator[memoryview]) -> Buffer | Iterable[Buffer]:
            """What git is to store for the content of a file."""

        def smudge(self, request: Request, content: Iterator[memoryview]) -> Buffer | Iterable[Buffer]:
            """What a file is to hold for the content that git has stored."""


_COMMANDS = ("clean", "smudge")
_CAPABILITIES = (b"capability=clean", b"capability=smudge", b"capability=delay")
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which the fcntl module has a name for on Linux only
_FAILURE = 1
_INTERRUPTED = 130


class Request:
    """What git asks.

    Attributes:
        command: ``"clean"`` or ``"smudge"``.
        pathname: the path, relative to the work tree.
        can_delay: whether the answer goes to the work tree, so that the file may be written later.
        blob: the id of the blob in hexadecimal, empty where git does not tell it.
        ref: the ref that is checked out, empty where git does not tell it.
        treeish: the id of the commit or tree, empty where git does not tell it.
    """

    __slots__ = ("blob", "can_delay", "command", "pathname", "ref", "treeish")

    def __init__(
        self,
        command: str,
        pathname: bytes,
        *,
        can_delay: bool = False,
        blob: str = "",
        ref: str = "",
        treeish: str = "",
    ) -> None:
        self.command = command
        self.pathname = pathname
        self.can_delay = can_delay
        self.blob = blob
        self.ref = ref
        self.treeish = treeish


class Content:
    """The content of one request: an iterator of views, each valid until the next one is drawn."""

    __slots__ = ("_reader", "_state")

    def __init__(self, reader: PacketReader) -> None:
        self._reader = reader
        self._state = "open"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> memoryview:
        if self._state == "open":
            packet = self._reader.read()
            if packet is not None:
                return packet
            self._state = "read"
        if self._state == "dropped":
            raise RuntimeError("content was read after its request had been answered")
        raise StopIteration

    def drain(self) -> None:
        """Read and drop what is left; from now on a read of what was dropped is an error."""
        while self._state == "open":
            self._state = "open" if self._reader.read() is not None else "dropped"


def serve(handler: Handler | Callable[[], Any], stdin_fd: int = 0, stdout_fd: int = 1) -> int:
    """Answer git's requests until it closes the pipe.

    Standard output leads to standard error from now on, and standard input to nothing, so that neither a
    stray message nor a child can touch the pipes to git.

    Args:
        handler: answers the requests, or a function that makes what does, called at the first request.
        stdin_fd: where git's packets come from.
        stdout_fd: where the answers go.

    Returns:
        The exit code: 0 after a regular end, 1 when git went away in the middle or ``finish`` failed.
    """
    private = [os.dup(stdin_fd), os.dup(stdout_fd)]
    try:
        if stdin_fd == 0:
            _redirect_to_null(0)
        if stdout_fd == 1:
            os.dup2(2, 1)
        return _Server(handler, *private).run()
    except PipeClosed:
        return _FAILURE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except GitError as error:
        _report(error)
        return _FAILURE
    finally:
        for fd in private:
            os.close(fd)


class _Server:
    """One conversation with git."""

    def __init__(self, handler: Handler | Callable[[], Any], stdin_fd: int, stdout_fd: int) -> None:
        self._make = handler
        self._handler: Any = None
        self._fds = (stdin_fd, stdout_fd)
        self._reader = PacketReader(stdin_fd)
        self._writer = PacketWriter(stdout_fd)

    def run(self) -> int:
        self._shake_hands()
        _enlarge_pipes(self._fds)
        while not self._reader.at_end():
            fields = dict(_split_field(line) for line in self._reader.read_lines())
            command = os.fsdecode(fields.get(b"command", b""))
            if command == "list_available_blobs":  # none, as nothing is ever delayed
                self._writer.write_lines()
                self._writer.write_lines(b"status=success")
            elif command in _COMMANDS:
                self._answer(_make_request(command, fields))
            else:
                raise GitError(f"git asked for {command!r}, which was not offered")
            self._writer.flush()
        return self._finish()

    def _shake_hands(self) -> None:
        try:
            welcome = self._reader.read_lines()
        except (GitError, PipeClosed):
            welcome = []
        if b"git-filter-client" not in welcome or b"version=2" not in welcome:
            raise GitError("this command is run by git itself", hint="see 'git coral --help'")
        self._writer.write_lines(b"git-filter-server", b"version=2")
        self._writer.flush()
        offered = self._reader.read_lines()
        self._writer.write_lines(*(capability for capability in _CAPABILITIES if capability in offered))
        self._writer.flush()

    def _answer(self, request: Request) -> None:
        """Answer one request; whatever goes wrong concerns this file only."""
        content = Content(self._reader)
        pieces: Iterator[Buffer] = iter(())
        started = False
        try:
            pieces = _pieces(self._call(request, content))
            content.drain()
            first = next(pieces, b"")
            self._writer.write_lines(b"status=success")
            started = True
            self._writer.write_content(first)
            for piece in pieces:
                self._writer.write_content(piece)
            self._writer.write_end()
            self._writer.write_lines()  # no news: the status stays what it was
        except PipeClosed:
            raise
        except Exception as error:  # noqa: BLE001 - git must get its answer, and the next file its chance
            content.drain()
            _report(error, request)
            if started:
                self._writer.write_end()
            self._writer.write_lines(b"status=error")
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _call(self, request: Request, content: Content) -> Buffer | Iterable[Buffer]:
        if self._handler is None:
            is_made = not isinstance(self._make, type) and hasattr(self._make, "clean")
            self._handler = self._make if is_made else self._make()  # type: ignore[operator]
        answer: Buffer | Iterable[Buffer] = getattr(self._handler, request.command)(request, content)
        return answer

    def _finish(self) -> int:
        finish = getattr(self._handler, "finish", None)
        if finish is not None:
            try:
                finish()
            except Exception as error:  # noqa: BLE001 - git has finished; all that is left is to say so
                _report(error)
                return _FAILURE
        return 0


def _split_field(line: bytes) -> tuple[bytes, bytes]:
    key, _, value = line.partition(b"=")
    return key, value


def _make_request(command: str, fields: dict[bytes, bytes]) -> Request:
    def text(name: bytes) -> str:
        return os.fsdecode(fields.get(name, b""))

    return Request(
        command,
        fields.get(b"pathname", b""),
        can_delay=fields.get(b"can-delay") == b"1",
        blob=text(b"blob"),
        ref=text(b"ref"),
        treeish=text(b"treeish"),
    )


def _pieces(answer: Buffer | Iterable[Buffer]) -> Iterator[Buffer]:
    if isinstance(answer, bytes | bytearray | memoryview):
        return iter((answer,))
    return iter(answer)


def _report(error: Exception, request: Request | None = None) -> None:
    """Say on stderr what went wrong, in git's manner; what could control a terminal is escaped."""
    from coral_git.errors import from_os_error
    from coral_git.manifest.escape import printable

    if os.environ.get("CORAL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    doing = "finish" if request is None else f"{request.command} '{os.fsdecode(request.pathname)}'"
    if isinstance(error, OSError):
        error = from_os_error(error, doing)
    if not isinstance(error, CoralError):
        what = f"cannot {doing}: {type(error).__name__}: {error}"
        error = CoralError(what, hint="this is a mistake in coral-git; CORAL_DEBUG=1 shows where")
    lines = [f"error: {line}" for line in error.message.split("\n")]
    lines += [f"hint: {line}" for line in error.hint.split("\n") if line]
    try:
        sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
        sys.stderr.flush()
    except (OSError, AttributeError):  # nobody listens
        return


def _enlarge_pipes(fds: tuple[int, int]) -> None:
    """Ask for pipes of 1 MiB (Linux): fewer switches between git and us."""
    try:
        import fcntl
    except ImportError:
        return
    for fd in fds:
        try:
            fcntl.fcntl(fd, _SET_PIPE_SIZE, BUFFER_BYTES)
        except OSError:
            continue


def _redirect_to_null(fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd)
    os.close(null)
