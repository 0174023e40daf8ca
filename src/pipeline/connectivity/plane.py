"""Loss planes: the plane in weight space through three networks (paper, Fig. 4b)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.connectivity.merge import StateDict, check_same_shapes, combine
from pipeline.connectivity.survey import Ground, Row, Surveyor

Point = tuple[float, float]


@dataclass(frozen=True)
class Plane:
    """Coordinates in the plane through three networks, in units of Euclidean weight distance.

    The first network is the origin, the x axis points to the second, which lies at
    (``base``, 0); the third lies at (``foot``, ``height``) with height > 0 (Gram-Schmidt).
    """

    base: float
    foot: float
    height: float

    @property
    def points(self) -> tuple[Point, Point, Point]:
        """Coordinates of the three networks."""
        return (0.0, 0.0), (self.base, 0.0), (self.foot, self.height)

    def coefficients(self, x: float, y: float) -> tuple[float, float, float]:
        """The affine combination of the three networks that lies at (x, y).

        The coefficients sum to one; at the networks' own coordinates they are exactly 1, 0 and 0.
        """
        third = y / self.height
        second = (x - third * self.foot) / self.base
        return 1.0 - second - third, second, third

    def axes(
        self, grid: int, margin: float, also: Sequence[Point] = ()
    ) -> tuple[list[float], list[float]]:
        """``grid`` values of x and of y that span the networks, and points beside, with a border.

        ``margin``: width of the border on each side, as a share of the extent in that direction.
        """
        if grid < 2 or margin < 0:
            raise ValueError(f"grid {grid}, margin {margin}: need grid >= 2 and margin >= 0")

        def axis(values: Sequence[float]) -> list[float]:
            low, high = min(values), max(values)
            border = margin * (high - low)
            start, step = low - border, (high - low + 2 * border) / (grid - 1)
            return [start + index * step for index in range(grid)]

        points = [*self.points, *also]
        return axis([x for x, _ in points]), axis([y for _, y in points])


@dataclass(frozen=True)
class PlaneSurvey:
    """Rows of a loss plane. grid: x, y, correction, split, loss (nats), error (%).

    models: the same columns at the three networks, and ``model``, their name.
    """

    plane: Plane
    grid: list[Row]
    models: list[Row]


@torch.no_grad()
def span(thetas: Sequence[StateDict], parameters: Sequence[str]) -> Plane:
    """The plane through three networks, measured on their ``parameters`` (float64).

    BatchNorm's running statistics are no weights: leave them out of ``parameters``. ValueError if
    the three lie on a line (two equal ones do).
    """
    if len(thetas) != 3:
        raise ValueError(f"a plane goes through three networks, not {len(thetas)}")
    check_same_shapes(thetas)
    origin, second, third = thetas

    def total(term: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Sum over parameters of a term of the differences to the origin."""
        differences = (
            (second[name].double() - start, third[name].double() - start)
            for name, start in ((name, origin[name].double()) for name in parameters)
        )
        return float(torch.stack([term(s, t).sum() for s, t in differences]).sum())

    base = math.sqrt(total(lambda s, t: s * s))
    if base > 0.0:
        foot = total(lambda s, t: s * t) / base
        height = math.sqrt(total(lambda s, t: (t - (foot / base) * s).square()))
        if height > 1e-9 * math.hypot(foot, base):
            return Plane(base, foot, height)
    raise ValueError("the three networks lie on a line: they span no plane")


@torch.no_grad()
def project(
    plane: Plane, thetas: Sequence[StateDict], theta: StateDict, parameters: Sequence[str]
) -> tuple[float, float, float]:
    """Coordinates of a network's orthogonal projection onto a plane, and its distance to it.

    plane, thetas, parameters: as `span` gave and took them. All three in units of weight distance,
    computed in float64; a tensor at a time, in the memory of four.
    """
    origin, second, third = thetas
    along = across = 0.0
    for name in parameters:
        start = origin[name].double()
        moved, s, t = (each[name].double() - start for each in (theta, second, third))
        along += float((moved * s).sum())
        across += float((moved * t).sum())
    x = along / plane.base
    y = (across - plane.foot * x) / plane.height
    _, to_second, to_third = plane.coefficients(x, y)
    squared = 0.0
    for name in parameters:
        start = origin[name].double()
        moved, s, t = (each[name].double() - start for each in (theta, second, third))
        squared += float((moved - to_second * s - to_third * t).square().sum())
    return x, y, math.sqrt(squared)


def survey_plane(
    ground: Ground,
    thetas: Mapping[str, StateDict],
    *,
    grid: int,
    margin: float,
    correction: str,
    also: Sequence[Point] = (),
) -> PlaneSurvey:
    """Loss and 0-1 loss on a grid of the plane through three named networks (Fig. 4b).

    thetas: three state dicts, already modulo pi where that is wanted; the first is the origin.
    grid: points per side. margin: border as a share of the extent, see ``Plane.axes``; ``also``:
        further points that the grid spans.
    correction: "none", "reset" or "repair", at every point that is not one of the networks.
        A network with BatchNorm needs one: its averaged running statistics fit no mixture, and
        outside of the triangle an extrapolated variance can be negative (an infinite loss).
    """
    surveyor = Surveyor(ground, tuple(thetas.values()), (correction,))
    plane = span(surveyor.endpoints, [name for name, _ in ground.model.named_parameters()])

    def at(x: float, y: float) -> list[Row]:
        coefficients = plane.coefficients(x, y)
        theta = combine(surveyor.endpoints, coefficients)
        return [{"x": x, "y": y, **row} for row in surveyor.survey(theta, coefficients)]

    xs, ys = plane.axes(grid, margin, also)
    return PlaneSurvey(
        plane=plane,
        grid=[row for y in ys for x in xs for row in at(x, y)],
        models=[
            {"model": name, **row}
            for name, point in zip(thetas, plane.points, strict=True)
            for row in at(*point)
        ],
    )
