"""
A descriptor of your own
========================

You often know more about the features than a model does: which are neighbors,
where they come from, how they were measured. A function that puts such
knowledge into a number for each feature lets penalties follow it; one
hyperparameter says how far.
"""

# %%
# Handwritten digits, 8 × 8 pixels, as a sensor of 24 × 24 pixels sees them:
# somewhere on it, always in the same place, and with noise on every pixel. The
# digits are real, the noise is made. 300 images to learn from, the others are
# for the test.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sksid import HypergradientSearchCV
from sksid.descriptors import evidence

digits = load_digits()
images = np.random.default_rng(0).normal(
    scale=0.6, size=(len(digits.target), 24, 24)
)
images[:, 5:13, 9:17] += digits.images / 16
X, y = images.reshape(len(images), -1), digits.target
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, stratify=y, random_state=0
)

# %%
# ``"evidence"`` is what each pixel alone says of the digit, log(1 + t²). With
# 300 images that is a noisy number. But where a pixel says something, so do
# its neighbors. So our descriptor averages t² over a pixel's neighborhood. It
# gets the training rows of a split and returns a number for each feature;
# nothing else is asked of it.


def neighborhood(X_train, y_train, sample_weight):
    """What a pixel and those around it say of the digit."""
    t_squared = np.expm1(evidence(X_train, y_train, sample_weight))
    side = int(np.sqrt(t_squared.size))
    return np.log1p(
        gaussian_filter(t_squared.reshape(side, side), sigma=1.0)
    ).ravel()


def search(structure):
    """A fitted search."""
    return HypergradientSearchCV(
        LogisticRegression(), structure=structure, random_state=0
    ).fit(X_train, y_train)


searches = {
    "one C": search("shared"),
    "evidence": search("evidence"),
    "neighborhood": search(neighborhood),
}

# %%
# The test images have the last word. A difference to one C is paired, image by
# image, and has its standard error behind it.


def row_losses(model):
    """The log loss of each test image."""
    return -np.log(model.predict_proba(X_test)[np.arange(len(y_test)), y_test])


for name, model in searches.items():
    gain = row_losses(model) - row_losses(searches["one C"])
    accuracy = np.mean(model.predict(X_test) == y_test)
    print(
        f"{name:13s} test log loss {row_losses(model).mean():.3f}, "
        f"to one C {gain.mean():+.3f} ± "
        f"{gain.std() / np.sqrt(gain.size):.3f}, accuracy {accuracy:.1%}"
    )

# %%
# The slope is negative: a pixel whose neighborhood says more is penalized
# less. Large penalties keep what is not of the digit out of the model: below,
# the size of the coefficients of each pixel over the ten classes.

print(searches["neighborhood"].descriptor_params_)

figure, axes = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
described = {
    f"a {y_train[4]}, as the sensor sees it": X_train[4],
    "evidence": evidence(X_train, y_train),
    "evidence of the neighborhood": neighborhood(X_train, y_train, None),
}
for ax, (title, values) in zip(axes[0], described.items(), strict=True):
    ax.imshow(
        values.reshape(24, 24),
        cmap="gray_r" if ax is axes[0, 0] else "viridis",
    )
    ax.set_title(title, fontsize=10)
for ax, (name, model) in zip(axes[1], searches.items(), strict=True):
    size = np.linalg.norm(model.best_estimator_.coef_, axis=0)
    ax.imshow(size.reshape(24, 24), cmap="magma")
    ax.set_title(
        f"coefficients, {name}\ntest log loss {row_losses(model).mean():.2f}",
        fontsize=10,
    )
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# A descriptor is worth what it knows. Where every pixel is of the digit,
# without the sensor around it, there is next to nothing to know, and little
# harm is done:

X_train, X_test, y_train, y_test = train_test_split(
    digits.data / 16, y, train_size=300, stratify=y, random_state=0
)
for name, model in {
    "one C": search("shared"),
    "neighborhood": search(neighborhood),
}.items():
    print(f"{name:13s} test log loss {row_losses(model).mean():.3f}")
