import errno
import json
import os
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from posterion.errors import PosteriorFileError
from posterion.posterior import store

ARRAYS = {
    "matrix": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "transposed view": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    "strided": np.arange(10.0)[::3],
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "big-endian": np.array([1.0, 2.0], ">f8"),
    "blob": store.from_bytes(b"\x00\xffexported"),
}
DESCRIPTION = {
    "name": "Größe / 重量",
    "nested": {"tuple": (1, 2, None), "number": np.float32(0.5), "flag": np.bool_(True)},
    "not finite": [float("inf"), -np.inf, {"deep": float("nan")}],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.posterion"


def test_arrays_and_description_come_back(path):
    store.write(path, ARRAYS, DESCRIPTION)
    arrays, description = store.read(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(arrays[name], values)
    assert store.to_bytes(arrays["blob"]) == b"\x00\xffexported"
    assert description["name"] == DESCRIPTION["name"]
    assert description["nested"] == {"tuple": [1, 2, None], "number": 0.5, "flag": True}
    inf, minus_inf, deep = description["not finite"]
    assert (inf, minus_inf) == (np.inf, -np.inf)
    assert np.isnan(deep["deep"])


def test_a_reader_of_a_few_lines_without_any_package_reads_it(path):
    store.write(path, ARRAYS, DESCRIPTION)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    start, stop = header["matrix"]["data_offsets"]
    numbers = struct.unpack("<12d", content[8 + length + start : 8 + length + stop])
    assert header["matrix"]["shape"] == [3, 4]
    np.testing.assert_array_equal(np.reshape(numbers, (3, 4)), ARRAYS["matrix"])
    assert json.loads(header["__metadata__"]["posterion.description"])["name"] == DESCRIPTION["name"]


def test_the_umask_decides_who_may_read(path):
    store.write(path, ARRAYS, {})
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_link_is_followed_not_replaced(path, tmp_path):
    link = tmp_path / "latest"
    store.write(path, ARRAYS, {"version": 1})
    link.symlink_to(path)
    store.write(link, ARRAYS, {"version": 2})
    assert link.is_symlink()
    assert store.read(path)[1] == {"version": 2}


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(path, kept):
    store.write(path, ARRAYS, DESCRIPTION)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PosteriorFileError, match="damaged"):
        store.read(path)


def test_a_huge_header_is_refused(path):
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(PosteriorFileError, match="not a saved posterior"):
        store.read(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip file, say", b"{}", b"\x80\x04pickle" * 50])
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(PosteriorFileError, match="not a saved posterior"):
        store.read(path)


def test_another_programs_safetensors_file_is_refused(path):
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}))
    with pytest.raises(PosteriorFileError, match="not a posterior saved by Posterion"):
        store.read(path)


def test_a_newer_format_asks_for_an_upgrade(path, monkeypatch):
    monkeypatch.setattr(store, "FORMAT", 2)
    store.write(path, ARRAYS, {})
    monkeypatch.undo()
    with pytest.raises(PosteriorFileError, match="newer Posterion.*format 2.*upgrade"):
        store.read(path)


def test_a_damaged_description_is_refused(path):
    header = {"posterion.format": "1", "posterion.description": "{not json"}
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}, metadata=header))
    with pytest.raises(PosteriorFileError, match="damaged"):
        store.read(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(PosteriorFileError, match="there is no file"):
        store.read(tmp_path / "nothing")
    with pytest.raises(PosteriorFileError, match="is a folder"):
        store.read(tmp_path)


def test_writing_into_a_missing_folder_or_over_a_folder_says_so(tmp_path):
    with pytest.raises(PosteriorFileError, match="no folder"):
        store.write(tmp_path / "missing" / "fit.posterion", ARRAYS, {})
    with pytest.raises(PosteriorFileError, match="it is a folder"):
        store.write(tmp_path, ARRAYS, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_writing_without_permission_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PosteriorFileError, match="no permission"):
        store.write(tmp_path / "fit.posterion", ARRAYS, {})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_leaves_the_old_file_intact(path, monkeypatch, number):
    store.write(path, ARRAYS, {"version": "old"})
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PosteriorFileError, match="unchanged"):
        store.write(path, ARRAYS, {"version": "new"})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
def test_a_write_cut_short_by_the_system_leaves_the_old_file_intact(path):
    """A real limit, in another process: the system refuses to write more than 64 KB."""
    store.write(path, ARRAYS, {"version": "old"})
    before = path.read_bytes()
    script = f"""
import resource, signal
import numpy as np
from posterion.errors import PosteriorFileError
from posterion.posterior import store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    store.write({str(path)!r}, {{"large": np.ones(100_000)}}, {{}})
except PosteriorFileError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "disk is full or a limit is reached" in run.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_ctrl_c_while_saving_leaves_nothing_behind(path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(path, ARRAYS, {})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("values", [np.array(["text"]), np.array([None]), np.ones(2, np.complex128)])
def test_what_cannot_be_stored_is_refused_by_name(path, values):
    with pytest.raises(TypeError, match="'odd'"):
        store.write(path, {"odd": values}, {})
    assert not path.exists()


def test_a_description_that_json_cannot_hold_is_refused(path):
    with pytest.raises(TypeError, match="set"):
        store.write(path, {}, {"bad": {1, 2}})
    with pytest.raises(TypeError, match="strings"):
        store.write(path, {}, {"coords": {1: "bad"}})
