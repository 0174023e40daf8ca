"""Figures by kind: what a study's output of that kind is drawn from, and how.

Every builder returns a matplotlib figure and the tidy data that it shows; `save` writes both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import (
    accuracy,
    imp_barrier,
    interpolation,
    mask_sparsity,
    matching_quality,
    plane,
    training_curves,
)  # fmt: skip
from pipeline.report.figures.style import save

# Kind -> builder(name, spec, frame): the frame is `runs` for the two accuracy kinds, `curves` for
# interpolation, `imp_barriers` for imp-barrier, `planes` and `plane_points` for plane, `histories`
# for training-curves, `mask_layers` for mask-sparsity, `match_groups` for matching-quality.
BUILDERS: dict[str, Callable[..., tuple[Figure, pd.DataFrame]]] = {
    "accuracy-vs-rewind": accuracy.against_rewind,
    "accuracy-vs-sparsity": accuracy.against_sparsity,
    "interpolation": interpolation.build,
    "imp-barrier": imp_barrier.build,
    "plane": plane.build,
    "training-curves": training_curves.build,
    "mask-sparsity": mask_sparsity.build,
    "matching-quality": matching_quality.build,
}


def build(
    kind: str, name: str, spec: Mapping[str, Any], *data: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Figure ``name`` of a kind in `BUILDERS` and the data it shows; KeyError if unknown."""
    return BUILDERS[kind](name, spec, *data)


__all__ = ["BUILDERS", "build", "save"]
