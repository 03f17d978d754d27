"""The one thing pyproject.toml cannot say for every setuptools: the optional C extensions."""

from __future__ import annotations

import sys

from setuptools import Extension, setup


def extension(package: str, module: str, *depends: str) -> Extension:
    """A C extension; without a compiler the same bytes come from numpy."""
    return Extension(
        f"coral_git.{package}.{module}",
        [f"coral_git/{package}/{module}.c"],
        depends=[f"coral_git/{package}/{header}" for header in depends],
        extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3"],
        py_limited_api=True,
        optional=True,
    )


setup(
    ext_modules=[extension("codecs", "_kernels", "_buckets.h", "_steps.h"), extension("formats", "_gear")],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
