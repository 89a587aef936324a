"""The log loss of rows, given their outputs Z = X Wᵀ + b, (n_rows, n_outputs): one column where there are two classes."""

import numpy as np
from scipy.special import expit, softmax


def probabilities(outputs):
    """Of the second class, (n_rows, 1), where there are two; else of every class, (n_rows, n_classes)."""
    return expit(outputs) if outputs.shape[1] == 1 else softmax(outputs, axis=1)


def targets(labels, n_outputs):
    """What the probabilities ought to be: whether the row is of that class, (n_rows, n_outputs), float64."""
    classes = np.arange(n_outputs) if n_outputs > 1 else np.ones(1)
    return (labels[:, None] == classes).astype(np.float64)


def row_losses(outputs, labels):
    """ℓ(y_i, z_i), (n_rows,), float64."""
    outputs = outputs.astype(np.float64, copy=False)
    if outputs.shape[1] == 1:
        return np.logaddexp(0.0, np.where(labels == 1, -outputs[:, 0], outputs[:, 0]))
    top = outputs.max(axis=1)
    return top + np.log(np.exp(outputs - top[:, None]).sum(axis=1)) - outputs[np.arange(labels.size), labels]
