"""A scikit-learn compatible tuner for the penalties of logistic regression, by stochastic hypergradients."""

from sksid._search import HypergradientSearchCV
from sksid.sid import Hypergradient, hypergradient

__all__ = ["Hypergradient", "HypergradientSearchCV", "hypergradient"]
__version__ = "0.1.0"
