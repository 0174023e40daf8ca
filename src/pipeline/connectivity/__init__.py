"""Linear connectivity: merged networks, their correction, barriers and loss planes."""

from pipeline.connectivity.barrier import barrier, curve
from pipeline.connectivity.batches import Batches, normalised_batches
from pipeline.connectivity.correction import (
    CORRECTIONS,
    endpoint_statistics,
    mix_statistics,
    repair,
    reset_batch_norm,
)
from pipeline.connectivity.merge import combine, interpolate
from pipeline.connectivity.plane import Plane, PlaneSurvey, span, survey_plane
from pipeline.connectivity.survey import Ground

__all__ = [
    "CORRECTIONS",
    "Batches",
    "Ground",
    "Plane",
    "PlaneSurvey",
    "barrier",
    "combine",
    "curve",
    "endpoint_statistics",
    "interpolate",
    "mix_statistics",
    "normalised_batches",
    "repair",
    "reset_batch_norm",
    "span",
    "survey_plane",
]
