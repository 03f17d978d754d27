"""Feed mutated files to one format reader: ``python tests/fuzz/fuzz_formats.py NAME tests/fuzz/corpus/NAME``.

Needs atheris (``pip install atheris``). The reader may refuse with NotThisFormat; anything else is a find.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import atheris

with atheris.instrument_imports():
    import coral_git.formats

    for module in pkgutil.iter_modules(coral_git.formats.__path__):  # some are loaded when they are used
        importlib.import_module(f"coral_git.formats.{module.name}")
    from coral_git.formats.base import HEAD_BYTES, NotThisFormat
    from coral_git.formats.registry import READERS, check_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

NAME = sys.argv.pop(1)
READER = next(reader for reader in READERS if reader.name == NAME)


def one_input(data: bytes) -> None:
    """Read one file."""
    if READER.sniff(data[:HEAD_BYTES], len(data)):
        try:
            check_layout(READER.layout(BytesSource(data), DEFAULT_LIMITS), len(data), DEFAULT_LIMITS)
        except NotThisFormat:
            return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
