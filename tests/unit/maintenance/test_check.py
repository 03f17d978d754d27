import pytest

from coral_git.errors import UsageError
from coral_git.limits import Limits
from coral_git.maintenance.check import check_commits
from coral_git.pipeline.history import named_in_history
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.push import push_objects
from coral_git.pipeline.stores import open_store
from coral_git.remotes.directory import create

ATTRIBUTES = b"*.safetensors filter=coral -text\n*.bin filter=coral -text\n"


@pytest.fixture
def repo(repo):
    repo.stage(".gitattributes", ATTRIBUTES)
    return repo


@pytest.fixture
def remote(repo, tmp_path):
    """A directory that is the remote store 'backup'; pushes to it: ``remote("HEAD")``."""
    create(str(tmp_path / "backup"))
    repo.git("config", "coral.remote.backup.url", str(tmp_path / "backup"))

    def push(*revisions):
        with repo.workspace() as workspace:
            push_objects(
                workspace,
                Inventory(workspace, open_store(workspace, "backup")),
                named_in_history(workspace, revisions),
            )

    return push


def check(repo, *ranges, **options):
    with repo.workspace() as workspace:
        return check_commits(workspace, ranges, **options)


def found(report):
    return [(complaint.kind, complaint.path) for complaint in report.complaints]


def lose_objects(repo):
    for path in repo.packs():
        path.unlink()
    for path in repo.store_root.glob("cache.sqlite*"):
        path.unlink()


def test_a_sound_commit(repo):
    repo.stage("notes.txt", b"hello")
    repo.stage("empty.bin", b"")
    repo.commit(a=1, b=2)
    report = check(repo)
    assert (report.commits, report.files, report.objects, report.complaints) == (1, 2, 3, [])
    assert not list((repo.path / ".git" / "coral-tmp").iterdir())


def test_no_commit_yet(repo):
    assert check(repo).commits == 0
    with pytest.raises(UsageError):
        check(repo, "nowhere")


def test_raw_weights(repo, model):
    repo.stage("m.safetensors", model({"a": 1}))
    repo.stage("fine.txt", model({"a": 1}))
    commit = repo.commit("n.safetensors", a=1)
    report = check(repo)
    assert found(report) == [("raw", b"m.safetensors")]
    assert report.complaints[0].commit == commit


def test_the_attributes_of_the_commit_count(repo, model):
    repo.stage("m.safetensors", model({"a": 1}))
    with_attributes = repo.commit("n.safetensors", a=1)
    repo.git("rm", "--quiet", "--cached", ".gitattributes")
    repo.git("commit", "--quiet", "-m", "no attributes")
    assert found(check(repo)) == []
    assert found(check(repo, with_attributes)) == [("raw", b"m.safetensors")]
    assert found(check(repo, "--all")) == [("raw", b"m.safetensors")]
    assert check(repo, "HEAD~..HEAD").commits == 1


def test_a_mixed_manifest_and_one_of_a_newer_version(repo, model):
    one, two = (repo.clean("x.bin", model({"a": seed, "b": seed})) for seed in (1, 2))
    head, tail = one.split(b"tensor ", 1)[0], two.split(b"tensor ", 1)[1]
    repo.stage("mixed.safetensors", head + b"tensor " + tail)
    repo.stage("conflict.safetensors", b"<<<<<<< ours\n" + one + b"=======\n" + two + b">>>>>>> theirs\n")
    repo.stage("newer.safetensors", one.replace(b"# coral 1: ", b"# coral 7: "))
    repo.git("commit", "--quiet", "-m", "merge on a hosting site")
    assert sorted(found(check(repo))) == [
        ("manifest", b"conflict.safetensors"),
        ("manifest", b"mixed.safetensors"),
        ("version", b"newer.safetensors"),
    ]


def test_a_missing_object_is_named_with_its_tensor(repo, model):
    repo.commit(a=1)
    before = set(repo.packs())
    second = repo.commit(a=1, b=2)
    for path in set(repo.packs()) - before:
        path.unlink()
    report = check(repo, "HEAD~", "HEAD")
    assert found(report) == [("missing", b"m.safetensors")]
    (complaint,) = report.complaints
    assert complaint.commit == second
    assert "tensor 'b'" in complaint.parts
    assert f"{second[:12]} m.safetensors: " in str(complaint)
    assert "tensor 'a'" not in complaint.parts


def test_the_remote_counts_when_it_is_named(repo, remote):
    repo.commit(a=1)
    remote("HEAD")
    repo.commit(a=2)
    assert found(check(repo, remote="backup")) == []
    assert found(check(repo, remote="backup", complete=True)) == [("missing", b"m.safetensors")]
    assert found(check(repo, "HEAD~", remote="backup", complete=True)) == []
    lose_objects(repo)
    assert found(check(repo, "HEAD~")) == [("missing", b"m.safetensors")]
    assert found(check(repo, "HEAD~", remote="backup")) == []
    assert found(check(repo, "--all", remote="backup")) == [("missing", b"m.safetensors")]


def test_a_base_that_the_remote_lacks_counts(repo, remote, model, tmp_path):
    repo.commit(a=1)
    remote("HEAD")
    first = set((tmp_path / "backup").rglob("*.*"))
    changed = bytearray(model({"a": 1}))
    changed[-1] ^= 1
    repo.add("m.safetensors", bytes(changed))
    repo.git("commit", "--quiet", "-m", "second")
    remote("HEAD")
    assert found(check(repo, remote="backup", complete=True)) == []
    for path in first:
        if path.suffix in (".pack", ".idx"):
            path.unlink()
    assert found(check(repo, remote="backup", complete=True)) == [("missing", b"m.safetensors")]


def test_tables_are_followed_and_fetched(make_repo, tmp_path):
    repo = make_repo("tables", Limits(inline_tensors=2, table_lines=2))
    repo.stage(".gitattributes", ATTRIBUTES)
    repo.commit(a=1, b=2, c=3)
    create(str(tmp_path / "backup"))
    repo.git("config", "coral.remote.backup.url", str(tmp_path / "backup"))
    with repo.workspace() as workspace:
        push_objects(
            workspace,
            Inventory(workspace, open_store(workspace, "backup")),
            named_in_history(workspace, ["HEAD"]),
        )
    lose_objects(repo)
    report = check(repo, remote="backup", complete=True)
    assert (report.complaints, report.objects) == ([], 6)


def test_in_a_bare_clone_without_objects(repo, remote, tmp_path, make_repo):
    repo.commit(a=1)
    remote("HEAD")
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(tmp_path / "bare.git"))
    bare = make_repo("bare.git")
    assert found(check(bare)) == [("missing", b"m.safetensors")]
    assert found(check(bare, remote=str(tmp_path / "backup"), complete=True)) == []
