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


@cache
def five_by_halves() -> tuple[tuple[Shuffle, ...], tuple[int, ...]]:
    """Likewise for five vectors of eight lanes, where one instruction picks lanes of two vectors within halves alone.

    Within each half, vectors of four lanes are interleaved; then halves are put together. That is 17 shuffles and three
    blends, where `interleaving` would take some 32 and ten.
    """
    steps: list[Shuffle] = []

    def shuffle(one: int, other: int, *picks: int) -> int:
        steps.append((one, other, picks))
        return 4 + len(steps)

    def within(one: int, other: int, *picks: int) -> int:
        low = [pick % 4 + pick // 4 * 8 for pick in picks]  # of four lanes, those of the second vector count from 4 on
        return shuffle(one, other, *low, *(pick + 4 for pick in low))

    a, b, c, d, e = range(5)
    b_c, d_e = within(b, c, 0, 4, 1, 5), within(d, e, 0, 4, 1, 5)
    upper_d_e = within(d, e, 2, 6, 3, 7)
    fourths = (
        within(within(a, b, 0, 4, 1, 5), within(c, d, 0, 4, 1, 5), 0, 1, 4, 5),  # a0 b0 c0 d0
        within(e, within(a, b_c, 1, 1, 6, 7), 0, 5, 6, 7),  # e0 a1 b1 c1
        within(d_e, within(a, b, 2, 6, 3, 7), 2, 3, 4, 5),  # d1 e1 a2 b2
        within(within(c, a, 2, 2, 7, 7), within(upper_d_e, upper_d_e, 0, 0, 1, 1), 0, 5, 6, 3),  # c2 d2 e2 a3
        within(within(b, c, 2, 6, 3, 7), upper_d_e, 2, 3, 6, 7),  # b3 c3 d3 e3
    )
    low, high = range(4), range(4, 8)
    results = (
        shuffle(fourths[0], fourths[1], *low, *(8 + lane for lane in low)),
        shuffle(fourths[2], fourths[3], *low, *(8 + lane for lane in low)),
        shuffle(fourths[4], fourths[0], *low, *(8 + lane for lane in high)),
        shuffle(fourths[1], fourths[2], *high, *(8 + lane for lane in high)),
        shuffle(fourths[3], fourths[4], *high, *(8 + lane for lane in high)),
    )
    return tuple(steps), results
