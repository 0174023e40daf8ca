"""Pictures that tests draw themselves: a folder of JPEG files for each class."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw

#: A class is a shape in a range of colours.
SHAPES = ("cross", "diagonal", "disc", "frame", "square", "stripes")


def draw(shape: str, width: int, height: int, stream: random.Random) -> Image.Image:
    """One picture: a shape somewhere on a noisy background."""
    background = tuple(stream.randrange(160, 256) for _ in range(3))
    image = Image.new("RGB", (width, height), background)
    brush = ImageDraw.Draw(image)
    colour = tuple(stream.randrange(0, 120) for _ in range(3))
    side = min(width, height) * stream.uniform(0.4, 0.7)
    left, top = stream.uniform(0, width - side), stream.uniform(0, height - side)
    right, bottom, half = left + side, top + side, side / 2
    if shape == "disc":
        brush.ellipse((left, top, right, bottom), fill=colour)
    elif shape == "square":
        brush.rectangle((left, top, right, bottom), fill=colour)
    elif shape == "diagonal":
        brush.line((left, top, right, bottom), fill=colour, width=int(side / 4))
    elif shape == "frame":
        brush.rectangle((left, top, right, bottom), outline=colour, width=int(side / 8))
    elif shape == "stripes":
        for place in range(0, width, 8):
            brush.line((place, 0, place, height), fill=colour, width=3)
    else:
        brush.line((left, top + half, right, top + half), fill=colour, width=int(side / 4))
        brush.line((left + half, top, left + half, bottom), fill=colour, width=int(side / 4))
    return image


def folder(
    root: Path,
    *,
    classes: int = 4,
    train: int = 12,
    test: int = 4,
    sizes: tuple[int, int] = (40, 72),
) -> Path:
    """Write ``root/{train,val}/<class>/*.jpg``: so many pictures of each class, of unlike sizes."""
    stream = random.Random(0)
    for split, count in (("train", train), ("val", test)):
        for shape in SHAPES[:classes]:
            place = root / split / shape
            place.mkdir(parents=True)
            for number in range(count):
                image = draw(shape, stream.randint(*sizes), stream.randint(*sizes), stream)
                image.save(place / f"{number:03d}.{'JPEG' if number % 2 else 'jpg'}", quality=90)
    return root
