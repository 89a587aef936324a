"""Arrays of equal numbers as views of one number: a shared penalty, weights of one, take no memory for each feature or row."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def compact(values: NDArray) -> NDArray:
    """The same array, or if all its values are equal, a read-only view of one number."""
    same = values.size and (values == values.flat[0]).all()
    return np.broadcast_to(values.flat[0], values.shape) if same else values


def is_compact(values: NDArray) -> bool:
    """Whether it is a view of one number."""
    return values.size > 0 and not any(values.strides)


def own(values: Any) -> NDArray:
    """A float64 copy, or the array itself where it is a view of one number, which nobody can write to."""
    values = np.asarray(values, dtype=np.float64)
    return values if is_compact(values) else values.copy()


def elementwise(function: Callable[..., NDArray], *arrays: NDArray) -> NDArray:
    """``function(*arrays)``, number by number; of views of one number such a view.

    Examples
    --------
    >>> import numpy as np
    >>> elementwise(np.exp, np.broadcast_to(0.0, 3)).strides
    (0,)
    """
    if not all(map(is_compact, arrays)):
        return function(*arrays)
    one = function(*(values.flat[:1] for values in arrays))[0]
    return np.broadcast_to(one, np.broadcast_shapes(*(values.shape for values in arrays)))
