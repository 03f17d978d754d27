"""Files that no reader understands: a change costs about the change."""

from __future__ import annotations

import random

MIB = 1 << 20


def stored_bytes(repo) -> int:
    folder = repo.common_dir() / "coral" / "objects" / "packs"
    return sum(path.stat().st_size for path in folder.glob("*.pack"))


def test_an_insertion_in_the_middle_stores_little_more_than_itself(repo, assert_healthy):
    data = random.Random(1).randbytes(8 * MIB)
    changed = data[: 4 * MIB] + random.Random(2).randbytes(1024) + data[4 * MIB :]
    repo.commit("one", data__bin=data)
    before = stored_bytes(repo)
    repo.commit("two", data__bin=changed)
    assert repo.manifest("HEAD:data.bin").format == "chunks/1"
    assert 1024 < stored_bytes(repo) - before < MIB // 16
    assert len(repo.objects("HEAD:data.bin") - repo.objects("HEAD~:data.bin")) <= 2
    for revision, expected in (("HEAD~", data), ("HEAD", changed)):
        repo.git("checkout", "--quiet", revision)
        assert repo.read("data.bin") == expected
        repo.git("checkout", "--quiet", "main")
    assert_healthy(repo)
