"""Warm-up and sampling, on a clock that goes as the test says."""

from __future__ import annotations

import gc

import pytest

from convbench.measure import timing
from convbench.measure.spec import Timing
from convbench.measure.timing import take_samples, warm_up


class Clock:
    """A clock that each call moves on by the next of some times."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self.calls = 0
        self._seconds = seconds

    def call(self) -> None:
        self.now += self._seconds[min(self.calls, len(self._seconds) - 1)]
        self.calls += 1


@pytest.fixture
def clock(monkeypatch, request) -> Clock:
    clock = Clock(*request.param)
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    return clock


@pytest.mark.parametrize("clock", [(0.3, 0.2, 0.1, 0.101)], indirect=True)
def test_warming_up_ends_when_two_times_agree(clock):
    times, settled = warm_up(clock.call, Timing())
    assert times == pytest.approx([0.3, 0.2, 0.1, 0.101])
    assert settled


@pytest.mark.parametrize("clock", [(0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2)], indirect=True)
def test_times_that_never_settle_are_said_to(clock):
    times, settled = warm_up(clock.call, Timing(max_warmups=6))
    assert len(times) == 6
    assert not settled


@pytest.mark.parametrize("clock", [(5.0,)], indirect=True)
def test_a_slow_call_is_warmed_up_once_and_sampled_once(clock):
    times, settled = warm_up(clock.call, Timing())
    assert times == [5.0]
    assert settled
    assert take_samples(clock.call, Timing(), 5.0) == ([5.0], 1, [])


@pytest.mark.parametrize("clock", [(0.15,)], indirect=True)
def test_samples_go_on_until_there_are_enough_of_them_and_they_last_long_enough(clock):
    samples, loops, _ = take_samples(clock.call, Timing(min_samples=3, min_seconds=0.6), 0.15)
    assert len(samples) == 4
    assert loops == 1


@pytest.mark.parametrize("clock", [(1e-5,)], indirect=True)
def test_a_fast_call_is_repeated_within_a_sample(clock):
    samples, loops, _ = take_samples(clock.call, Timing(sample_seconds=0.002, max_samples=30), 1e-5)
    assert loops >= 200
    assert len(samples) == 30
    assert samples == pytest.approx([1e-5] * 30)
    assert clock.calls == 30 * loops


def test_the_garbage_collector_rests_while_samples_are_taken_and_only_then():
    states = []
    take_samples(lambda: states.append(gc.isenabled()), Timing(max_samples=1), 1.0)
    assert states
    assert not any(states)
    assert gc.isenabled()
