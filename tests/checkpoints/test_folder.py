"""Files and folders of checkpoints: what comes back, what damage does, who may use a folder, and failing disks."""

import errno
import os
import sys
import warnings

import numpy as np
import pytest

from posterion.checkpoints import Checkpoints, files, logbook
from posterion.checkpoints.files import Page
from posterion.checkpoints.folder import Folder
from posterion.errors import CheckpointError, CheckpointWarning, OptionError

PAGE = Page(
    {"state/0": np.arange(6.0).reshape(2, 3).T, "flags": np.array([True, False]), "empty": np.empty(0)},
    {"stage": "fitting", "gain": float("inf"), "path": [[0, 1000]]},
    {"n": None, "density": [1.5, float("nan")]},
)


def numbered(number):
    return Page(PAGE.arrays, {"number": number}, {})


def test_a_checkpoint_comes_back(tmp_path):
    files.write(tmp_path / "one", PAGE)
    found = files.read(tmp_path / "one")
    for name, values in PAGE.arrays.items():
        assert found.arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(found.arrays[name], values)
    assert found.values == PAGE.values
    assert found.identity["n"] is None
    assert np.isnan(found.identity["density"][1])


@pytest.mark.parametrize("damage", ["cut", "bit", "text", "empty"])
def test_the_newest_whole_checkpoint_is_used_and_damage_is_reported(tmp_path, damage):
    folder = Folder(tmp_path, keep=3)
    for number in range(3):
        folder.write(numbered(number))
    newest = max(tmp_path.glob("checkpoint-*"))
    content = bytearray(newest.read_bytes())
    if damage == "bit":
        content[-3] ^= 16  # in the middle of the numbers: only the checksum can tell
    newest.write_bytes({"cut": content[:-9], "bit": content, "text": b"hello", "empty": b""}[damage])
    with pytest.warns(CheckpointWarning, match=f"{newest.name} is damaged.*going on from checkpoint-000002"):
        page = folder.newest()
    assert page is not None
    assert page.values == {"number": 1}
    for path in tmp_path.glob("checkpoint-*"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint in .* can be read"):
        folder.newest()
    folder.close()


def test_the_last_few_are_kept_and_leftovers_of_a_killed_fit_swept(tmp_path):
    (tmp_path / ".checkpoint-000001.safetensors.abcd.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    folder = Folder(tmp_path, keep=2)
    for number in range(12):
        folder.write(numbered(number))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".in-use", "checkpoint-000011.safetensors", "checkpoint-000012.safetensors", "notes.txt"]
    folder.close()


def test_one_fit_at_a_time(tmp_path):
    folder = Folder(tmp_path, keep=2)
    with pytest.raises(CheckpointError, match="another fit is writing"):
        Folder(tmp_path, keep=2)
    folder.close()
    Folder(tmp_path, keep=2).close()


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        Folder(tmp_path / "file", keep=2)
    with pytest.raises(CheckpointError, match="cannot be made"):
        Folder(tmp_path / "file" / "inside", keep=2)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything may be written")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="cannot be written to"):
        Folder(tmp_path, keep=2)


def test_a_full_disk_is_said_once_and_the_older_checkpoint_stays(tmp_path, monkeypatch):
    with logbook(Checkpoints(tmp_path, every_seconds=0)) as book:
        assert book is not None
        book.put(({}, {"number": 0}))
        with monkeypatch.context() as patch:

            def fail(descriptor):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(os, "fsync", fail)
            with pytest.warns(CheckpointWarning, match="not written.*disk is full.*Free some space"):
                book.put(({}, {"number": 1}))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                book.put(({}, {"number": 2}))  # still full: said already
        assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-000001.safetensors"]
        book.put(({}, {"number": 3}))
    with logbook(tmp_path) as book:
        assert book is not None
        found = book.read()
    assert found is not None
    assert found[1] == {"number": 3}


def test_offers_are_taken_when_due_and_do_not_wait(tmp_path):
    made = []

    def make():
        made.append(None)
        return {}, {"number": len(made)}

    with logbook(Checkpoints(tmp_path, every_seconds=1e6)) as book:
        assert book is not None
        book.offer(make)
        assert not made
    with logbook(Checkpoints(tmp_path, every_seconds=0)) as book:
        assert book is not None
        for _ in range(50):
            book.offer(make)
    assert 1 <= len(made) <= 50  # those that came while another was being written were let go
    with logbook(tmp_path) as book:
        assert book is not None
        found = book.read()
    assert found is not None
    assert found[1] == {"number": len(made)}


def test_another_fit_is_told_what_differs(tmp_path):
    with logbook(tmp_path) as book:
        assert book is not None
        book.claim({"n": 5, "density": [1.0, float("nan")], "method": "ADVI()"}, 1e-7)
        book.put(({}, {}))
    with logbook(tmp_path) as book:
        assert book is not None
        book.claim({"n": 5, "density": [1.0 + 1e-9, float("nan")], "method": "ADVI()"}, 1e-7)
        with pytest.raises(CheckpointError) as caught:
            book.claim({"n": 6, "density": [1.001, float("nan")], "method": "ADVI()"}, 1e-7)
    assert "n: 5 in the folder, 6 now" in str(caught.value)
    assert "density: " in str(caught.value)
    assert "method" not in str(caught.value).replace("same model", "")
    assert "give another folder" in str(caught.value)


@pytest.mark.parametrize("options", [{"every_seconds": -1}, {"every_seconds": float("nan")}, {"keep": 0}])
def test_nonsense_is_refused(options):
    with pytest.raises(OptionError):
        Checkpoints("here", **options)
