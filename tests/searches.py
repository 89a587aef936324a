"""The search that most tests make."""

from sklearn.linear_model import LogisticRegression

from sksid import HypergradientSearchCV


def search_for(structure="shared", *, estimator=None, cv=3, random_state=0, **settings):
    """Of one penalty in three folds, unless set otherwise; unfitted."""
    estimator = LogisticRegression() if estimator is None else estimator
    return HypergradientSearchCV(estimator, structure=structure, cv=cv, random_state=random_state, **settings)
