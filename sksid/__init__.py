"""A scikit-learn compatible tuner for the penalties of logistic regression, by stochastic hypergradients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sksid._display import HypergradientSearchDisplay
    from sksid._display_features import CoefficientDisplay, PenaltyDisplay
    from sksid._search import HypergradientSearchCV
    from sksid._selection import one_standard_error
    from sksid.logistic import Hypergradient, hypergradient

__all__ = [
    "CoefficientDisplay",
    "Hypergradient",
    "HypergradientSearchCV",
    "HypergradientSearchDisplay",
    "PenaltyDisplay",
    "hypergradient",
    "one_standard_error",
]
__version__ = "0.1.0"

_HOMES = {
    "CoefficientDisplay": "_display_features",
    "Hypergradient": "logistic",
    "HypergradientSearchCV": "_search",
    "HypergradientSearchDisplay": "_display",
    "PenaltyDisplay": "_display_features",
    "hypergradient": "logistic",
    "one_standard_error": "_selection",
}
_MODULES = (
    "blocks",
    "bounds",
    "callbacks",
    "descent",
    "logistic",
    "objective",
    "optimizers",
    "problem",
    "sid",
    "solvers",
    "stages",
    "structures",
)


def __getattr__(name: str) -> Any:
    """A public name or module, imported when it is first asked for."""
    if name in _MODULES:
        return import_module(f"sksid.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"sksid.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
