"""Git's own commands merge weights tensor by tensor: merge, rebase, cherry-pick, revert, stash."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest

FILE = "m.safetensors"
AVERAGE = {"CORAL_MERGE_STRATEGY": "average"}


@pytest.fixture
def tensors_of(safetensors):
    """The tensors of a file of the work tree, as the library reads them."""
    load = pytest.importorskip("safetensors.numpy").load

    def read(repo, name=FILE):
        return load(repo.read(name))

    return read


@pytest.fixture
def fork(repo, safetensors, model):
    """Commits a base and a change of it on each of two branches; gives (base, ours, theirs)."""

    def make(ours, theirs, base=None, **files):
        start = model() if base is None else base
        repo.commit("base", m__safetensors=safetensors(start))
        repo.git("switch", "-q", "-c", "other")
        second = {**start, **theirs(start)} if callable(theirs) else theirs
        repo.commit("theirs", m__safetensors=safetensors(second))
        repo.git("switch", "-q", "main")
        first = {**start, **ours(start)} if callable(ours) else ours
        repo.commit("ours", m__safetensors=safetensors(first))
        return start, first, second

    return make


def changed(seed, *names):
    """Changes some tensors of a model."""

    def change(tensors):
        random = np.random.default_rng(seed)
        return {
            name: (tensors[name] + random.standard_normal(tensors[name].shape) / 100).astype(np.float32)
            for name in names or tensors
        }

    return change


def merged(base, ours, theirs, both):
    """What a three-way merge gives, tensor by tensor."""
    result = {}
    for name in {**base, **ours, **theirs}:
        versions = [side.get(name) for side in (base, ours, theirs)]
        one, other = (
            not same(versions[0], versions[1]),
            not same(versions[0], versions[2]),
        )
        if one and other and not same(versions[1], versions[2]):
            found = both(versions[1], versions[2])
        else:
            found = versions[2] if other else versions[1]
        if found is not None:
            result[name] = found
    return result


def same(one, other):
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def mean(one, other):
    return ((one.astype(np.float32) + other.astype(np.float32)) / np.float32(2)).astype(one.dtype)


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        assert same(found[name], expected[name]), name


def objects(repo, spec):
    return {tensor.name: tensor.objects for tensor in repo.manifest(spec).tensors}


ONE_SIDED = (changed(1, "layer.0.weight", "embed.weight"), changed(2, "layer.1.weight"))
CONTESTED = (changed(1, "layer.0.weight", "layer.1.bias"), changed(2, "layer.0.weight", "embed.weight"))


def test_tensors_that_one_side_changed_follow_it(repo, fork, tensors_of, assert_healthy):
    versions = fork(*ONE_SIDED)
    done = repo.run("merge", "-q", "--no-edit", "other")
    assert b"1 theirs, 2 ours, 4 unchanged" in done.stderr
    assert_equal(tensors_of(repo), merged(*versions, None))
    ours, theirs, result = (objects(repo, f"{rev}:{FILE}") for rev in ("HEAD^1", "HEAD^2", "HEAD"))
    assert result == {**ours, "layer.1.weight": theirs["layer.1.weight"]}
    assert not repo.status()
    assert repo.git("rev-list", "--parents", "-1", "HEAD").count(" ") == 2
    assert_healthy(repo)


def test_average_is_the_mean_in_float32(repo, fork, tensors_of, assert_healthy):
    versions = fork(*CONTESTED)
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    assert_equal(tensors_of(repo), merged(*versions, mean))
    assert not repo.status()
    assert_healthy(repo)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float64", "float8_e4m3fn", "float8_e5m2"])
def test_values_are_rounded_once(repo, name, assert_healthy, tmp_path):
    kinds = pytest.importorskip("ml_dtypes")
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    dtype = np.dtype(getattr(kinds, name, name))
    wide = np.float64 if name == "float64" else np.float32
    random = np.random.default_rng(5)
    arrays = [random.standard_normal((17, 9)).astype(dtype) for _ in range(3)]

    def data(array):
        raw = torch.from_numpy(array.view(np.uint8).copy()).view(getattr(torch, name))
        return library.save({"w": raw, "step": torch.tensor([int(array.sum())])})

    repo.commit("base", m__safetensors=data(arrays[0]))
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__safetensors=data(arrays[1]))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__safetensors=data(arrays[2]))
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    found = library.load(repo.read(FILE))
    expected = ((arrays[2].astype(wide) + arrays[1].astype(wide)) / 2).astype(dtype)
    assert found["w"].view(torch.uint8).numpy().tobytes() == expected.tobytes()
    assert found["step"] == int(arrays[2].sum())
    assert_healthy(repo)


def test_without_a_strategy_ours_stays_and_the_path_is_unmerged(repo, fork, tensors_of, assert_healthy):
    _, ours, _ = fork(*CONTESTED)
    done = repo.run("merge", "--no-edit", "other", code=1)
    assert b"1 tensor needs a decision ('layer.0.weight' changed on both sides)" in done.stderr
    assert b"git coral resolve 'm.safetensors'" in done.stderr
    assert repo.status() == f"UU {FILE}"
    assert_equal(tensors_of(repo), ours)
    stages = repo.git("ls-files", "-u").splitlines()
    assert [line.split()[2] for line in stages] == ["1", "2", "3"]
    assert all(repo.blob(line.split()[1]).startswith(b"# coral 1:") for line in stages)
    repo.git("checkout", "--theirs", FILE)
    repo.git("add", FILE)
    repo.git("commit", "-q", "--no-edit")
    assert repo.blob(f"HEAD:{FILE}") == repo.blob(f"other:{FILE}")
    assert_healthy(repo)


@pytest.mark.parametrize("way", ["config", "option", "attribute", "driver", "tracked"])
def test_who_may_name_the_strategy(repo, fork, tensors_of, way):
    options = []
    if way == "attribute":
        repo.write(".gitattributes", b"*.safetensors filter=coral diff=coral merge=coral-average -text\n")
    if way == "tracked":
        repo.write(".coralconfig", b'[coral "merge"]\n\tstrategy = average\n[core]\n\teditor = false\n')
    versions = fork(*CONTESTED)
    if way == "config":
        repo.git("config", "coral.merge.strategy", "average")
    if way == "option":
        options = ["-c", "coral.merge.strategy=average"]
    if way == "driver":
        repo.write(".git/info/attributes", b"*.safetensors merge=coral-average\n")
    repo.git(*options, "merge", "-q", "--no-edit", "other")
    assert_equal(tensors_of(repo), merged(*versions, mean))


def test_who_is_stronger(repo, fork, tensors_of):
    repo.write(".gitattributes", b"*.safetensors filter=coral diff=coral merge=coral-theirs -text\n")
    repo.write(".coralconfig", b"[coral.merge]\n\tstrategy = base\n\trule = layer.0.*=fail\n")
    base, ours, theirs = fork(*CONTESTED)
    rule = ["-c", "coral.merge.rule=layer.0.*=ours"]
    for options, environment, expected in (
        ([], {}, None),
        (rule, {}, ours),
        ([*rule, "-c", "coral.merge.rule=*=base"], {}, base),
        (["-c", "coral.merge.rule=*.bias=fail", "-c", "coral.merge.rule=layer.0.*=theirs"], {}, theirs),
    ):
        done = repo.run(*options, "merge", "-q", "--no-edit", "other", env=environment, code=None)
        assert done.returncode == (expected is None)
        if expected is None:
            repo.git("merge", "--abort")
        else:
            assert same(tensors_of(repo)["layer.0.weight"], expected["layer.0.weight"])
            repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("rm", "-q", ".coralconfig")
    repo.git("commit", "-qm", "no rules")
    for options, environment, expected in (
        ([], {}, theirs),
        (["-c", "coral.merge.strategy=base"], {}, base),
        (["-c", "coral.merge.strategy=base"], {"CORAL_MERGE_STRATEGY": "ours"}, ours),
    ):
        repo.git(*options, "merge", "-q", "--no-edit", "other", env=environment)
        assert same(tensors_of(repo)["layer.0.weight"], expected["layer.0.weight"])
        repo.git("reset", "-q", "--hard", "HEAD~1")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("coral.merge.strategy=mean", b"unknown merge strategy 'mean' in 'coral.merge.strategy'"),
        ("coral.merge.rule=nonsense", b"bad rule 'nonsense'"),
        ("coral.merge.alpha=2", b"bad value '2' for 'alpha'"),
        ("coral.merge.integers=average", b"bad value 'average' for 'coral.merge.integers'"),
        ("coral.merge.rest=x", b"bad value 'x' for 'coral.merge.rest'"),
    ],
)
def test_a_setting_that_cannot_be_understood_is_a_conflict(repo, fork, tensors_of, setting, message):
    _, ours, _ = fork(*CONTESTED)
    done = repo.run("-c", setting, "merge", "--no-edit", "other", code=1)
    assert message in done.stderr
    assert_equal(tensors_of(repo), ours)


def test_tensors_that_were_added_and_removed(repo, fork, tensors_of, assert_healthy, safetensors):
    random = np.random.default_rng(7)
    new = {name: random.standard_normal((5, 6)).astype(np.float32) for name in ("head.a", "head.b")}

    def ours(tensors):
        kept = {**tensors, "head.a": new["head.a"], **changed(1, "embed.weight")(tensors)}
        del kept["layer.2.bias"]
        return kept

    def theirs(tensors):
        return {**tensors, "head.b": new["head.b"], **changed(2, "embed.weight")(tensors)}

    base = {
        f"layer.{number}.{part}": random.standard_normal((8, 8)).astype(np.float32)
        for number in range(3)
        for part in ("weight", "bias")
    }
    base["embed.weight"] = random.standard_normal((8, 9)).astype(np.float32)
    versions = fork(ours(base), theirs(base), base=base)
    done = repo.run("merge", "-q", "--no-edit", "other", env=AVERAGE)
    assert b"1 merged, 1 removed, 2 added, 5 unchanged" in done.stderr
    assert_equal(tensors_of(repo), merged(*versions, mean))
    assert {"head.a", "head.b"} < set(tensors_of(repo))
    assert not repo.status()
    assert_healthy(repo)


def test_metadata_merges_by_key(repo, safetensors, model, assert_healthy):
    load = pytest.importorskip("safetensors").safe_open
    tensors = model()

    def save(seed, **metadata):
        return safetensors({**tensors, **(changed(seed, "embed.weight")(tensors) if seed else {})}, metadata)

    repo.commit("base", m__safetensors=save(0, format="pt", step="1", old="x"))
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__safetensors=save(2, format="pt", step="3", old="x", lr="0.1"))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__safetensors=save(1, format="pt", step="2", epoch="7"))
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    with load(repo.path / FILE, "np") as file:
        assert file.metadata() == {"format": "pt", "step": "2", "lr": "0.1", "epoch": "7"}
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("-c", "coral.merge.rest=theirs", "merge", "-q", "--no-edit", "other", env=AVERAGE)
    with load(repo.path / FILE, "np") as file:
        assert file.metadata() == {"format": "pt", "step": "3", "lr": "0.1", "epoch": "7"}
    repo.git("reset", "-q", "--hard", "HEAD~1")
    done = repo.run("-c", "coral.merge.rest=fail", "merge", "--no-edit", "other", env=AVERAGE, code=1)
    assert b"the sides changed the metadata 'step'" in done.stderr
    assert_healthy(repo)


def test_only_what_both_sides_changed_is_read_and_written(repo, safetensors, assert_healthy):
    """200 tensors, of which both sides changed 10: the store may have lost all others."""
    random = np.random.default_rng(3)
    base = {f"t.{number:03}": random.standard_normal((4, 40)).astype(np.float32) for number in range(200)}
    names = {f"t.{number:03}" for number in range(0, 200, 20)}
    repo.commit("base", m__safetensors=safetensors(base))
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__safetensors=safetensors({**base, **changed(2, *names)(base)}))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__safetensors=safetensors({**base, **changed(1, *names)(base)}))
    before = objects(repo, f"main:{FILE}")
    store = repo.common_dir() / "coral"
    shutil.copytree(store, repo.path / "whole", symlinks=True)
    stored = stored_objects(repo)
    damage(repo, {one for name in base if name not in names for one in before[name]})
    tree = repo.git("merge-tree", "--write-tree", "main", "other", env=AVERAGE).split()[0]
    after = objects(repo, f"{tree}:{FILE}")
    assert {name for name in base if after[name] != before[name]} == names
    assert stored_objects(repo) - stored == {one for name in names for one in after[name]}
    (repo.path / FILE).unlink()
    done = repo.run("merge-tree", "--write-tree", "main", "other", env=AVERAGE, code=1)
    assert b"error" in done.stderr or b"damaged" in done.stderr, "without the file it is read from the store"
    for pack in (store / "objects" / "packs").iterdir():
        intact = repo.path / "whole" / "objects" / "packs" / pack.name
        if intact.exists():
            shutil.copy(intact, pack)
    shutil.rmtree(repo.path / "whole")
    repo.git("checkout", FILE)
    assert_healthy(repo)


def stored_objects(repo):
    with repo.store() as store:
        return {entry.object_id for pack in store.packs() for entry in store.pack_objects(pack.id)}


def damage(repo, ids):
    """Overwrite objects in their packs."""
    folder = repo.common_dir() / "coral" / "objects" / "packs"
    with repo.store() as store:
        for found in store.locations(ids).values():
            for place in found:
                pack = next(folder.glob(f"{place.pack.hex()}*.pack"))
                pack.chmod(0o644)
                with pack.open("r+b") as file:
                    file.seek(place.offset)
                    file.write(bytes(place.entry_length))


def test_track_names_a_driver(repo, fork, tensors_of):
    repo.coral("track", "*.safetensors", "--merge", "theirs")
    assert "merge=coral-theirs" in repo.read(".gitattributes").decode()
    _, _, theirs = fork(*CONTESTED)
    repo.git("merge", "-q", "--no-edit", "other")
    assert same(tensors_of(repo)["layer.0.weight"], theirs["layer.0.weight"])
    assert b"no merge driver for 'mean'" in repo.run("coral", "track", "x", "--merge", "mean", code=2).stderr
    assert b"needs a pattern" in repo.run("coral", "track", "--merge", "ties", code=2).stderr


# --- the states that git knows


def test_added_on_both_sides(repo, safetensors, model, tensors_of, assert_healthy):
    repo.commit("nothing")
    versions = [model(), changed(1)(model())]
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__safetensors=safetensors(versions[1]))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__safetensors=safetensors(versions[0]))
    done = repo.run("merge", "--no-edit", "other", code=1)
    assert b"added on both sides" in done.stderr
    repo.git("merge", "--abort")
    done = repo.run("merge", "--no-edit", "other", code=1, env={"CORAL_MERGE_STRATEGY": "task-arithmetic"})
    assert b"no common ancestor, which 'task-arithmetic' needs" in done.stderr
    repo.git("merge", "--abort")
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    assert_equal(tensors_of(repo), merged({}, *versions, mean))
    assert_healthy(repo)


def test_a_criss_cross_merge(repo, fork, tensors_of, safetensors, assert_healthy):
    fork(*CONTESTED)
    repo.git("branch", "left")
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    repo.git("switch", "-q", "other")
    repo.git("merge", "-q", "--no-edit", "left", env={"CORAL_MERGE_STRATEGY": "ours"})
    right = {**tensors_of(repo), **changed(8, "layer.0.weight")(tensors_of(repo))}
    repo.commit("right", m__safetensors=safetensors(right))
    repo.git("switch", "-q", "main")
    left = {**tensors_of(repo), **changed(9, "layer.0.weight")(tensors_of(repo))}
    repo.commit("left", m__safetensors=safetensors(left))
    assert len(repo.git("merge-base", "--all", "main", "other").split()) == 2
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    assert same(tensors_of(repo)["layer.0.weight"], mean(left["layer.0.weight"], right["layer.0.weight"]))
    assert_healthy(repo)


def test_a_rename_and_a_retraining(repo, fork, tensors_of, assert_healthy):
    versions = fork(*ONE_SIDED)
    repo.git("switch", "-q", "other")
    repo.git("mv", FILE, "renamed.safetensors")
    repo.git("commit", "-qm", "rename")
    repo.git("switch", "-q", "main")
    repo.git("merge", "-q", "--no-edit", "other")
    assert_equal(tensors_of(repo, "renamed.safetensors"), merged(*versions, None))
    assert not (repo.path / FILE).exists()
    assert_healthy(repo)


@pytest.mark.parametrize("deleted", ["main", "other"])
def test_modified_here_and_deleted_there(repo, fork, tensors_of, deleted, assert_healthy):
    _, ours, theirs = fork(*CONTESTED)
    repo.git("switch", "-q", deleted)
    repo.git("rm", "-q", FILE)
    repo.git("commit", "-qm", "delete")
    repo.git("switch", "-q", "main")
    done = repo.run("merge", "--no-edit", "other", code=1, env=AVERAGE)
    assert b"modify/delete" in done.stdout
    assert_equal(tensors_of(repo), ours if deleted == "other" else theirs)
    repo.git("add", FILE)
    repo.git("commit", "-q", "--no-edit")
    assert_healthy(repo)


def test_a_side_in_another_format(repo, model, safetensors, assert_healthy):
    """One side saved the same tensors in another format: the result has that format."""
    torch = pytest.importorskip("torch")

    def as_torch(tensors):
        file = io.BytesIO()
        torch.save({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, file)
        return file.getvalue()

    base = model()
    ours, theirs = ({**base, **change(base)} for change in CONTESTED)
    repo.commit("base", m__bin=as_torch(base))
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__bin=safetensors(theirs))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__bin=as_torch(ours))
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    found = pytest.importorskip("safetensors.numpy").load(repo.read("m.bin"))
    assert_equal(found, merged(base, ours, theirs, mean))
    assert_healthy(repo)


@pytest.mark.parametrize("kind", ["torch", "npz", "npy", "hdf5", "gguf", "onnx"])
def test_every_format(repo, kind, assert_healthy, tmp_path):
    """What both sides changed is computed, and the real library reads the file."""
    base = {
        name: np.random.default_rng(n).standard_normal((40, 32)).astype(np.float32)
        for n, name in enumerate(("a", "b", "c", "d"))
    }
    if kind == "npy":
        base = {"a": base["a"]}
    ours = {**base, **changed(1, *list(base)[:2])(base)}
    theirs = {**base, **changed(2, *list(base)[:1], *list(base)[2:3])(base)}
    save, load = LIBRARIES[kind]
    name = {"torch": "m.bin"}.get(kind, f"m.{kind}")
    repo.write(".git/info/attributes", f"{name} filter=coral merge=coral -text\n".encode())
    versions = []
    for branch, tensors in (("base", base), ("other", theirs), ("main", ours)):
        if branch != "base":
            repo.git("checkout", "-q", "-B", branch, *(["base"] if branch == "main" else []))
        place = tmp_path / f"{branch}.{kind}"
        save(place, tensors)
        versions.append(place.read_bytes())
        repo.write(name, versions[-1])
        repo.git("add", name)
        repo.git("commit", "-qm", branch)
        repo.git("branch", "-f", "base") if branch == "base" else None
    assert repo.manifest(f"HEAD:{name}").format != "chunks/1"
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    found = load(repo.path / name)
    assert_equal(found, merged(base, ours, theirs, mean))
    assert not repo.status("-uno")
    repo.git("coral", "fsck")
    assert_healthy(repo)


def save_torch(place, tensors):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    torch.save({"state": state, "epoch": 3}, place)


def load_torch(place):
    state = pytest.importorskip("torch").load(place, weights_only=True)["state"]
    return {name: tensor.numpy() for name, tensor in state.items()}


def save_hdf5(place, tensors):
    with pytest.importorskip("h5py").File(place, "w") as file:
        for name, array in tensors.items():
            file[name] = array


def load_hdf5(place):
    with pytest.importorskip("h5py").File(place) as file:
        return {name: file[name][...] for name in file}


def save_gguf(place, tensors):
    writer = pytest.importorskip("gguf").GGUFWriter(place, "test")
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load_gguf(place):
    reader = pytest.importorskip("gguf").GGUFReader(place)
    return {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def save_onnx(place, tensors):
    onnx = pytest.importorskip("onnx")
    parts = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], parts)), place)


def load_onnx(place):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(place).graph
    return {part.name: onnx.numpy_helper.to_array(part) for part in graph.initializer}


LIBRARIES = {
    "torch": (save_torch, load_torch),
    "npz": (lambda place, tensors: np.savez(place, **tensors), lambda place: dict(np.load(place))),
    "npy": (
        lambda place, tensors: np.save(place, tensors["a"]),
        lambda place: {"a": np.load(place)},
    ),
    "hdf5": (save_hdf5, load_hdf5),
    "gguf": (save_gguf, load_gguf),
    "onnx": (save_onnx, load_onnx),
}


@pytest.mark.parametrize("kind", ["npz", "gguf"])
def test_tensors_added_on_both_sides_of_other_formats(repo, kind, tmp_path, assert_healthy):
    save, load = LIBRARIES[kind]
    name = f"m.{kind}"
    repo.write(".git/info/attributes", f"{name} filter=coral merge=coral -text\n".encode())
    random = np.random.default_rng(2)
    base = {key: random.standard_normal((6, 32)).astype(np.float32) for key in ("a", "b")}
    new = {key: random.standard_normal((4, 32)).astype(np.float32) for key in ("x", "y")}
    ours = {**base, **changed(1, "a")(base), "x": new["x"]}
    theirs = {**base, **changed(2, "a")(base), "y": new["y"]}
    for branch, tensors in (("base", base), ("other", theirs), ("main", ours)):
        if branch != "base":
            repo.git("checkout", "-q", "-B", branch, *(["base"] if branch == "main" else []))
        save(tmp_path / f"{branch}.{kind}", tensors)
        repo.write(name, (tmp_path / f"{branch}.{kind}").read_bytes())
        repo.git("add", name)
        repo.git("commit", "-qm", branch)
        repo.git("branch", "-f", "base") if branch == "base" else None
    repo.git("merge", "-q", "--no-edit", "other", env=AVERAGE)
    assert_equal(load(repo.path / name), merged(base, ours, theirs, mean))
    assert_healthy(repo)


# --- the other commands that merge


def history(repo, safetensors, model):
    """Five commits on ``topic`` that change a tensor each, and a changed base on ``main``."""
    names = ["embed.weight", "layer.0.weight", "layer.1.weight", "layer.2.weight", "layer.0.bias"]
    base = model()
    repo.commit("base", m__safetensors=safetensors(base))
    repo.git("switch", "-q", "-c", "topic")
    tensors = base
    for number, name in enumerate(names):
        tensors = {**tensors, **changed(number + 20, name)(tensors)}
        repo.commit(f"step {number}", m__safetensors=safetensors(tensors))
    repo.git("switch", "-q", "main")
    new = {**base, **changed(9, "layer.1.bias", "layer.2.bias")(base)}
    repo.commit("new base", m__safetensors=safetensors(new))
    return base, new, tensors


@pytest.mark.parametrize("options", [(), ("--apply",)])
def test_rebase_of_five_commits_over_a_changed_base(
    repo, safetensors, model, tensors_of, assert_healthy, options
):
    base, new, last = history(repo, safetensors, model)
    repo.git("switch", "-q", "topic")
    repo.git("rebase", "-q", *options, "main")
    assert_equal(tensors_of(repo), merged(base, new, last, None))
    assert repo.git("rev-list", "--count", "main..topic") == "5"
    assert not repo.status()
    assert_healthy(repo)


def test_rebase_with_a_strategy(repo, safetensors, model, tensors_of, assert_healthy):
    base, _, _ = history(repo, safetensors, model)
    new = {**base, **changed(9, "embed.weight")(base)}
    repo.commit("again", m__safetensors=safetensors(new))
    repo.git("switch", "-q", "topic")
    first = repo.git("rev-parse", "topic~4")
    step = pytest.importorskip("safetensors.numpy").load(
        repo.run("cat-file", "--filters", f"{first}:{FILE}").stdout
    )
    repo.git("-c", "coral.merge.strategy=average", "rebase", "-q", "main")
    assert same(tensors_of(repo)["embed.weight"], mean(new["embed.weight"], step["embed.weight"]))
    assert_healthy(repo)


def test_cherry_pick_and_revert(repo, safetensors, model, tensors_of, assert_healthy):
    base, new, last = history(repo, safetensors, model)
    repo.git("cherry-pick", "topic~1", "topic~3")
    expected = {**new, **{name: last[name] for name in ("layer.2.weight", "layer.0.weight")}}
    assert_equal(tensors_of(repo), expected)
    repo.git("revert", "--no-edit", "HEAD~1")
    assert_equal(tensors_of(repo), {**expected, "layer.2.weight": base["layer.2.weight"]})
    assert not repo.status()
    assert_healthy(repo)


def test_stash_pop_onto_other_weights(repo, safetensors, model, tensors_of, assert_healthy):
    _, new, _ = history(repo, safetensors, model)
    mine = {**new, **changed(30, "embed.weight")(new)}
    repo.write(FILE, safetensors(mine))
    repo.git("stash", "push", "-q")
    other = {**new, **changed(31, "layer.2.weight")(new)}
    repo.commit("other", m__safetensors=safetensors(other))
    repo.git("stash", "pop", "-q")
    assert_equal(tensors_of(repo), merged(new, other, mine, None))
    assert_healthy(repo)


def test_merge_tree_in_a_bare_repository(repo, fork, make_repo, tmp_path, at, assert_healthy):
    versions = fork(*CONTESTED)
    repo.git("clone", "-q", "--bare", repo.path, tmp_path / "bare.git")
    bare = at(tmp_path / "bare.git")
    bare.git("config", "remote.origin.coral", "directory")
    shutil.copytree(repo.common_dir() / "coral", bare.path / "coral", symlinks=True)
    bare.write("info/attributes", b"*.safetensors merge=coral-average\n")
    tree = bare.git("merge-tree", "--write-tree", "main", "other").split()[0]
    name = f"{tree}:{FILE}"
    repo.git("fetch", "-q", bare.path, "main")
    load = pytest.importorskip("safetensors.numpy").load
    found = load(b"".join(bare_bytes(bare, name)))
    assert_equal(found, merged(*versions, mean))


def bare_bytes(bare, spec):
    from coral_git.pipeline.decode import stream_file
    from coral_git.pipeline.parallel import Workers

    with bare.store() as store, Workers(1) as workers:
        yield from stream_file(bare.manifest(spec), store, workers)


def test_objects_that_are_missing_are_fetched(repo, fork, tmp_path, at, tensors_of, assert_healthy):
    versions = fork(*CONTESTED)
    repo.git("init", "-q", "--bare", tmp_path / "remote.git")
    repo.git("remote", "add", "origin", tmp_path / "remote.git")
    repo.git("coral", "push", "origin", "main")
    repo.git("coral", "push", "origin", "other")
    repo.git("clone", "-q", tmp_path / "remote.git", tmp_path / "clone", "-b", "main")
    clone = at(tmp_path / "clone")
    lacking = set(clone.objects(f"origin/other:{FILE}")) - stored_objects(clone)
    assert lacking
    clone.git("merge", "-q", "--no-edit", "origin/other", env=AVERAGE)
    assert_equal(tensors_of(clone), merged(*versions, mean))
    assert_healthy(clone, missing=True)


def test_an_archive_is_completed_from_the_remote(repo, tmp_path, at, assert_healthy):
    """Checksums need tensors that only theirs changed; the clone has none of them."""
    base = {
        name: np.random.default_rng(n).standard_normal((40, 32)).astype(np.float32)
        for n, name in enumerate("abc")
    }
    ours = {**base, **changed(1, "a", "b")(base)}
    theirs = {**base, **changed(2, "a", "c")(base)}
    repo.commit("base", m__bin=npz(base))
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__bin=npz(theirs))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__bin=npz(ours))
    repo.git("init", "-q", "--bare", tmp_path / "remote.git")
    repo.git("remote", "add", "origin", tmp_path / "remote.git")
    repo.git("coral", "push", "origin", "main")
    repo.git("coral", "push", "origin", "other")
    repo.git("clone", "-q", tmp_path / "remote.git", tmp_path / "clone", "-b", "main")
    clone = at(tmp_path / "clone")
    clone.git("merge", "-q", "--no-edit", "origin/other", env=AVERAGE)
    assert_equal(dict(np.load(io.BytesIO(clone.read("m.bin")))), merged(base, ours, theirs, mean))
    assert_healthy(clone, missing=True)


def npz(tensors):
    file = io.BytesIO()
    np.savez(file, **tensors)
    return file.getvalue()


def test_objects_that_cannot_be_had(repo, fork, tmp_path, at, tensors_of):
    _, ours, _ = fork(*CONTESTED)
    repo.git("init", "-q", "--bare", tmp_path / "remote.git")
    repo.git("remote", "add", "origin", tmp_path / "remote.git")
    repo.git("coral", "push", "origin", "main")
    repo.git("push", "-q", "--no-verify", "origin", "other")
    repo.git("clone", "-q", tmp_path / "remote.git", tmp_path / "clone", "-b", "main")
    clone = at(tmp_path / "clone")
    done = clone.run("merge", "--no-edit", "origin/other", env=AVERAGE, code=1)
    assert b"lacks 1 object (tensor 'layer.0.weight')" in done.stderr
    assert clone.status() == f"UU {FILE}"
    assert_equal(tensors_of(clone), ours)


def test_new_infinities_stop_the_merge(repo, tensors_of, safetensors, assert_healthy):
    base = {"w": np.full((3, 4), 1, np.float16), "v": np.zeros(4, np.float32)}
    big = {**base, "w": np.full((3, 4), 60000, np.float16)}
    larger = {**base, "w": np.full((3, 4), 50000, np.float16)}
    repo.commit("base", m__safetensors=safetensors(base))
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__safetensors=safetensors(big))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__safetensors=safetensors(larger))
    arithmetic = {"CORAL_MERGE_STRATEGY": "task-arithmetic"}
    done = repo.run("merge", "--no-edit", "other", env=arithmetic, code=1)
    assert b"12 new values in 'w' would be infinite or not a number" in done.stderr
    assert_equal(tensors_of(repo), larger)
    repo.git("merge", "--abort")
    allowed = ["-c", "coral.merge.allowNonFinite=true"]
    repo.git(*allowed, "merge", "-q", "--no-edit", "other", env=arithmetic)
    assert np.isinf(tensors_of(repo)["w"]).all()
    assert_healthy(repo)


def test_a_changed_shape_is_a_conflict(repo, safetensors, model, fork, tensors_of, assert_healthy):
    def wider(tensors):
        return {"embed.weight": np.vstack([tensors["embed.weight"], tensors["embed.weight"][:5]])}

    fork(changed(1, "embed.weight"), wider)
    done = repo.run("merge", "--no-edit", "other", env=AVERAGE, code=1)
    assert b"'embed.weight' has another dtype or shape on each side" in done.stderr
    repo.git("merge", "--abort")
    rule = ["-c", "coral.merge.rule=embed.*=theirs"]
    repo.git(*rule, "merge", "-q", "--no-edit", "other", env=AVERAGE)
    assert tensors_of(repo)["embed.weight"].shape == (197, 48)
    assert_healthy(repo)
