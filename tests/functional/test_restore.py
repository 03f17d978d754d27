"""``docs/format/restore.py`` knows nothing of coral-git and gives every file back, also of old versions."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from coral_git import floats
from coral_git.codecs.base import EncodedObject
from coral_git.codecs.registry import codec_by_id
from coral_git.formats.safetensors import DTYPE_NAMES
from coral_git.manifest.parse import parse
from coral_git.pipeline.decode import expanded, stream_file
from coral_git.pipeline.parallel import Workers
from coral_git.store.store import Store
from coral_git.types import DTYPES, Element, ObjectId

ROOT = Path(__file__).parents[2]
READER = ROOT / "docs" / "format" / "restore.py"
GOLDEN = ROOT / "tests" / "golden" / "repositories"
VERSIONS = sorted(GOLDEN.iterdir())
Restore = Callable[..., bytes]


@pytest.fixture
def run_reader(tmp_path):
    """Runs the reader apart from everything: ``run_reader(manifest, *folders)`` gives process and file."""

    def run(manifest: bytes, *folders: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
        work = tmp_path / "reader"
        work.mkdir(exist_ok=True)
        (work / "manifest").write_bytes(manifest)
        (work / "out").unlink(missing_ok=True)
        command = [sys.executable, "-I", READER, "manifest", "out", *folders]
        done = subprocess.run(command, cwd=work, env={}, capture_output=True, text=True, check=False)
        return done, work / "out"

    return run


@pytest.fixture
def restore(run_reader) -> Restore:
    """Gives the file of a manifest: ``restore(manifest, *folders of packs)``."""

    def run(manifest: bytes, *folders: Path) -> bytes:
        done, out = run_reader(manifest, *folders)
        assert (done.returncode, done.stderr) == (0, "")
        return out.read_bytes()

    return run


@pytest.fixture
def packs(repo) -> Path:
    """The packs of the repository."""
    return repo.common_dir() / "coral" / "objects" / "packs"


def test_the_reader_stands_alone():
    found = set()
    for node in ast.walk(ast.parse(READER.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        assert not isinstance(node, ast.ImportFrom)
    assert found <= {"hashlib", "os", "struct", "sys", "blake3", "zstandard"}


def file_of(tensors: dict[str, tuple[str, list[int], bytes]], hole: bytes = b"", pad: int = 8) -> bytes:
    """A safetensors file of any dtypes, with bytes that belong to no tensor between them."""
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        body += hole
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % pad)
    return len(text).to_bytes(8, "little") + text + body + hole


def nudge(data: bytes, width: int, seed: int) -> bytes:
    """A small change of most units, and a wild one of a few."""
    units = np.frombuffer(data[: len(data) // width * width], f"<u{width}").copy()
    draw = np.random.default_rng(seed)
    units += draw.integers(0, 4, len(units)).astype(units.dtype)
    units[:: max(1, len(units) // 3)] ^= units.dtype.type((1 << (8 * width - 1)) | 5)
    return units.tobytes() + data[len(units) * width :]


@pytest.mark.parametrize("profile", ["fast", "best"])
@pytest.mark.parametrize("size", [8, 1000, 70_008], ids=["few", "some", "many"])
def test_every_dtype_in_a_chain_of_deltas(repo, packs, restore, size, profile):
    repo.git("config", "coral.profile", profile)
    dtypes = {name: dtype for name, dtype in DTYPES.items() if name in DTYPE_NAMES}
    elements = {name: size - (8 if dtype.bits < 8 else 3) for name, dtype in dtypes.items()}
    tensors = {}
    for name, dtype in dtypes.items():
        data = random.Random(name).randbytes(elements[name] * dtype.bits // 8)
        tensors[f"of {name}"] = (name, [elements[name]], data)
    versions = []
    for seed in range(3):
        versions.append(file_of(tensors))
        repo.commit(str(seed), m__safetensors=versions[-1])
        tensors = {
            name: (dtype, shape, nudge(data, DTYPES[dtype].element.width, seed))
            for name, (dtype, shape, data) in tensors.items()
        }
    names = repo.manifest("HEAD:m.safetensors").tensors
    assert {tensor.dtype.name for tensor in names} == DTYPE_NAMES
    if size == 1000:
        with repo.store() as store:
            assert max(store.depth(one) for tensor in names for one in tensor.objects) == 2
    for age, data in enumerate(reversed(versions)):
        assert restore(repo.blob(f"HEAD~{age}:m.safetensors"), packs) == data


@pytest.mark.parametrize(
    ("profile", "codecs"),
    [("fast", {"F16": 4, "F32": 4}), ("balanced", {"F16": 5, "F32": 4}), ("best", {"F16": 5, "F32": 5})],
)
def test_every_profile_gives_the_file_back(repo, packs, restore, assert_healthy, profile, codecs):
    repo.git("config", "coral.profile", profile)
    draw = np.random.default_rng(1)
    weights = draw.standard_normal(40_000).astype(np.float32) / 50
    steps = draw.standard_normal((2, 40_000)).astype(np.float32) * 1e-4
    steps[:, ::3] = 0
    versions = []
    for step in (0, *steps):
        weights = weights + step
        tensors = {
            "F16": ("F16", [40_000], weights.astype(np.float16).tobytes()),
            "F32": ("F32", [40_000], weights.astype(np.float32).tobytes()),
        }
        versions.append(file_of(tensors))
        repo.commit(m__safetensors=versions[-1])
    with repo.store() as store:
        found = {
            one.name: {store.locate(part).codec for part in one.objects}
            for one in repo.manifest("HEAD:m.safetensors").tensors
        }
    assert found == {name: {codec} for name, codec in codecs.items()}
    for age, data in enumerate(reversed(versions)):
        assert restore(repo.blob(f"HEAD~{age}:m.safetensors"), packs) == data
        repo.git("checkout", "-q", f"HEAD~{age}", "--", "m.safetensors")
        assert repo.read("m.safetensors") == data
    assert_healthy(repo)


@pytest.mark.parametrize("profile", ["fast", "best"])
def test_what_only_decayed_is_stored_small(repo, packs, restore, assert_healthy, profile):
    repo.git("config", "coral.profile", profile)
    draw = np.random.default_rng(2)
    weights = draw.standard_normal((100, 384)).astype(np.float32) / 30
    versions = []
    for _ in range(3):
        versions.append(file_of({"embeddings": ("F32", [100, 384], weights.tobytes())}))
        repo.commit(m__safetensors=versions[-1])
        for _ in range(25):
            weights *= np.float32(1 - 2e-7)
        weights[::5] += draw.standard_normal((20, 384)).astype(np.float32) * np.float32(1e-4)
    with repo.store() as store:
        (newest,) = repo.manifest("HEAD:m.safetensors").tensors[0].objects
        entry = store.locate(newest)
        assert entry.codec == 11
        assert entry.entry_length < len(versions[0]) / 4
    for age, data in enumerate(reversed(versions)):
        assert restore(repo.blob(f"HEAD~{age}:m.safetensors"), packs) == data
        repo.git("checkout", "-q", f"HEAD~{age}", "--", "m.safetensors")
        assert repo.read("m.safetensors") == data
    assert_healthy(repo)


@pytest.mark.parametrize("profile", ["fast", "balanced"])
@pytest.mark.parametrize("half", [Element.BF16, Element.F16], ids=lambda half: half.name)
def test_half_precision_kept_as_float32(repo, packs, restore, assert_healthy, half, profile):
    repo.git("config", "coral.profile", profile)
    draw = np.random.default_rng(6)
    weights = draw.standard_normal((100, 384)).astype(np.float32) / 30
    versions = [file_of({"layer": (half.name, [100, 384], floats.narrow(weights.tobytes(), half))})]
    versions.append(file_of({"layer": ("F32", [100, 384], weights.tobytes())}))
    for _ in range(2):
        weights += draw.standard_normal((100, 384)).astype(np.float32) * np.float32(1e-4)
        kept = floats.widen(floats.narrow(weights.tobytes(), half), half)
        versions.append(file_of({"layer": ("F32", [100, 384], kept)}))
    for version in versions:
        repo.commit(m__safetensors=version)
    with repo.store() as store:
        for age in range(2):
            (stored,) = repo.manifest(f"HEAD~{age}:m.safetensors").tensors[0].objects
            entry = store.locate(stored)
            assert entry.codec == 12
            assert entry.entry_length < len(versions[-1]) / 3
    for age, data in enumerate(reversed(versions)):
        assert restore(repo.blob(f"HEAD~{age}:m.safetensors"), packs) == data
        repo.git("checkout", "-q", f"HEAD~{age}", "--", "m.safetensors")
        assert repo.read("m.safetensors") == data
    assert_healthy(repo)


def test_a_base_of_another_length(repo, packs, restore):
    data = random.Random(7).randbytes(4000)
    longer = nudge(data, 4, 1) + random.Random(8).randbytes(4 * 77)
    shorter = nudge(longer, 4, 2)[: 4 * 501]
    versions = [file_of({"t": ("F32", [len(raw) // 4], raw)}) for raw in (data, longer, shorter)]
    for number, version in enumerate(versions):
        repo.commit(str(number), m__safetensors=version)
    with repo.store() as store:
        assert [store.depth(one) for one in repo.manifest("HEAD:m.safetensors").tensors[0].objects] == [2]
    for age, version in enumerate(reversed(versions)):
        assert restore(repo.blob(f"HEAD~{age}:m.safetensors"), packs) == version


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="a byte"),
        pytest.param(file_of({}), id="no tensor"),
        pytest.param(file_of({"": ("F32", [], b"abcd"), "e": ("F64", [0, 3], b"")}), id="scalar"),
        pytest.param(
            file_of({"a": ("I16", [2], b"abcd"), "b": ("U8", [0], b""), "c": ("U8", [1], b"c")}, b"gap", 1),
            id="gaps",
        ),
        pytest.param(
            file_of({f"käse \n\\ {n}": ("U8", [1], bytes([n])) for n in range(99)}, b"hole"), id="names"
        ),
        pytest.param(b"\0\xff" * 700_000, id="more than a MiB"),
    ],
)
def test_special_files(repo, packs, restore, data):
    repo.commit(m__safetensors=data)
    packs.mkdir(parents=True, exist_ok=True)
    assert restore(repo.blob("HEAD:m.safetensors"), packs) == data


def test_chunks_in_tables_and_their_deltas(repo, packs, restore):
    first = random.Random(1).randbytes(6 << 20)
    second = first[:100_000] + b"inserted" + first[100_000:2_000_000] + first[2_000_100:]
    repo.commit("first", m__bin=first)
    repo.commit("second", m__bin=second)
    assert b"\ntable " in repo.blob("HEAD:m.bin")
    with repo.store() as store:
        assert {one.codec for one in store.locations(repo.objects("HEAD:m.bin")).values() for one in one} == {
            1,
            2,
        }
    assert restore(repo.blob("HEAD~:m.bin"), packs) == first
    assert restore(repo.blob("HEAD:m.bin"), packs) == second


def test_tensors_in_tables(repo, packs, restore):
    data = file_of({f"t{n}": ("U8", [n % 2], b"\7" * (n % 2)) for n in range(20_001)})
    repo.commit(m__safetensors=data)
    assert b"\ntable " in repo.blob("HEAD:m.safetensors")
    assert restore(repo.blob("HEAD:m.safetensors"), packs) == data


def test_a_damaged_pack_is_said_and_another_copy_taken(repo, packs, run_reader, tmp_path):
    data = file_of({"t": ("F32", [4000], random.Random(1).randbytes(16_000))})
    repo.commit(m__safetensors=data)
    (name,) = repo.packs()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    good = (packs / name).read_bytes()
    (damaged / name).write_bytes(good[:5000] + b"\0" * 3000 + good[8000:])
    manifest = repo.blob("HEAD:m.safetensors")

    done, _ = run_reader(manifest, damaged)
    assert done.returncode == 1
    assert "is in none of the packs, or damaged" in done.stderr
    assert "Traceback" not in done.stderr
    done, out = run_reader(manifest, damaged, packs)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == data
    (damaged / name).write_bytes(good[: len(good) // 2])
    done, out = run_reader(manifest, damaged, packs)
    assert "damaged at" in done.stderr
    assert out.read_bytes() == data


def test_a_wrong_digest_is_said(repo, packs, run_reader):
    repo.commit(m__bin=b"some bytes")
    manifest = repo.blob("HEAD:m.bin")
    digest = hashlib.sha256(b"some bytes").hexdigest().encode()
    done, _ = run_reader(manifest.replace(digest, b"0" * 64), packs)
    assert done.returncode == 1
    assert "SHA-256 differs" in done.stderr


def encode(raw: bytes, base: bytes | None) -> EncodedObject:
    """One object of bytes, in full or as a delta."""
    codec = codec_by_id(1 if base is None else 2)
    return EncodedObject(
        object_id=ObjectId(blake3(raw).digest()),
        raw_length=len(raw),
        codec=codec.codec_id,
        element=Element.BYTES,
        base=None if base is None else ObjectId(blake3(base).digest()),
        base_element=Element.BYTES,
        base_offset=0,
        block_size=1 << 20,
        blocks=[codec.encode_block(raw, base or b"", Element.BYTES)],
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_copies_that_are_deltas_against_each_other(repo, restore, tmp_path, order):
    """Pushes and fetches may leave an object as a delta in one pack, and its base as a delta in another."""
    one = random.Random(1).randbytes(3000)
    other = one[:1000] + b"changed" + one[1000:]
    repo.commit(m__bin=one)
    folders = []
    for number, objects in enumerate(
        ([encode(one, other)], [encode(other, one)], [encode(one, None), encode(other, None)])
    ):
        with Store.create(str(tmp_path / str(number))) as store, store.writer() as writer:
            for encoded in objects:
                writer.add(encoded)
            writer.finish()
            folders.append(Path(store.layout.packs))
    assert restore(repo.blob("HEAD:m.bin"), *(folders[index] for index in order)) == one


# What old versions wrote


def golden_files() -> list[tuple[Path, str, str]]:
    """Folder, name and SHA-256 of every golden file."""
    found = []
    for folder in VERSIONS:
        for line in (folder / "expected.sha256").read_text().splitlines():
            digest, name = line.split("  ")
            found.append((folder, name, digest))
    return found


def test_the_golden_repositories_are_complete():
    assert [folder.name for folder in VERSIONS] == ["v1"]
    names = {(folder, name) for folder, name, _ in golden_files()}
    assert names == {(folder, path.name) for folder in VERSIONS for path in (folder / "manifests").iterdir()}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize(
    ("folder", "name", "digest"), golden_files(), ids=[f"{f.name}-{n}" for f, n, _ in golden_files()]
)
def test_the_reader_restores_what_old_versions_wrote(restore, folder, name, digest):
    data = restore((folder / "manifests" / name).read_bytes(), folder / "packs")
    assert hashlib.sha256(data).hexdigest() == digest


@pytest.mark.parametrize("indexes", [True, False], ids=["with indexes", "without indexes"])
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_coral_restores_what_old_versions_wrote(tmp_path, folder, indexes):
    with Store.create(str(tmp_path / "coral")) as store, Workers(2) as workers:
        for path in (folder / "packs").iterdir():
            if indexes or path.suffix == ".pack":
                shutil.copy(path, store.layout.packs)
        used = set()
        for _, name, digest in (golden for golden in golden_files() if golden[0] == folder):
            text = (folder / "manifests" / name).read_bytes()
            manifest = expanded(parse(text, store.limits), store)
            hasher = hashlib.sha256()
            for piece in stream_file(manifest, store, workers):
                hasher.update(piece)
            assert hasher.hexdigest() == digest, name
        for pack in store.packs():
            assert list(store.verify(pack.id)) == []
            used |= {(entry.codec, entry.element) for entry in store.pack_objects(pack.id)}
    assert {codec for codec, _ in used} == {1, 2, 3, 4}
    for codec in (3, 4):
        assert {element for one, element in used if one == codec} == set(Element) - {Element.BYTES}
