"""How often git starts the filter, what the filter does then, and what it loads before it answers."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

HEAVY = {
    "asyncio",
    "click",
    "concurrent.futures",
    "ctypes",
    "importlib.metadata",
    "json",
    "logging",
    "multiprocessing",
    "numpy",
    "random",
    "rich",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "urllib",
    "zstandard",
}
MODULES_AT_MOST = 75


@pytest.fixture
def data(model, safetensors):
    """The bytes of a model."""
    return safetensors(model(layers=1))


def test_status_after_a_checkout_starts_nothing(repo, data, count_filters, assert_healthy):
    repo.commit("one", m__safetensors=data, n__bin=data[:999])
    repo.commit("two", m__safetensors=data[::-1], n__bin=b"y" * 999)
    repo.git("checkout", "--quiet", "HEAD~")
    assert count_filters(repo, "status") == 0
    assert count_filters(repo, "diff", "HEAD") == 0
    assert count_filters(repo, "status") == 0
    assert_healthy(repo)


def test_status_after_a_clone_starts_nothing(repo, data, at, count_filters, assert_healthy):
    repo.commit("one", m__safetensors=data)
    repo.git("clone", "--quiet", ".", "../clone", env={"CORAL_SKIP_SMUDGE": "1"})
    clone = at(repo.path.parent / "clone")
    store = clone.path / ".git" / "coral" / "objects" / "packs"
    for name in repo.packs():
        for suffix in (".pack", ".idx"):
            source = repo.path / ".git" / "coral" / "objects" / "packs" / name
            (store / name).with_suffix(suffix).write_bytes(source.with_suffix(suffix).read_bytes())
    assert "wrote 1 file" in clone.run("coral", "checkout").stderr.decode()
    assert clone.read("m.safetensors") == data
    assert count_filters(clone, "status") == 0
    assert_healthy(clone)


def test_status_after_coral_checkout_starts_nothing(repo, data, count_filters, assert_healthy):
    repo.commit("one", m__safetensors=data)
    repo.write("m.safetensors", b"spoilt")
    repo.coral("checkout", "m.safetensors")
    assert repo.read("m.safetensors") == data
    assert count_filters(repo, "status") == 0
    assert_healthy(repo)


def test_status_after_an_add_of_an_older_file_starts_nothing(repo, data, age, count_filters, assert_healthy):
    age(repo.write("m.safetensors", data))
    repo.git("add", "--all")
    assert count_filters(repo, "status") == 0
    repo.git("commit", "--quiet", "-m", "one")
    assert count_filters(repo, "status") == 0
    assert_healthy(repo)


def test_status_after_an_add_of_a_new_file_hashes_at_most_once(repo, data, count_filters, assert_healthy):
    repo.write("m.safetensors", data)
    repo.git("add", "--all")
    packs = repo.packs()
    assert count_filters(repo, "status") <= 1
    assert repo.packs() == packs
    assert repo.status() == "A  .gitattributes\nA  m.safetensors"
    assert_healthy(repo)


def test_commands_that_only_compare_store_nothing(repo, data, count_filters, assert_healthy):
    repo.commit("one", m__safetensors=data)
    packs = repo.packs()
    repo.write("m.safetensors", data[:-1] + b"?")
    assert count_filters(repo, "status") == 1
    assert "-tensor" in repo.git("diff")
    assert repo.packs() == packs
    repo.git("add", "m.safetensors")
    assert len(repo.packs()) == len(packs) + 1
    assert_healthy(repo)


def test_one_process_serves_many_files(repo, data, count_filters, assert_healthy):
    for number in range(8):
        repo.write(f"{number}.bin", data[number:])
    assert count_filters(repo, "add", "--all") == 1
    repo.git("commit", "--quiet", "-m", "one")
    assert_healthy(repo)


def test_nothing_is_encoded_when_a_file_is_the_same(repo, data, assert_healthy):
    repo.commit("one", m__safetensors=data)
    repo.write("m.safetensors", data)
    done = repo.run("add", "--all", env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.decode().splitlines()}
    assert "coral_git.pipeline.clean" in loaded
    for name in ("pipeline.storing", "codecs.registry", "formats.registry", "git.attributes"):
        assert f"coral_git.{name}" not in loaded
    assert_healthy(repo)


def packet(payload: bytes) -> bytes:
    return b"%04x" % (len(payload) + 4) + payload


def test_nothing_heavy_is_loaded_before_the_handshake(repo, data, python, tmp_path, assert_healthy):
    script = tmp_path / "probe.py"
    script.write_text(
        "import sys\n"
        "sys.argv = ['git-coral', 'filter-process']\n"
        "before = set(sys.modules)\n"
        "from coral_git.git import filter_protocol\n"
        "enlarge = filter_protocol._enlarge_pipes\n"
        "def note(fds):\n"
        "    import json\n"
        "    loaded = sorted(set(sys.modules) - {'json', 'json.decoder', 'json.encoder', 'json.scanner'})\n"
        "    json.dump([sorted(before), loaded], open(sys.path[0] + '/modules', 'w'))\n"
        "    enlarge(fds)\n"
        "filter_protocol._enlarge_pipes = note\n"
        "from coral_git.cli.entry import main\n"
        "sys.exit(main())\n"
    )
    words = [b"git-filter-client\n", b"version=2\n"]
    offer = [b"capability=clean\n", b"capability=smudge\n", b"capability=delay\n"]
    hello = b"".join(map(packet, words)) + b"0000" + b"".join(map(packet, offer)) + b"0000"
    done = subprocess.run(
        [python, script], input=hello, cwd=repo.path, capture_output=True, check=True, env=os.environ
    )
    answer = [b"git-filter-server\n", b"version=2\n"]
    assert done.stdout.startswith(b"".join(map(packet, answer)) + b"0000")
    before, loaded = json.loads((tmp_path / "modules").read_text())
    assert not HEAVY.intersection(set(loaded) - set(before))
    assert len(loaded) <= MODULES_AT_MOST, loaded
    assert_healthy(repo)


@pytest.mark.parametrize("others", [0, 1])
def test_numpy_is_not_loaded_by_a_clean_of_a_small_file(others, repo, data, assert_healthy):
    if others:  # where something is stored, bases are looked for under other names
        repo.commit("another", other__safetensors=data[:-1] + b"?")
    repo.write("m.safetensors", data)
    done = repo.run("add", "--all", env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.decode().splitlines()}
    assert "coral_git.pipeline.clean" in loaded
    for name in ("click", "rich", "asyncio", "concurrent.futures", "pygit2", "torch", "inspect"):
        assert name not in loaded
    from coral_git.codecs.kernels import KERNEL_NAME

    assert ("numpy" in loaded) == (KERNEL_NAME == "numpy")
    assert_healthy(repo)
