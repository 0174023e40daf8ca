"""How different the functions of the solutions are, and what their ensembles gain (Table 1)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.report.claims.judge import Found, Unit, claim, share_but
from pipeline.report.claims.numbers import Numbers, groups, rounded
from pipeline.report.tables import names
from pipeline.results import NETWORK

_MEASURES = {"disagreement": "disagreement", "kl": "KL", "js": "JS"}


@claim("paper, Section 4.2, Table 1", "ensemble accuracy(permuted) > ensemble accuracy(LTH)")
def permuted_ensembles_beat_lth(numbers: Numbers) -> Found:
    """An ensemble of permuted solutions is more accurate than one of LTH solutions."""
    units = []
    for name, rows in _networks(numbers.diversity):
        ours, theirs, _ = rows["ensemble_accuracy"]
        more = ours - theirs
        text = f"permuted {ours:.2f}, LTH {theirs:.2f}, difference {names.signed(more)}"
        units.append(Unit(name, names.unless_nan(more, text), above=[rounded(more)]))
    return Found(units, share_but(units, "networks have the better permuted ensemble"))


@claim("paper, Section 4.2, Table 1", "disagreement, KL and JS, each: permuted > LTH")
def permuted_more_diverse_than_lth(numbers: Numbers) -> Found:
    """Permuted solutions are more diverse functions than LTH solutions."""
    units = []
    for name, rows in _networks(numbers.diversity):
        for measure, label in _MEASURES.items():
            ours, theirs, upper = rows[measure]
            text = f"permuted {ours:.3f}, LTH {theirs:.3f}"
            text += names.unless_nan(upper, f", IMP {upper:.3f}")
            more = ours - theirs
            units.append(Unit(f"{name}, {label}", names.unless_nan(more, text), above=[more]))
    return Found(units, share_but(units, "measures are higher for permuted"))


def _networks(frame: pd.DataFrame | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every network's values of permuted, LTH and IMP, NaN where there are none."""
    columns = ["ensemble_accuracy", *_MEASURES]
    for key, group in groups(frame, NETWORK):
        rows = group.drop_duplicates("method", keep="last").set_index("method")
        rows = rows.reindex(index=["permuted", "lth", "imp"], columns=columns)
        yield names.place(**key), rows.astype(float)
