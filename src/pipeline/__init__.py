"""Sparse training from random initialisation by weight symmetry: science and graph."""

__version__ = "0.1.0"
