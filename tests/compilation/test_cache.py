"""Compiled programs: once per shapes, kept on disk around our own compilations only, settings left as they were."""

import os
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.compilation import cache


def test_compiles_once_per_shapes_and_precision():
    program = cache.Program(lambda x: x * 2)
    with cache.stopwatch() as watch:
        np.testing.assert_array_equal(program(np.arange(3.0, dtype=np.float32)), [0, 2, 4])
    assert watch.seconds > 0
    with cache.stopwatch() as again:
        program(np.ones(3, np.float32))
    assert again.seconds == 0
    with jax.enable_x64(True):
        assert program(np.arange(3.0)).dtype == np.float64
    assert len(program._compiled) == 2


def test_prepare_compiles_without_running_in_the_callers_precision():
    seen = []

    def function(x):
        seen.append(x.dtype)
        return jnp.sum(x)

    programs = [cache.Program(function) for _ in range(3)]
    with jax.enable_x64(True), cache.stopwatch() as watch:
        cache.prepare([(p, (np.ones(k + 1),)) for k, p in enumerate(programs)])
        counted = watch.seconds
        assert float(programs[2](np.ones(3))) == 3
        assert watch.seconds == counted  # no second compilation
    assert seen == [np.float64] * 3


def test_settings_are_restored_even_with_threads_inside():
    before = dict(jax.config.values)
    barrier = threading.Barrier(3)

    def work():
        with cache.persistent_cache():
            barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    with cache.persistent_cache():
        assert jax.config.jax_compilation_cache_dir == str(cache.cache_folder())
        barrier.wait()
    for thread in threads:
        thread.join()
    assert dict(jax.config.values) == before


def test_a_folder_the_user_gave_to_jax_stays_in_charge(monkeypatch, tmp_path):
    monkeypatch.setattr(cache.jax.config, "_value_holders", jax.config._value_holders)  # nothing of it may change
    with jax._src.config.compilation_cache_dir(str(tmp_path)), cache.persistent_cache():
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)


@pytest.mark.parametrize("value", ["", "chosen"])
def test_the_environment_decides_the_folder(monkeypatch, tmp_path, value):
    monkeypatch.setenv("POSTERION_CACHE", str(tmp_path / value) if value else "")
    folder = cache.cache_folder()
    assert (folder is None) if not value else folder.parent == tmp_path / value


def test_a_folder_that_cannot_be_made_is_a_warning_not_an_error(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("POSTERION_CACHE", str(tmp_path / "file"))
    assert float(cache.Program(lambda x: x + 1)(np.float32(1))) == 2
    assert "not kept" in caplog.text


def test_the_next_process_finds_what_this_one_compiled(tmp_path):
    script = textwrap.dedent("""
        import jax, numpy as np
        from posterion.compilation import cache
        hits = []
        jax.monitoring.register_event_listener(lambda name, **kw: hits.append(name) if "cache_hits" in name else None)
        cache.Program(lambda x: (x @ x.T).sum())(np.ones((4, 5), np.float32))
        assert jax.config.jax_compilation_cache_dir is None
        print(len(hits))
    """)
    environment = os.environ | {"POSTERION_CACHE": str(tmp_path)}
    run = lambda: (
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
    )
    assert int(run()) == 0
    assert int(run()) == 1
