"""Warnings that point at the caller's own line, through however many frames of libraries."""

import sys
import warnings
from pathlib import Path

import joblib
import sklearn
import threadpoolctl

LIBRARIES = (
    str(Path(__file__).parent),
    *(str(Path(library.__file__).parent) for library in (sklearn, joblib)),
    threadpoolctl.__file__,
)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """``warnings.warn`` at the nearest frame outside this package and the libraries that call it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(LIBRARIES):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
