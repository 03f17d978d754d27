from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coral_git.codecs.bytes_codec import BytesCodec
from coral_git.codecs.registry import BUILT_IN, codec_by_id, codec_by_name, tabulate_codecs
from coral_git.errors import CoralError, FormatVersionError, UsageError

NAMES = {1: "bytes", 2: "bytes-delta", 3: "planes", 4: "sub", 5: "bucket"}
NAMES |= {6: "raw", 7: "xor", 8: "sparse", 9: "quantized", 10: "quantized-delta", 11: "decay", 12: "upcast"}
ROOT = Path(__file__).parents[3]

PLUGIN = """
from coral_git.codecs.bytes_codec import BytesCodec
codec = BytesCodec(codec_id={codec_id}, name="{name}")
"""
ENTRY_POINTS = "[coral_git.codecs]\nmine = coral_test_plugin:codec\n"


def run(program: str, *paths: Path, **environment: str) -> str:
    python_path = os.pathsep.join(str(path) for path in (*paths, ROOT))
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": python_path, **environment},
        check=True,
        text=True,
        capture_output=True,
    ).stdout


def install_plugin(folder: Path, codec_id: int, name: str) -> None:
    (folder / "coral_test_plugin.py").write_text(PLUGIN.format(codec_id=codec_id, name=name))
    info = folder / "coral_test_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coral-test-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)


def test_ids_on_disk_never_change() -> None:
    assert {codec.codec_id: codec.name for codec in BUILT_IN} == NAMES
    for codec_id, name in NAMES.items():
        assert codec_by_id(codec_id) is codec_by_name(name)


@pytest.mark.parametrize("codec_id", [0, 77, 255, -1, 256])
def test_an_unknown_id_is_a_newer_version(codec_id: int) -> None:
    with pytest.raises(FormatVersionError, match=f"unknown codec {codec_id}$"):
        codec_by_id(codec_id)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        codec_by_name("zip\x1b[2J")
    assert "\x1b" not in caught.value.message
    assert caught.value.hint == f"the codecs are: {', '.join(sorted(NAMES.values()))}"


@pytest.mark.parametrize(
    "other",
    [BytesCodec(1, "other"), BytesCodec(77, "bytes"), BytesCodec(0, "zero"), BytesCodec(256, "large")],
)
def test_ids_and_names_are_unique_and_fit_a_byte(other: BytesCodec) -> None:
    with pytest.raises(CoralError):
        tabulate_codecs([*BUILT_IN, other])
    assert len(tabulate_codecs([*BUILT_IN, other._replace(codec_id=200, name="free")])) == len(NAMES) + 1


def test_an_installed_package_provides_a_codec(tmp_path: Path) -> None:
    install_plugin(tmp_path, 200, "mine")
    program = """
from coral_git.codecs.registry import codec_by_id, codec_by_name
print(codec_by_id(200).name, codec_by_name("mine").codec_id)
"""
    assert run(program, tmp_path) == "mine 200\n"


def test_an_installed_package_cannot_take_an_id(tmp_path: Path) -> None:
    install_plugin(tmp_path, 3, "mine")
    program = """
from coral_git.codecs.registry import codec_by_id
from coral_git.errors import CoralError
print(codec_by_id(3).name)
try:
    codec_by_id(200)
except CoralError as error:
    print(error)
"""
    assert run(program, tmp_path) == "planes\ncodecs 'planes' and 'mine' share the id 3\n"


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    install_plugin(tmp_path, 200, "mine")
    (tmp_path / "coral_test_plugin.py").write_text("1 / 0")
    program = """
from coral_git.codecs.registry import codec_by_id
from coral_git.errors import CoralError
try:
    codec_by_id(200)
except CoralError as error:
    print(error)
"""
    message = "cannot load the codec 'mine' from coral_test_plugin:codec: division by zero\n"
    assert run(program, tmp_path) == message


@pytest.mark.parametrize("kernel", ["", "numpy"])
def test_importing_the_registry_is_cheap(kernel: str) -> None:
    program = """
import sys
import coral_git.codecs.registry, coral_git.codecs.choose
heavy = {"numpy", "json", "logging", "asyncio", "tempfile", "subprocess"}
heavy |= {"concurrent.futures", "importlib.metadata"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run(program, CORAL_KERNEL=kernel) == "[]\n"


def test_the_environment_picks_the_kernel() -> None:
    program = "from coral_git.codecs.kernels import KERNEL_NAME; print(KERNEL_NAME)"
    assert run(program, CORAL_KERNEL="numpy") == "numpy\n"
