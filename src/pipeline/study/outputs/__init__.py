"""Tables and figures as data: what each kind needs, before anything is computed.

A kind is one class in a module of this package, and beside it the module of the same name in
``pipeline.report.tables`` or ``pipeline.report.figures``, which builds it.
"""

from importlib import import_module
from pkgutil import iter_modules

from pipeline.study.outputs.base import KINDS, RULES, Linked, Output, parse_output

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["KINDS", "RULES", "Linked", "Output", "parse_output"]
