"""What is known of a network before its first training: what its trial has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Trial:
    """What a trial of a network (`pipeline.stages.trial`) has found.

    ``parameters`` are trainable numbers, ``activations`` those that the layers give for one image.
    ``prunable`` are the weights that pruning may remove, by the setting of the same name.
    ``problems`` say why it cannot do what not every run asks of it: "groups" (no units of it can be
    permuted), "repair", and matchers that do not know its units. ``groups`` is the digest of its
    permutation groups. Until it is ``done``, only the first two are known.
    """

    parameters: int
    activations: int
    prunable: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    groups: str = ""
    done: bool = False

    @property
    def memory_mb(self) -> int:
        """Main memory that the trial itself takes, in MB.

        Ten copies in double precision, of the network and of what its layers give for 16 images:
        that the trace keeps, and those that the proof permutes.
        """
        return 1000 + int(80 * (self.parameters + 2 * self.activations) / 1e6)
