"""How differently networks decide, and what an ensemble of them gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.catalog.schema import option
from pipeline.study.outputs.base import Members


@dataclass(frozen=True)
class Diversity(Members):
    """Ensembles and functional diversity of dense, IMP, LTH, permuted and naive runs: Table 1."""

    kind = "diversity"
    numbers = ("1", "4.3")
    shows = (
        "Accuracy of single networks and of their ensemble, and how differently the networks "
        "decide, per method; ± sample standard deviation."
    )

    kl: Literal["ordered", "forward"] = option("ordered", "pairs over which KL is averaged")
    js: Literal["halved", "whole"] = option(
        "halved", "JS: mean of both divergences from the middle, or their sum"
    )
    js_unit: Literal["nats", "bits"] = option("nats", "unit of JS")
