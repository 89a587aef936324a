"""What is refused at the door: numbers whose squares and products are no finite numbers, and labels that have no order."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

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


def encoded(y: NDArray) -> tuple[NDArray, NDArray]:
    """The classes in ascending order, (n_classes,), and the place of each label among them, (n_rows,).

    Raises
    ------
    TypeError
        Where labels cannot be compared with each other.

    Examples
    --------
    >>> import numpy as np
    >>> encoded(np.array(["yes", "no", "yes"]))
    (array(['no', 'yes'], dtype='<U3'), array([1, 0, 1]))
    """
    try:
        return np.unique(y, return_inverse=True)
    except TypeError as error:
        raise TypeError(f"y: its labels cannot be sorted: {error}. Give labels of one type.") from error
