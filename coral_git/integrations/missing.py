"""What is said when a framework is not installed."""

from __future__ import annotations


def missing(error: ImportError, module: str, extra: str) -> ImportError:
    """The error to raise: one line with the command that installs what is needed.

    Args:
        error: what the import failed with.
        module: the name of the module of coral-git that needs it.
        extra: the extra of the package that brings it.
    """
    needed = (error.name or extra).partition(".")[0]
    return ImportError(f"coral_git.integrations.{module} needs {needed}: pip install 'coral-git[{extra}]'")
