"""Weight symmetry: which axes move together, applying a permutation, tracing groups, matching."""

from pipeline.symmetry.permutation import (
    Group,
    Permutation,
    PermutationSpec,
    apply,
    change,
    compose,
    identity,
    inverse,
    prove,
    random,
    validate,
)

__all__ = [
    "Group",
    "Permutation",
    "PermutationSpec",
    "apply",
    "change",
    "compose",
    "identity",
    "inverse",
    "prove",
    "random",
    "validate",
]
