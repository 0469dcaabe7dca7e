import threading
from functools import singledispatch

import pytest

from posterion.frontends.pymc.overlay import Overlay


class Animal: ...


class Dog(Animal): ...


class Poodle(Dog): ...


@pytest.fixture
def speak():
    @singledispatch
    def speak(animal):
        return "nothing"

    speak.register(Animal, lambda animal: "some sound")
    return speak


def test_entries_answer_within_and_are_gone_afterwards(speak):
    before = dict(speak.registry)
    overlay = Overlay(speak, {Animal: lambda animal: "ours", Poodle: lambda animal: "also ours"})
    with overlay.active():
        assert [speak(Animal()), speak(Dog()), speak(Poodle()), speak(1)] == ["ours", "ours", "also ours", "nothing"]
    assert dict(speak.registry) == before
    assert [speak(Animal()), speak(Poodle())] == ["some sound", "some sound"]


def test_later_registrations_on_a_base_class_reach_classes_we_had_an_entry_for(speak):
    with Overlay(speak, {Poodle: lambda animal: "ours"}).active():
        pass
    speak.register(Dog, lambda animal: "bark")
    assert speak(Poodle()) == "bark"


def test_a_registration_made_by_others_meanwhile_stays(speak):
    with Overlay(speak, {Dog: lambda animal: "ours"}).active():
        speak.register(Dog, lambda animal: "bark")
    assert speak(Dog()) == "bark"


def test_nesting_and_errors_leave_nothing_behind(speak):
    before = dict(speak.registry)
    overlay = Overlay(speak, {Dog: lambda animal: "ours"})

    def fail():
        with overlay.active():
            with overlay.active():
                pass
            assert speak(Dog()) == "ours"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert dict(speak.registry) == before


def test_other_threads_see_the_stock_answers(speak):
    overlay = Overlay(speak, {Dog: lambda animal: "ours", int: lambda number: "ours"})
    elsewhere = []
    with overlay.active():
        thread = threading.Thread(target=lambda: elsewhere.extend([speak(Dog()), speak(1)]))
        thread.start()
        thread.join()
        assert speak(Dog()) == "ours"
    assert elsewhere == ["some sound", "nothing"]


def test_threads_that_enter_and_leave_at_different_times(speak):
    overlay = Overlay(speak, {Dog: lambda animal: "ours"})
    before = dict(speak.registry)
    wrong = []

    def work():
        for _ in range(300):
            with overlay.active():
                wrong.append(speak(Dog()) != "ours")
            wrong.append(speak(Dog()) != "some sound")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(wrong)
    assert dict(speak.registry) == before
