"""Several devices and several processes come to the numbers of one, also when one is killed and all start again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import posterion as po
from posterion.distributed import SOLO, initialize, team
from posterion.errors import OptionError
from tests.distributed import joined_fit


def start(result, cases, *, processes, devices, folder=""):
    """Start the processes of one job, each with its own forced devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    source = str(Path(po.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([source, *sys.path]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    script = [sys.executable, joined_fit.__file__, str(result), coordinator, str(processes)]
    return [
        subprocess.Popen(
            [*script, str(number), json.dumps(cases), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def finish(job):
    """Wait for all of them; what the first one printed last."""
    printed = []
    for process in job:
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, err[-3000:]
        printed.append(out.splitlines()[-1])
    return json.loads(printed[0])


def check_equal_to_one(result, cases, processes):
    for case in cases:
        approx, alone = joined_fit.fit(case)
        tolerance = 1e-12 if approx.record.x64 else 1e-6
        for number in range(processes):
            with np.load(f"{result}-{case}-{number}.npz") as found:
                for name, value in alone.items():
                    np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=case)


def test_two_processes_equal_one(tmp_path):
    cases = ["batches"]
    shared = finish(start(tmp_path / "found", cases, processes=2, devices=1))
    check_equal_to_one(tmp_path / "found", cases, 2)
    held, on_each, sums = shared
    assert (held, on_each) == (122, 61)  # the rows are spread, not copied
    assert sums >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (2, 1), (2, 2)])
def test_all_cases_equal_one(tmp_path, processes, devices):
    cases = ["all rows", "batches", "network", "rounds"]
    finish(start(tmp_path / "found", cases, processes=processes, devices=devices))
    check_equal_to_one(tmp_path / "found", cases, processes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_is_killed_all_start_again_and_come_to_the_same_bits(tmp_path, victim):
    finish(start(tmp_path / "whole", ["long"], processes=2, devices=1))
    job, folder = start(tmp_path / "found", ["long"], processes=2, devices=1, folder=tmp_path), tmp_path / "long"
    while len(list(folder.glob("checkpoint-*"))) < 2:
        assert all(process.poll() is None for process in job)
        time.sleep(0.05)
    job[victim].send_signal(signal.SIGKILL)
    for process in job:  # the other one notices: at once by its connection, or by the heartbeat
        process.communicate(timeout=120)
        assert process.returncode != 0
    assert not list(tmp_path.glob("found*"))
    finish(start(tmp_path / "found", ["long"], processes=2, devices=1, folder=tmp_path))
    for number in range(2):
        with np.load(tmp_path / "whole-long-0.npz") as whole, np.load(tmp_path / f"found-long-{number}.npz") as found:
            for name in whole:
                np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    approx, alone = joined_fit.fit("long", checkpoint=tmp_path / "long")  # finished by two, read by one
    np.testing.assert_allclose(approx.params, np.load(tmp_path / "whole-long-0.npz")["params"], rtol=0, atol=0)


def test_alone_there_is_nothing_to_agree_on():
    assert SOLO.leads
    assert SOLO.num_devices == 1
    assert SOLO.agree({"a": 1}) == {"a": 1}
    assert SOLO.agree_on_bytes(b"x") == b"x"
    assert SOLO.anyone(value=True)
    assert team("none") is SOLO


def test_nonsense_is_refused():
    with pytest.raises(OptionError, match="distribute must be"):
        team("all")
    with pytest.raises(OptionError, match="give initialize"):
        initialize("127.0.0.1:1", 2)
