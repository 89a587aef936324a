"""What is refused at the door, so that no solver meets it: numbers whose squares and products are no finite numbers."""

from typing import Any

import numpy as np
import scipy.sparse as sp

LEAST, LARGEST = 1e-30, 1e30  # of the largest entry: penalties go with its square, their products with its fourth power


def check_size(values: Any, name: str, remedy: str) -> None:
    """Refuse numbers that are so large, or all so small, that their products overflow.

    Parameters
    ----------
    values : ndarray or sparse array
        Finite. One of zeros alone is taken.
    name : str
        The parameter they come from, for the message.
    remedy : str
        A sentence that says what to do.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> import numpy as np
    >>> check_size(np.array([0.0, 1e200]), "X", "Scale the features.")
    Traceback (most recent call last):
    ...
    ValueError: X: the largest number in it is 1e+200, which is not from 1e-30 to 1e+30. Scale the features.
    """
    entries = values.data if sp.issparse(values) else values
    largest = max(float(np.max(entries, initial=0.0)), -float(np.min(entries, initial=0.0)))
    if largest and not LEAST <= largest <= LARGEST:
        raise ValueError(f"{name}: the largest number in it is {largest:.0e}, which is not from 1e-30 to 1e+30. {remedy}")
