"""What the runs share that measure loss and error between networks."""

from __future__ import annotations

from pipeline.runs.base import Run, Study
from pipeline.runs.trial import Trial


class Measured(Run):
    """A run that evaluates networks between others, by a connectivity recipe."""

    kind = "connectivity"

    def points(self, study: Study) -> int:
        """Networks that it evaluates, for each correction."""
        raise NotImplementedError

    def obstacle(self, study: Study, trial: Trial) -> str | None:
        problem = (
            trial.problems.get("repair") if "repair" in study.recipe(self).corrections else None
        )
        return problem and f"{problem}: leave repair out of the recipe's corrections ({self.label})"

    def passes(self, study: Study) -> float:
        """Of every network the splits, and for a correction the images that give statistics."""
        recipe, info = study.recipe(self), study.info(self)
        images = min(recipe.images or info.train_images, info.train_images)
        test = min(recipe.test_images or info.test_images, info.test_images)
        measured = images * ("train" in recipe.splits) + test * ("test" in recipe.splits)
        corrected = sum(correction != "none" for correction in recipe.corrections)
        seen = len(recipe.corrections) * measured + corrected * images
        return float(self.points(study) * seen / info.train_images / 3)

    def images(self, study: Study) -> float:
        info = study.info(self)
        return 2.0 * (study.recipe(self).images or info.train_images) + info.test_images
