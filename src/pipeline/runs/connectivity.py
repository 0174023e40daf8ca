"""What the runs share that measure loss and error between networks."""

from __future__ import annotations

from pipeline.runs.base import Run, Study


class Measured(Run):
    """A run that evaluates networks between others, by a connectivity recipe."""

    kind = "connectivity"

    def points(self, study: Study) -> int:
        """Networks that it evaluates, for each correction."""
        raise NotImplementedError

    def passes(self, study: Study) -> float:
        recipe, info = study.recipe(self), study.info(self)
        test = min(recipe.test_images or info.test_images, info.test_images)
        share = 1.0
        if recipe.images:  # those that give statistics, and the two splits evaluated
            share = min(1.0, (2 * recipe.images + test) / (2 * info.train_images))
        return float(share * self.points(study) * len(recipe.corrections) * 2 / 3)

    def images(self, study: Study) -> float:
        info = study.info(self)
        return 2.0 * (study.recipe(self).images or info.train_images) + info.test_images
