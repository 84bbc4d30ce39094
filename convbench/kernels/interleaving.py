"""The shuffles that interleave vectors: outputs of adjacent tiles become adjacent pixels."""

from __future__ import annotations

from functools import cache

Shuffle = tuple[int, int, tuple[int, ...]]
"""Two registers, and which of their lanes are picked: those of the second one count from `lanes` on."""


@cache
def interleaving(count: int, lanes: int) -> tuple[tuple[Shuffle, ...], tuple[int, ...]]:
    """The shuffles that interleave `count` vectors, each of which adds a register to these, and the results' registers.

    Of four vectors or more, pairs are interleaved first, in two halves: five vectors then take 16 shuffles, and not the
    20 that merge the lanes of one vector after the other into each result.
    """
    steps: list[Shuffle] = []

    def shuffle(one: int, other: int, picks: list[int]) -> int:
        steps.append((one, other, tuple(picks)))
        return count + len(steps) - 1

    at = {(vector, lane): (vector, lane) for vector in range(count) for lane in range(lanes)}  # (register, its lane)
    for one in range(0, count - 1, 2) if count > 3 else ():  # of three, each result needs all
        for half in range(2):
            sources = [(place % 2, (half * lanes + place) // 2) for place in range(lanes)]  # (which of the two, lane)
            register = shuffle(one, one + 1, [which * lanes + lane for which, lane in sources])
            at |= {(one + which, lane): (register, place) for place, (which, lane) in enumerate(sources)}
    results = []
    for run in range(count):
        wanted = [at[place % count, place // count] for place in range(run * lanes, (run + 1) * lanes)]
        merged, *others = dict.fromkeys(register for register, _ in wanted)
        picks = [lane for _, lane in wanted]
        for other in others:
            picks = [lanes + lane if own == other else pick for pick, (own, lane) in zip(picks, wanted, strict=True)]
            merged, picks = shuffle(merged, other, picks), list(range(lanes))
        results.append(merged if others or count == 1 else shuffle(merged, merged, picks))
    return tuple(steps), tuple(results)
