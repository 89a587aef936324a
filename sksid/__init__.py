"""A scikit-learn compatible tuner for the penalties of logistic regression, by stochastic hypergradients."""

from sksid._display import HypergradientSearchDisplay, PenaltyDisplay
from sksid._search import HypergradientSearchCV
from sksid._selection import one_standard_error
from sksid.sid import Hypergradient, hypergradient

__all__ = [
    "Hypergradient",
    "HypergradientSearchCV",
    "HypergradientSearchDisplay",
    "PenaltyDisplay",
    "hypergradient",
    "one_standard_error",
]
__version__ = "0.1.0"
