"""Fits that go on where they were: after Ctrl-C, a callback, kill -9 at random moments; always to the same bits."""

import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import optax
import pytest

import posterion as po
from posterion.errors import CheckpointError, CheckpointWarning, OptionError
from posterion.optim import loop
from tests.checkpoints import killed_fit
from tests.checkpoints.killed_fit import fit, what_it_came_to
from tests.hand_written import linear


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """So that a fit can be stopped at many places."""
    monkeypatch.setattr(loop, "_SECONDS_PER_CHUNK", 1e-3)


@pytest.fixture(scope="module")
def model():
    return killed_fit.target()


def stop_after(calls, error=StopIteration):
    left = iter(range(calls - 1))

    def callback(progress):
        if next(left, None) is None:
            callback.stopped = True
            raise error

    callback.stopped = False
    return callback


def fit_model(model, **options):
    return po.fit(model, progress=False, **{"random_seed": 5, **options})


def same(a, b):
    for name, value in what_it_came_to(a).items():
        np.testing.assert_array_equal(value, what_it_came_to(b)[name], err_msg=name)
    assert (a.result, a.record.sentence, a.record.steps) == (b.result, b.record.sentence, b.record.steps)
    np.testing.assert_array_equal(a.log_weights, b.log_weights)


SHORT = po.Rounds(first=300)
CASES = {
    "rounds": {"stop": SHORT, "restarts": 2},
    "rows in batches": {"batch_size": 32, "stop": po.Rounds(first=300, max_steps=2500)},
    "fixed": {"n": 1700, "restarts": 2, "obj_optimizer": "rmsprop"},
}


@pytest.mark.parametrize(("case", "error"), [(case, StopIteration) for case in CASES] + [("rounds", KeyboardInterrupt)])
def test_goes_on_to_the_same_bits_wherever_it_was_stopped(model, tmp_path, case, error):
    whole = fit_model(model, **CASES[case])
    stops = 0
    while True:
        callback = stop_after(3, error)
        approx = fit_model(model, checkpoint=tmp_path, callbacks=[callback], **CASES[case])
        if not callback.stopped:
            break
        stops += 1
        assert stops < 60
    assert stops >= 3
    same(approx, fit_model(model, checkpoint=tmp_path, **CASES[case]))
    same(approx, whole)


def test_a_finished_fit_returns_at_once(model, tmp_path, monkeypatch):
    first = po.fit(model, n=400, progress=False, checkpoint=tmp_path)
    monkeypatch.setattr(loop.Loop, "run", None)  # no step is taken
    again = po.fit(model, n=400, progress=False, checkpoint=tmp_path)  # the seed is the folder's
    same(first, again)
    assert again.random_seed == first.random_seed


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"n": 500}, "n: 400 in the folder, 500 now"),
        ({"restarts": 2}, "restarts: 1 in the folder, 2 now"),
        ({"batch_size": 32}, "batch_size: nothing in the folder, 32 now"),
        ({"random_seed": 6}, "random_seed: 5 in the folder, 6 now"),
        ({"precision": "float32"}, "precision: float64 in the folder, float32 now"),
        (
            {"method": po.ADVI(num_draws=2)},
            r"method: ADVI\(.*num_draws=1.*\) in the folder, ADVI\(.*num_draws=2.*\) now",
        ),
        ({"obj_optimizer": "adabelief"}, "obj_optimizer .*: nothing in the folder, .* now"),
        ({"data": {"x": np.ones((300, 4))}}, "data 'x': .*\n  model"),
    ],
)
def test_another_fit_is_refused_and_told_what_differs(model, finished, changes, match):
    with pytest.raises(CheckpointError, match=match):
        fit_model(model, **{"n": 400, "checkpoint": finished, **changes})


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    fit_model(model, n=400, checkpoint=folder)
    return folder


def test_another_model_is_told_apart_by_its_density_alone(finished):
    other = killed_fit.target()
    prior = other.joint_terms

    def flatter(z, data):
        terms = prior(z, data)
        return terms._replace(log_prior=0.5 * terms.log_prior)

    other.joint_terms = flatter
    with pytest.raises(CheckpointError) as caught:
        fit_model(other, n=400, checkpoint=finished)
    assert "log density at two fixed points" in str(caught.value)
    assert "data 'x'" not in str(caught.value)


def test_other_variables_are_named(finished):
    with pytest.raises(CheckpointError, match="variables: .*'w', \\[4\\].* in the folder, .*sigma"):
        fit_model(linear(), n=400, checkpoint=finished)


def test_a_half_written_checkpoint_costs_time_and_no_bits(model, tmp_path):
    options = CASES["rounds"]
    fit_model(model, checkpoint=tmp_path, callbacks=[stop_after(3)], **options)
    fit_model(model, checkpoint=tmp_path, callbacks=[stop_after(3)], **options)
    newest = max(tmp_path.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(CheckpointWarning, match="damaged"):
        approx = fit_model(model, checkpoint=tmp_path, **options)
    same(approx, fit_model(model, **options))


def test_a_full_disk_does_not_end_the_fit(model, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    checkpoint = po.Checkpoints(tmp_path, every_seconds=0)
    with pytest.warns(CheckpointWarning, match="disk is full"):
        approx = fit_model(model, n=700, checkpoint=checkpoint)
    same(approx, fit_model(model, n=700))


def test_a_folder_in_use_is_refused_before_any_work(model, tmp_path):
    def another(progress):
        with pytest.raises(CheckpointError, match="another fit"):
            fit_model(model, n=400, checkpoint=tmp_path)
        raise StopIteration

    assert fit_model(model, n=400, checkpoint=tmp_path, callbacks=[another]).result == "callback"


def test_refine_after_an_interruption_is_the_uninterrupted_fit(model):
    options = CASES["rounds"]
    approx = fit_model(model, callbacks=[stop_after(4, KeyboardInterrupt)], **options)
    assert approx.result == "interrupted"
    before = approx.params.copy()
    same(approx.refine(progress=False), fit_model(model, **options))
    np.testing.assert_array_equal(approx.params, before)


def test_refine_takes_more_steps_or_more_rounds():
    target = linear()
    approx = po.fit(target, n=300, obj_optimizer=optax.adam(3e-3), progress=False, random_seed=2)
    more = approx.refine(500, progress=False)
    assert (more.result, more.record.steps, more.hist.size) == ("fixed_steps", 800, 800)
    np.testing.assert_array_equal(more.hist[:300], approx.hist)
    assert more.elbo > approx.elbo + 1  # at this rate 300 steps are far too few
    assert more.record.seconds_running > approx.record.seconds_running
    ended = more.refine(progress=False)
    assert ended.result == "converged"
    assert ended.elbo > more.elbo - 3 * more.elbo_se
    assert ended.record.steps > 1800
    again = ended.refine(stop=po.Rounds(max_steps=10), progress=False)
    assert again.result in ("converged", "max_steps")
    assert again.record.comparisons[: len(ended.record.comparisons)] == ended.record.comparisons


def test_refine_refuses_what_it_cannot_do(model, tmp_path):
    approx = fit_model(model, n=100)
    with pytest.raises(OptionError, match="whole number"):
        approx.refine(0)
    with pytest.raises(OptionError, match="give one of them"):
        approx.refine(10, stop=SHORT)
    approx.save(tmp_path / "fit.posterion")
    with pytest.raises(OptionError, match="loaded posterior"):
        po.load(tmp_path / "fit.posterion").refine(10)


# ---- kill -9
def run_and_kill(folder: Path, options: str, seconds: float) -> bool:
    """Start the fit in another process and kill it; True if it was still running."""
    script = Path(killed_fit.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(po.__file__).parents[1]), *sys.path])}
    with subprocess.Popen(
        [sys.executable, str(script), str(folder), options], env=environment, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            before = set(folder.glob("checkpoint-*"))
            while process.poll() is None and set(folder.glob("checkpoint-*")) == before:
                time.sleep(0.002)
            time.sleep(seconds)
            running = process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
    assert running or process.returncode == 0
    return running


def kill_and_go_on(folder, options, keywords, kills, seed):
    rng, killed = np.random.default_rng(seed), 0
    whole = what_it_came_to(fit(None, **keywords))
    while killed < kills:
        for path in folder.iterdir():
            path.unlink()
        while killed < kills and run_and_kill(folder, options, rng.uniform(0, 0.5)):
            killed += 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no checkpoint is ever damaged
        found = what_it_came_to(fit(folder, **keywords))
    for name, value in whole.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_twice_and_gone_on(tmp_path):
    kill_and_go_on(tmp_path, '{"n": 9000, "batch_size": 32}', {"n": 9000, "batch_size": 32}, 2, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_twenty_random_moments(tmp_path, seed):
    keywords = {"batch_size": 32, "restarts": 2, "stop": po.Rounds(first=1500, max_steps=20_000)}
    kill_and_go_on(tmp_path, '{"first": 1500, "batch_size": 32, "restarts": 2}', keywords, 20, seed)
