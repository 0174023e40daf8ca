"""Figures by kind: what an output reads, and how it is drawn.

Every builder returns a matplotlib figure and the tidy data that it shows; `save` writes both.
"""

from pipeline.report.figures.style import save

__all__ = ["save"]
