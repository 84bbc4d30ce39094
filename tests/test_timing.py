"""Warm-up and sampling, on a clock that goes as the test says."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from convbench.measure.instruments import host
from convbench.measure.spec import Timing
from convbench.measure.timing import seconds, take_samples, wake, warm_up


class Clock:
    """A clock that nothing but calls move on: each by the next of some times, and the last ones by the last."""

    def __init__(self, *times: float) -> None:
        self.now = 0.0
        self.calls = 0
        self._times = times

    def call(self) -> None:
        """What is timed."""
        self.now += self._times[min(self.calls, len(self._times) - 1)]
        self.calls += 1

    def read(self) -> float:
        return self.now

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """The clock as what is tested takes it: the real function, on another clock."""
        return seconds(call, loops, self.read)


def test_the_time_of_several_calls_is_what_passes_from_before_the_first_to_after_the_last():
    clock = Clock(0.5, 0.25, 2.0)
    assert clock.seconds(clock.call, 3) == 2.75
    assert clock.calls == 3
    assert clock.seconds(clock.call, 0) == 0


def test_by_itself_it_is_the_hosts_clock():
    calls = []
    assert seconds(lambda: calls.append(1), 5) >= 0
    assert len(calls) == 5


def test_warming_up_ends_when_two_times_agree():
    clock = Clock(0.3, 0.2, 0.1, 0.101)
    times, settled = warm_up(clock.call, Timing(), clock.seconds)
    assert times == pytest.approx([0.3, 0.2, 0.1, 0.101])
    assert settled
    assert clock.calls == 4


def test_times_that_never_settle_are_said_to():
    clock = Clock(0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2)
    times, settled = warm_up(clock.call, Timing(max_warmups=6), clock.seconds)
    assert len(times) == 6
    assert not settled


def test_warming_up_ends_when_its_time_is_over():
    clock = Clock(1.0, 2.0, 1.0)
    times, settled = warm_up(clock.call, Timing(warmup_seconds=2.5), clock.seconds)
    assert times == [1.0, 2.0]
    assert not settled


def test_a_slow_call_is_warmed_up_once_and_sampled_once():
    clock = Clock(5.0)
    times, settled = warm_up(clock.call, Timing(), clock.seconds)
    assert times == [5.0]
    assert settled
    assert take_samples(clock.call, Timing(), [5.0], clock=clock.seconds) == ([5.0], 1, [])


def test_samples_go_on_until_there_are_enough_of_them_and_they_last_long_enough():
    clock = Clock(0.15)
    samples, loops, _ = take_samples(clock.call, Timing(min_samples=3, min_seconds=0.6), [0.15], clock=clock.seconds)
    assert len(samples) == 4
    assert loops == 1


def test_a_fast_call_is_repeated_within_a_sample():
    clock = Clock(1e-5)
    timing = Timing(sample_seconds=0.002, max_samples=30)
    samples, loops, _ = take_samples(clock.call, timing, [1e-5], clock=clock.seconds)
    assert loops >= 200
    assert len(samples) == 30
    assert samples == pytest.approx([1e-5] * 30)
    assert clock.calls == 30 * loops


def test_what_prepares_and_observes_a_sample_is_outside_of_the_clock():
    clock, order = Clock(1.0), []

    def step(name: str) -> Callable[[], float]:
        def taken() -> float:
            order.append(name)
            clock.now += 100
            return clock.now

        return taken

    def call() -> None:
        order.append("call")
        clock.call()

    timing = Timing(min_samples=2, max_samples=2, min_seconds=0)
    observe = (step("before"), step("after"))
    samples, loops, observed = take_samples(call, timing, [1e-9], step("prepare"), observe, clock.seconds)
    assert samples == [1.0, 1.0]
    assert loops == 1, "what is prepared is gone after one call"
    assert order == ["prepare", "before", "call", "after"] * 2
    assert observed == [(200, 301), (501, 602)]


def test_a_device_is_woken_for_as_long_as_was_asked():
    clock = Clock(0.06)
    timed = []

    def device_seconds(call: Callable[[], object], loops: int) -> float:
        timed.append(loops)
        call()
        return 1e-6  # by its own clock, which has nothing to do with it

    wake(clock.call, Timing(wake_seconds=0.2), device_seconds, clock.read)
    assert timed == [1, 1, 1, 1]
    wake(clock.call, Timing(wake_seconds=0), device_seconds, clock.read)
    assert clock.calls == 4


def test_the_garbage_collector_rests_while_samples_are_taken_and_only_then():
    clock, states = Clock(1.0), []

    def call() -> None:
        states.append(gc.isenabled())
        clock.call()

    take_samples(call, Timing(max_samples=1), [1.0], clock=clock.seconds)
    assert states == [False]
    assert gc.isenabled()

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_samples(interrupted, Timing(max_samples=1), [1.0], clock=clock.seconds)
    assert gc.isenabled()
    gc.disable()
    try:
        take_samples(call, Timing(max_samples=1), [1.0], clock=clock.seconds)
        assert not gc.isenabled(), "a caller's choice is left alone"
    finally:
        gc.enable()


def test_a_first_sample_that_turns_out_far_too_short_is_a_warm_up_more():
    """The calls before it were disturbed: they took 10 ms each, where it takes 10 us."""
    clock, warmups, observed = Clock(1e-5), [0.011, 0.01], iter(range(100))
    timing = Timing(sample_seconds=0.01, min_samples=3, min_seconds=0.02)
    observe = (lambda: next(observed), lambda: next(observed))
    samples, loops, seen = take_samples(clock.call, timing, warmups, observe=observe, clock=clock.seconds)
    assert loops == 1000
    assert samples == pytest.approx([1e-5] * 3)
    assert warmups == pytest.approx([0.011, 0.01, 1e-5])
    assert seen == [(2, 3), (4, 5), (6, 7)], "what was observed around it is gone with it"
    assert clock.calls == 2 + 3 * 1000


def test_a_sample_that_is_not_much_too_short_is_one_and_so_is_any_later_one():
    timing = Timing(sample_seconds=0.01, min_samples=3, max_samples=3, min_seconds=0)
    for times, loops in (((0.004,), 2), ((0.01, 0.01, 1e-5), 2), ((0.02,), 2)):
        clock, warmups = Clock(*times), [0.01]
        samples, found, _ = take_samples(clock.call, timing, warmups, clock=clock.seconds)
        assert (len(samples), found, warmups) == (3, loops, [0.01])
    clock, warmups = Clock(1e-5), [0.01]
    samples, loops, _ = take_samples(clock.call, timing, warmups, prepare=lambda: None, clock=clock.seconds)
    assert (len(samples), loops, warmups) == (3, 1, [0.01]), "what is prepared is gone after one call"


def test_the_fastest_warm_up_tells_how_many_calls_make_a_sample():
    clock = Clock(1e-3)
    timing = Timing(sample_seconds=0.01, max_samples=1)
    assert take_samples(clock.call, timing, [0.5, 1e-3, 0.3], clock=clock.seconds)[1] == 10
    assert clock.calls == 10, "none was made to find that out"


def test_cores_are_kept_busy_for_longer_before_the_warm_up_the_more_there_are(monkeypatch):
    """Workers that share a core at first would make every call of the warm-up last some time slices."""
    asked = []
    monkeypatch.setattr(host, "wake", lambda _, timing, __: asked.append(timing.wake_seconds))
    instrument = host.HostInstrument("private", ())
    for cores in (1, 2, 8, 64):
        subject = SimpleNamespace(call=None, cpus=range(cores))
        instrument.wake(subject, Timing(sample_seconds=0.005, wake_seconds=0.2))
    assert asked == pytest.approx([0.025, 0.045, 0.165, 0.2])
