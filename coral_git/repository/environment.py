"""What a model is trained with: Python, torch, CUDA, GPUs. Nothing of it is imported or run.

The environment is the one that is active, which need not be the one that coral-git is installed in.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence

from coral_git.git.command import Git

_PACKAGES = ("torch", "transformers", "jax", "tensorflow", "keras", "lightning", "numpy", "safetensors")
_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*['\"]([\w.+-]+)['\"]", re.MULTILINE)


def describe_environment(git: Git, commit_arguments: Sequence[str] = ()) -> dict[str, str]:
    """The facts, by name; what there is nothing of is left out.

    Args:
        git: runs in the repository, where the user stands.
        commit_arguments: of the ``git commit`` that is about to be made.
    """
    folders = _site_packages()
    found = {"python": _python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    found |= {package: _version(package, folders) for package in _PACKAGES}
    found |= {"cuda": _cuda(folders), "gpu": _gpus(), "git": _git_state(git, commit_arguments)}
    return {name: text for name, text in found.items() if text}


def _active_prefix() -> str:
    return os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX") or sys.prefix


def _site_packages() -> list[str]:
    prefix = _active_prefix()
    if prefix == sys.prefix:
        return [folder for folder in sys.path if folder]
    return sorted(glob.glob(os.path.join(glob.escape(prefix), "lib", "python3*", "site-packages")))


def _python_version() -> str:
    """Of the active environment, as its configuration says; else of this process."""
    try:
        with open(os.path.join(_active_prefix(), "pyvenv.cfg"), encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition("=")
                if key.strip() in ("version", "version_info"):
                    return value.strip()
    except OSError:
        pass
    return platform.python_version()


def _version(package: str, folders: list[str]) -> str:
    import importlib.metadata  # takes longer than most commands

    for found in importlib.metadata.distributions(name=package, path=folders):
        return found.version
    return ""


def _cuda(folders: list[str]) -> str:
    """The CUDA that torch was built for."""
    for folder in folders:
        try:
            with open(os.path.join(folder, "torch", "version.py"), encoding="utf-8") as file:
                match = _CUDA.search(file.read(1 << 16))
        except (OSError, UnicodeDecodeError):
            continue
        return match[1] if match else ""
    return ""


def _gpus() -> str:
    """The GPUs as the driver of NVIDIA lists them, e.g. ``2 x NVIDIA H100``."""
    names = list(_gpu_names())
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _gpu_names() -> Iterator[str]:
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    key, _, value = line.partition(":")
                    if key.strip() == "Model":
                        yield value.strip()
        except OSError:
            continue


def _git_state(git: Git, commit_arguments: Sequence[str]) -> str:
    """Whether tracked files will differ from what is committed."""
    command = (
        ("commit", "--dry-run", "--no-verify") if commit_arguments else ("--no-optional-locks", "status")
    )
    answer = git.run(*command, "--porcelain", *commit_arguments, check=False)
    left = [line for line in answer.splitlines() if line[1:2] not in (b" ", b"?", b"!")]
    return f"{len(left)} changed file{'s' if len(left) != 1 else ''} not committed" if left else "clean"
