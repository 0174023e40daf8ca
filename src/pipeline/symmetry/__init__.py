"""Weight symmetry: which axes move together, applying a permutation, tracing groups, matching."""

from pipeline.symmetry.permutation import (
    apply,
    change,
    compose,
    fixed_points,
    identity,
    inverse,
    moved,
    prove,
    random,
    validate,
)

__all__ = [
    "apply",
    "change",
    "compose",
    "fixed_points",
    "identity",
    "inverse",
    "moved",
    "prove",
    "random",
    "validate",
]
