"""The commands that git calls: the filter process, one-shot clean and smudge, and the merge driver.

Nothing is imported before it is needed: the handshake of the filter process must be instant.
"""

from __future__ import annotations

import sys


def run(command: str, arguments: list[str]) -> int:
    """Run one of the commands; errors are printed in git's manner."""
    if command == "filter-process":
        return _filter_process()
    from coral_git.errors import CoralError

    try:
        if command == "merge-driver":
            return _merge_driver(arguments)
        return _one_shot(command, arguments)
    except CoralError as error:
        print(f"error: {error.message}", file=sys.stderr)
        for line in error.hint.splitlines():
            print(f"hint: {line}", file=sys.stderr)
        return error.exit_code


def _filter_process() -> int:
    from coral_git.git.filter_protocol import serve

    def make_filter() -> object:
        from coral_git.pipeline.filter import CoralFilter

        return CoralFilter()

    return serve(make_filter)


def _one_shot(command: str, arguments: list[str]) -> int:
    """``clean`` and ``smudge`` for programs that cannot talk to a filter process: content in, content out."""
    import os

    from coral_git.errors import UsageError
    from coral_git.git.filter_protocol import Request
    from coral_git.pipeline.filter import CoralFilter

    paths = [argument for argument in arguments if argument != "--"]
    if len(paths) != 1:
        raise UsageError(f"'{command}' takes one path", hint=f"git coral {command} -- PATH <content")
    request = Request(command, os.fsencode(paths[0]))
    handler = CoralFilter()
    content = iter(lambda: sys.stdin.buffer.read(1 << 20), b"")
    answer = handler.clean(request, content) if command == "clean" else handler.smudge(request, content)
    for piece in [answer] if isinstance(answer, bytes) else answer:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    handler.finish()
    return 0


def _merge_driver(arguments: list[str]) -> int:
    from coral_git.merge.driver import merge_files

    return merge_files(arguments)
