"""The one thing pyproject.toml cannot say for every setuptools: the optional C extension."""

from __future__ import annotations

import sys

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "coral_git.codecs._kernels",
            ["coral_git/codecs/_kernels.c"],
            depends=["coral_git/codecs/_buckets.h", "coral_git/codecs/_steps.h"],
            extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3"],
            py_limited_api=True,
            optional=True,  # without a compiler the same bytes come from numpy
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
