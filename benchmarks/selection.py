"""Kinds of selection models beside each other, and the model that comes with the package.

    python -m benchmarks.selection [FILE...]           # report cards of all kinds, on what convbench tune has measured
    python -m benchmarks.selection --write FILE...     # convbench/select/default.json from the same

FILE is a measured.jsonl of some machine.  [default: what was measured on this one]

Trees are fitted by scikit-learn, which is in the `dev` extra: convbench itself has no use for it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from convbench.problem import Problem
from convbench.select import known, remembering, written
from convbench.select.contenders import counted
from convbench.select.judging.picker import Pick, Picker, models
from convbench.select.judging.report_card import report_card
from convbench.select.judging.shape_features import feature_matrix, features
from convbench.select.judging.table import Table
from convbench.select.judging.tuned import table_of, tuned_table
from convbench.select.tuning import fitted_to

SEED: Final = 0
SPLITTINGS: Final = ("network", "layer")
UNABLE: Final = 3.0  # log of the ratio of a candidate that was not measured


def tree_of_winners(table: Table) -> Pick:
    """One small tree over the shape that names the fastest candidate, as mbNet has it."""
    from sklearn.tree import DecisionTreeClassifier

    fastest = np.nanargmin(table.seconds, axis=1)
    tree = DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=3, random_state=SEED)
    tree.fit(np.log2(feature_matrix(table.problems)), fastest)

    def pick(problem: Problem, able: Sequence[int]) -> int | None:
        shares = dict(zip(tree.classes_, tree.predict_proba([np.log2(features(problem))])[0], strict=True))
        return max(able, key=lambda column: shares.get(column, 0.0))

    return pick


def trees_of_ratios(table: Table) -> Pick:
    """A forest over the shape for the logarithms of all candidates' times over the fastest."""
    return _forest(table, lambda problem: list(np.log2(features(problem))))


def trees_of_ratios_with_counts(table: Table) -> Pick:
    """The same, with the counted work of every candidate among the features."""
    kinds = {name: sorted(counted(table.shapes[0], name)) for name in table.candidates}

    def described(problem: Problem) -> list[float]:
        found = list(np.log2(features(problem)))
        for name in table.candidates:
            counts = counted(problem, name)
            found += [math.log2(1 + counts.get(kind, 0.0)) for kind in kinds[name]]
        return found

    return _forest(table, described)


def _forest(table: Table, described: Callable[[Problem], list[float]]) -> Pick:
    from sklearn.ensemble import ExtraTreesRegressor

    ratios = np.where(table.able, np.log1p(np.nan_to_num(table.regrets)), UNABLE)
    forest = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=SEED)
    forest.fit([described(problem) for problem in table.shapes], np.minimum(ratios, UNABLE))

    def pick(problem: Problem, able: Sequence[int]) -> int | None:
        expected = forest.predict([described(problem)])[0]
        return min(able, key=lambda column: expected[column])

    return pick


KINDS: Final[Mapping[str, Picker]] = {
    "tree of winners": tree_of_winners,
    "trees of ratios": trees_of_ratios,
    "trees of ratios, counts too": trees_of_ratios_with_counts,
}


def compare(table: Table) -> None:
    """Print the cards of all kinds."""
    for held_out in SPLITTINGS:
        card = report_card(table, held_out, pickers={**models(), **KINDS})
        print(f"held out by {held_out}, {card.marks.card.problems} problems")
        for name, marks in {**card.models, **card.baselines}.items():
            one = marks.card
            print(
                f"  {name:28} top-1 {one.top_1:6.1%}  within 5 % {one.within_5_percent:6.1%}  "
                f"mean {one.mean_regret:7.2%}  worst {one.worst_regret:7.1%}  oracle {one.of_oracle:6.1%}"
            )


def write(lines: Sequence[Mapping[str, Any]]) -> None:
    """Fit the default model to measurements."""
    model = fitted_to(remembering.seconds(lines), remembering.packing(lines))
    machines = {json.dumps({key: line["machine"][key] for key in ("cpu", "vectors", "caches")}) for line in lines}
    learned_on = {"learned on": [json.loads(machine) for machine in sorted(machines)]}
    known.DEFAULT.write_text(json.dumps(written.model_to(model, learned_on), separators=(",", ":")) + "\n")
    print(f"{known.DEFAULT}: {len(model.problems)} problems, {known.DEFAULT.stat().st_size} bytes")


def main() -> None:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="measured.jsonl of a tuned machine")
    parser.add_argument("--write", action="store_true", help="write the model that comes with the package")
    arguments = parser.parse_args()
    lines: list[Any] = [json.loads(line) for path in arguments.files for line in path.read_text().splitlines()]
    if arguments.write:
        write(lines or remembering.lines())
    else:
        compare(table_of(remembering.seconds(lines)) if lines else tuned_table())


if __name__ == "__main__":
    main()
