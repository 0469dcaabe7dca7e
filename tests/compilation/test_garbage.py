"""The pause of the garbage collector: nested, across threads, after errors, and where it was off before."""

import gc
import threading

import pytest

from posterion.compilation.garbage import uncollected


def test_collection_pauses_and_comes_back():
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(RuntimeError), uncollected():
        raise RuntimeError
    assert gc.isenabled()


def test_it_stays_off_for_whoever_turned_it_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_lasts_until_the_last_thread_is_done():
    inside, leave = threading.Event(), threading.Event()

    def work():
        with uncollected():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    with uncollected():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join(10)
    assert gc.isenabled()
