import contextlib
import os
import threading

from coral_git import fsops
from coral_git.store.store import Store


def wait(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_processes_publish_the_same_objects(store, build):
    """All are ready to link before the first one does."""
    raws = [build.raw(number) for number in range(4)]
    ready, go = os.pipe(), os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                met = []

                def barrier(name, path, met=met):
                    if name == "link" and not met:
                        met.append(path)
                        os.write(ready[1], b"r")
                        os.read(go[0], 1)

                fsops.set_fault_hook(barrier)
                with Store.open(store.root) as own:
                    build.put(own, *raws)
                    assert all(own.read(build.object_id(raw), 1000) == raw for raw in raws)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for _ in children:
        assert os.read(ready[0], 1) == b"r"
    os.write(go[1], b"gggg")
    assert wait(children) == [0] * 4
    for end in (*ready, *go):
        os.close(end)
    assert len(store.packs()) == 1
    assert build.incoming(store) == []
    assert [problem for info in store.packs() for problem in store.verify(info.id)] == []
    assert store.find_missing([build.object_id(raw) for raw in raws]) == []


def test_processes_write_while_others_read_and_throw_away(store, build):
    """Writers add, a collector moves every pack it sees to the trash; whoever wants one gets it back."""
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with Store.open(store.root, fsync=False) as own:
                    for turn in range(12):
                        raw = build.raw(turn % 6 + number)
                        with own.writer() as writer:
                            if not writer.contains(build.object_id(raw)):
                                writer.add(build.encode(raw))
                            writer.finish()
                        assert own.read(build.object_id(raw), 1000) == raw
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    collector = os.fork()
    if collector == 0:
        try:
            with Store.open(store.root, fsync=False) as own:
                for turn in range(40):
                    trash = os.path.join(own.layout.trash, str(1_700_000_000 + turn))
                    fsops.make_directory(trash)
                    for info in own.packs():
                        for path in (info.path, own.layout.index_path(info.id)):
                            with contextlib.suppress(FileNotFoundError):
                                os.rename(path, os.path.join(trash, os.path.basename(path)))
        finally:
            os._exit(0)
    assert wait(children) == [0] * 3
    wait([collector])
    wanted = [build.raw(number) for number in range(8)]
    assert store.find_missing([build.object_id(raw) for raw in wanted]) == []
    for raw in wanted:
        assert store.read(build.object_id(raw), 1000) == raw


def test_threads_write_to_one_session(store, build):
    raws = [build.raw(number, 500) for number in range(40)]
    with store.writer() as writer:
        threads = [
            threading.Thread(
                target=lambda part: [writer.add(build.encode(raw)) for raw in part], args=(raws[number::4],)
            )
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (pack,) = writer.finish()
    assert len(store.pack_objects(pack)) == 40
    assert list(store.verify(pack)) == []
