"""Scikit-learn's digits: 1,797 real 8x8 images of handwritten digits that come with a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from pipeline.data import Split


def read_digits() -> tuple[Split, Split]:
    """Training and test split of the digits, uint8 [1437, 1, 8, 8] and [360, 1, 8, 8].

    Values 0..16 are scaled to 0..255 with integer rounding. The split is a fixed rule, stratified
    and free of random numbers: sort the images by class (stable, so in scikit-learn's order within
    a class); every fifth of that list, the first included, is a test image. Both splits keep
    scikit-learn's order. Writers are not separated (the data do not name them).
    """
    table = _table()
    images = ((table[:, :-1].astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    images = images.reshape(-1, 1, 8, 8)
    labels = table[:, -1]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[np.argsort(labels, kind="stable")[::5]] = True
    return (
        Split.from_arrays(images[~is_test], labels[~is_test]),
        Split.from_arrays(images[is_test], labels[is_test]),
    )


def _table() -> np.ndarray:
    """What ``load_digits`` reads: [1797, 65], 64 pixels in 0..16 and the class.

    The file is read where the installed package keeps it, because importing scikit-learn takes
    longer (0.8 s) than many a run on the digits needs for an epoch.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return np.loadtxt(path, delimiter=",", dtype=np.int64)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels]).astype(np.int64)
