"""The filter process: under the real git, and through bare pipes where git never misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import coral_git
from coral_git.errors import CoralError
from coral_git.git.filter_protocol import Content, Request, serve
from coral_git.git.pktline import FLUSH, MAX_PAYLOAD, encode_packet

ROOT = str(Path(coral_git.__file__).parent.parent)

HELLO = b"0016git-filter-client\n000eversion=2\n0000"
CAPABILITIES = b"0015capability=clean\n0016capability=smudge\n0015capability=delay\n0000"
WELCOME = b"0016git-filter-server\n000eversion=2\n0000" + CAPABILITIES
SUCCESS = b"0013status=success\n0000"
END = FLUSH + FLUSH
ERROR = b"0011status=error\n0000"

FILTER = """
import os, sys
sys.path.insert(0, {root!r})
from coral_git.git.filter_protocol import serve

def make():
    from coral_git.errors import CoralError

    class Handler:
        def clean(self, request, content):
            self.log(request)
            if b"early" in request.pathname:
                return b"early"
            if b"lazy" in request.pathname:
                return content
            if b"halfway" in request.pathname:
                next(content)
                raise CoralError("bad weights in 'x'", hint="mend them")
            if b"bug" in request.pathname:
                raise ZeroDivisionError("oops")
            print("a stray message")
            assert os.read(0, 1) == b"", "a child could read what git sends"
            return b"cleaned " + b"".join(map(bytes, content))

        def smudge(self, request, content):
            self.log(request)
            text = b"".join(map(bytes, content))
            if b"broken" in request.pathname:
                return self.broken()
            return iter([text[8:][:5], memoryview(text)[13:]])

        def broken(self):
            yield bytes(100_000)
            raise CoralError("object is damaged")

        def log(self, request):
            with open(os.environ["FILTER_LOG"], "ab") as log:
                log.write(b"%s %s delay=%d blob=%s ref=%s\\n" % (request.command.encode(), request.pathname,
                    request.can_delay, request.blob.encode(), request.ref.encode()))

        def finish(self):
            with open(os.environ["FILTER_LOG"], "ab") as log:
                log.write(b"finish\\n")

    return Handler()

sys.exit(serve(make))
"""


@pytest.fixture
def filtered(repo, tmp_path, monkeypatch):
    """A repository whose ``*.st`` go through the test filter, which notes its requests."""
    script = tmp_path / "filter.py"
    script.write_text(FILTER.format(root=ROOT))
    monkeypatch.setenv("FILTER_LOG", str(tmp_path / "log"))
    repo.git("config", "filter.t.process", f"'{sys.executable}' '{script}'")
    repo.git("config", "filter.t.required", "true")
    (repo.path / ".git/info/attributes").write_text("*.st filter=t\n")
    repo.log = lambda: (tmp_path / "log").read_bytes().splitlines()
    return repo


def staged(repo, name: str) -> bytes:
    return repo.run("cat-file", "blob", f":{name}").stdout


def test_add_and_checkout_through_git(filtered):
    content = bytes(range(256)) * 12_000  # many packets
    filtered.write("dir/größe \udcff\n.st", content)
    filtered.write("empty.st", b"")
    filtered.commit()
    assert staged(filtered, "empty.st") == b"cleaned "
    oid = filtered.git("rev-parse", ":empty.st")
    (filtered.path / "empty.st").unlink()
    (path,) = (filtered.path / "dir").iterdir()
    path.unlink()
    filtered.git("checkout", "--", ".")
    assert path.read_bytes() == content
    assert (filtered.path / "empty.st").read_bytes() == b""
    log = b"\n".join(filtered.log())
    assert b"clean dir/gr\xc3\xb6\xc3\x9fe \xff\n.st delay=0 blob= ref=\n" in log
    assert b"smudge empty.st delay=1 blob=%s ref=" % oid.encode() in log
    assert log.endswith(b"\nfinish")


def test_a_handler_that_does_not_read(filtered):
    filtered.write("early.st", bytes(3_000_000))
    filtered.write("next.st", b"weights")
    filtered.git("add", ".")
    assert staged(filtered, "early.st") == b"early"
    assert staged(filtered, "next.st") == b"cleaned weights"


def test_a_stray_message_goes_to_stderr(filtered):
    filtered.write("a.st", b"x")
    assert b"a stray message" in filtered.run("add", "a.st").stderr


@pytest.mark.parametrize("name", ["halfway", "bug", "lazy"])
def test_a_failed_file_does_not_end_the_process(filtered, name):
    filtered.git("config", "filter.t.required", "false")  # so that git goes on
    filtered.write(f"{name}.st", bytes(3_000_000))
    filtered.write("z.st", b"weights")
    stderr = filtered.run("add", ".").stderr.decode()
    assert staged(filtered, f"{name}.st") == bytes(3_000_000)
    assert staged(filtered, "z.st") == b"cleaned weights"
    assert filtered.log()[-1] == b"finish"
    expected = {
        "halfway": "error: bad weights in 'x'\nhint: mend them\n",
        "bug": "error: cannot clean 'bug.st': ZeroDivisionError: oops\n",
        "lazy": "content was read after",
    }
    assert expected[name] in stderr
    assert "Traceback" not in stderr


def test_traceback_on_request(filtered, monkeypatch):
    monkeypatch.setenv("CORAL_DEBUG", "1")
    filtered.write("bug.st", b"x")
    done = filtered.run("add", ".", check=False)
    assert done.returncode
    assert b"Traceback" in done.stderr


def test_an_answer_that_breaks_midway(filtered):
    filtered.write("broken.st", b"x")
    filtered.commit()
    (filtered.path / "broken.st").unlink()
    done = filtered.run("checkout", "--", "broken.st", check=False)
    assert done.returncode
    assert b"error: object is damaged\n" in done.stderr
    assert not (filtered.path / "broken.st").exists()


class Echo:
    """Answers with what it is told to, and notes what it was asked."""

    def __init__(self, answer=None) -> None:
        self.answer = answer
        self.asked: list[tuple] = []
        self.finished = 0

    def clean(self, request: Request, content: Content):
        data = b"".join(map(bytes, content))
        self.asked.append(
            (request.command, request.pathname, request.can_delay, request.ref, request.treeish, data)
        )
        return data if self.answer is None else self.answer(request)

    smudge = clean

    def finish(self) -> None:
        self.finished += 1


def converse(data: bytes, handler, read: bool = True) -> tuple[int, bytes]:
    """Send ``data`` and close; the exit code and what came back."""
    stdin, feeding = os.pipe()
    reading, stdout = os.pipe()
    received = bytearray()

    def feed() -> None:
        with os.fdopen(feeding, "wb") as file:
            file.write(data)

    def receive() -> None:
        with os.fdopen(reading, "rb") as file:
            received.extend(file.read())

    threads = [threading.Thread(target=feed), *([threading.Thread(target=receive)] if read else [])]
    if not read:
        os.close(reading)
    for thread in threads:
        thread.start()
    try:
        code = serve(handler, stdin, stdout)
    finally:
        os.close(stdin)
        os.close(stdout)
        for thread in threads:
            thread.join()
    return code, bytes(received)


def request(command: bytes, path: bytes, content: bytes, *fields: bytes) -> bytes:
    lines = [b"command=" + command, b"pathname=" + path, *fields]
    packets = [content[at : at + MAX_PAYLOAD] for at in range(0, len(content), MAX_PAYLOAD)]
    return (
        b"".join(encode_packet(line + b"\n") for line in lines)
        + FLUSH
        + b"".join(map(encode_packet, packets))
        + FLUSH
    )


def test_golden_conversation():
    handler = Echo()
    fields = (b"can-delay=1", b"ref=refs/heads/main", b"treeish=00ff", b"future=1")
    data = request(b"clean", b"a\nb=c", b"one") + request(b"smudge", b"x", b"two", *fields)
    code, answer = converse(HELLO + CAPABILITIES + data, handler)
    assert code == 0
    assert answer == WELCOME + SUCCESS + b"0007one" + END + SUCCESS + b"0007two" + END
    assert handler.asked == [
        ("clean", b"a\nb=c", False, "", "", b"one"),
        ("smudge", b"x", True, "refs/heads/main", "00ff", b"two"),
    ]
    assert handler.finished == 1


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"", b""),
        (bytearray(b"ab"), b"0006ab"),
        (memoryview(b"ab"), b"0006ab"),
        ([], b""),
        ([b"", b"ab", b"", b"c"], b"0007abc"),
        (bytes(MAX_PAYLOAD) + b"x", b"fff0" + bytes(MAX_PAYLOAD) + b"0005x"),
    ],
)
def test_kinds_of_answers(answer, content):
    code, received = converse(HELLO + CAPABILITIES + request(b"clean", b"a", b"1"), Echo(lambda _: answer))
    assert (code, received) == (0, WELCOME + SUCCESS + content + END)


def test_only_what_git_offers_is_taken():
    _, answer = converse(HELLO + b"0015capability=clean\n0014capability=warp\n0000", Echo())
    assert answer == b"0016git-filter-server\n000eversion=2\n00000015capability=clean\n0000"


def test_nothing_is_ever_available_later():
    data = encode_packet(b"command=list_available_blobs\n") + FLUSH
    assert converse(HELLO + CAPABILITIES + data, Echo()) == (0, WELCOME + FLUSH + SUCCESS)


def test_errors_before_and_after_the_first_piece():
    def answer(asked):
        if asked.pathname == b"late":
            yield b"some"
        raise CoralError("no")

    data = request(b"smudge", b"early", b"") + request(b"smudge", b"late", b"")
    code, received = converse(HELLO + CAPABILITIES + data, Echo(answer))
    assert code == 0
    assert received == WELCOME + ERROR + SUCCESS + b"0008some" + FLUSH + ERROR


def test_the_handler_is_made_at_the_first_request():
    made = []

    def make():
        made.append(Echo())
        return made[-1]

    assert converse(HELLO + CAPABILITIES, make)[0] == 0
    assert not made
    data = request(b"clean", b"a", b"") * 2
    assert converse(HELLO + CAPABILITIES + data, make)[0] == 0
    assert [handler.finished for handler in made] == [1]
    assert converse(HELLO + CAPABILITIES + data, Echo)[1] == WELCOME + (SUCCESS + END) * 2


def test_a_handler_that_cannot_be_made_fails_each_file(capfd):
    def make():
        raise CoralError("no store \x1b[31mhere", hint="first line\nsecond line")

    data = request(b"clean", b"a", bytes(200_000)) * 2
    assert converse(HELLO + CAPABILITIES + data, make) == (0, WELCOME + ERROR * 2)
    stderr = capfd.readouterr().err
    assert stderr == "error: no store \\x1b[31mhere\nhint: first line\nhint: second line\n" * 2


@pytest.mark.parametrize("cut", [0, 3, 20, len(HELLO)])
def test_a_handshake_that_breaks_off(cut):
    assert converse((HELLO + CAPABILITIES)[:cut], Echo())[0] == 1


def test_somebody_else_calls(capfd):
    assert converse(b"GET / HTTP/1.1\r\n", Echo()) == (1, b"")
    assert (
        capfd.readouterr().err == "error: this command is run by git itself\nhint: see 'git coral --help'\n"
    )


def test_git_goes_away_in_mid_request(capfd):
    whole = HELLO + CAPABILITIES + request(b"clean", b"a", bytes(100_000))
    for cut in (len(whole) - 1, len(whole) - 4, len(whole) - 50_000, len(HELLO + CAPABILITIES) + 9):
        handler = Echo()
        code, answer = converse(whole[:cut], handler)
        assert (code, answer) == (1, WELCOME)
        assert not handler.finished
    assert capfd.readouterr().err == ""


def test_nobody_takes_the_answer(capfd):
    assert converse(HELLO + CAPABILITIES + request(b"clean", b"a", b"x"), Echo(), read=False)[0] == 1
    assert capfd.readouterr().err == ""


def test_a_broken_pipe_of_the_handler_is_not_gits():
    def answer(_):
        raise BrokenPipeError(32, "Broken pipe")

    data = request(b"clean", b"a", b"x")
    assert converse(HELLO + CAPABILITIES + data, Echo(answer)) == (0, WELCOME + ERROR)


def test_the_iterator_of_an_abandoned_answer_is_closed():
    closed = []

    def answer(_):
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            closed.append(True)

    stdin, feeding = os.pipe()
    reading, stdout = os.pipe()
    os.write(feeding, HELLO + CAPABILITIES + request(b"smudge", b"a", b"x"))

    def leave() -> None:
        got = b""
        while len(got) <= len(WELCOME):
            got += os.read(reading, 4096)
        os.close(reading)

    thread = threading.Thread(target=leave)
    thread.start()
    assert serve(Echo(answer), stdin, stdout) == 1
    thread.join()
    assert closed == [True]
    for fd in (stdin, feeding, stdout):
        os.close(fd)


def test_ctrl_c_is_quiet(capfd):
    def answer(_):
        raise KeyboardInterrupt

    handler = Echo(answer)
    assert converse(HELLO + CAPABILITIES + request(b"clean", b"a", b"x"), handler) == (130, WELCOME)
    assert not handler.finished
    assert capfd.readouterr().err == ""


def test_finish_that_fails(capfd):
    class Failing(Echo):
        def finish(self) -> None:
            raise CoralError("disk is full")

    assert converse(HELLO + CAPABILITIES + request(b"clean", b"a", b""), Failing())[0] == 1
    assert "error: disk is full\n" in capfd.readouterr().err


def test_views_are_of_one_buffer():
    lengths = []

    class Handler(Echo):
        def clean(self, request, content):
            owners = set()
            for view in content:
                owners.add(id(view.obj))
                lengths.append(len(view))
            assert len(owners) == 1
            return b""

    code, answer = converse(HELLO + CAPABILITIES + request(b"clean", b"a", bytes(5_000_000)), Handler())
    assert (code, answer) == (0, WELCOME + SUCCESS + END)
    assert sum(lengths) == 5_000_000


ALLOWED = {
    "coral_git",
    "coral_git.git",
    "coral_git.git.filter_protocol",
    "coral_git.git.pktline",
    "coral_git.errors",
}


def test_the_handshake_imports_next_to_nothing():
    code = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
before = set(sys.modules)
from coral_git.git.filter_protocol import serve
def make():
    raise SystemExit
code = serve(make)
sys.stderr.write(" ".join(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], input=HELLO + CAPABILITIES, capture_output=True, check=True
    )
    assert done.stdout == WELCOME
    loaded = set(done.stderr.decode().split())
    assert {"coral_git.git.filter_protocol", "coral_git.git.pktline"} <= loaded
    assert loaded <= ALLOWED | {"__future__", "errno", "fcntl"}
