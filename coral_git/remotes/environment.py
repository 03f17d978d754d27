"""The environment in which git works on a scratch repository."""

from __future__ import annotations

from collections.abc import Mapping

_ABOUT_A_REPOSITORY = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_CEILING_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DEFAULT_HASH",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INDEX_VERSION",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_LITERAL_PATHSPECS",
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


def scratch_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what git tells a hook about the repository that it runs in.

    What the user said stays: ``git -c`` (``GIT_CONFIG_PARAMETERS``, ``GIT_CONFIG_COUNT`` and its keys), the ssh
    command, credential helpers, tracing. ``git rev-parse --local-env-vars`` would drop ``git -c`` too.

    Args:
        environment: the variables of this process.
    """
    kept = {name: value for name, value in environment.items() if name not in _ABOUT_A_REPOSITORY}
    kept["LC_ALL"] = "C"
    kept["GIT_NO_LAZY_FETCH"] = "1"
    kept["GIT_NO_REPLACE_OBJECTS"] = "1"
    return kept
