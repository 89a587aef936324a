"""
What a search has done, and what it has found
=============================================

A search of one penalty for each feature, drawn: the criterion over its steps, and the penalties.
"""

# %%
# Half of the features of these data are noise. A large penalty of its own keeps such a feature out of the model.

import matplotlib.pyplot as plt
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from sksid import HypergradientSearchCV, HypergradientSearchDisplay, PenaltyDisplay

X, y = make_classification(2000, 40, n_informative=10, n_redundant=10, shuffle=False, random_state=0)
search = HypergradientSearchCV(LogisticRegression(), structure="per_feature", random_state=0).fit(X, y)

# %%
# The search has three stages: one penalty for all features, penalties that follow the features' moments and evidence, one
# penalty for each feature. So many penalties can overfit the rows that choose them. So in the last two stages each split's
# penalties are found without its validation rows: the scores of these stages are nested.

HypergradientSearchDisplay.from_estimator(search)
plt.show()

# %%
# The first ten features, x0 to x9, carry the signal and have the smallest penalties. The next ten repeat it; from x20 on all is
# noise.

PenaltyDisplay.from_estimator(search)
plt.tight_layout()
plt.show()
