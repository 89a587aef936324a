"""
What a search has done, and what it has found
=============================================

A search of one penalty for each feature, drawn: the criterion over its steps, and the penalties.
"""

# %%
# Half of the features of these data are noise, which a penalty of its own can silence.

import matplotlib.pyplot as plt
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from sksid import HypergradientSearchCV, HypergradientSearchDisplay, PenaltyDisplay

X, y = make_classification(2000, 40, n_informative=10, n_redundant=10, shuffle=False, random_state=0)
search = HypergradientSearchCV(LogisticRegression(), structure="per_feature", random_state=0).fit(X, y)

# %%
# The search climbs a ladder: one penalty for all, three hyperparameters, one for each feature. The mean validation loss keeps
# falling on the last rung, where there are penalties enough to fit the validation rows. So it is the monitor that chooses, the
# loss on rows that were kept out of every split.

HypergradientSearchDisplay.from_estimator(search)
plt.show()

# %%
# The first ten features, x0 to x9, carry the signal and have the smallest penalties. The next ten repeat it; from x20 on all is
# noise.

PenaltyDisplay.from_estimator(search)
plt.tight_layout()
plt.show()
