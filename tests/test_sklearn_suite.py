"""scikit-learn's own tests of its searches, run on this one. Those that cannot pass are listed, each with a reason.

An entry of the list that passes is a failure: the list is no longer than it has to be.
"""

import inspect
from fnmatch import fnmatchcase

import pytest
import sklearn.experimental.enable_halving_search_cv  # noqa: F401
from adapted import Consuming, RegressionSearch, Search, Stand, adapted, those_of
from sklearn.linear_model import LogisticRegression

SEARCHES = {
    f"sklearn.model_selection.{name}": Search
    for name in ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
}
CLASSIFIERS = {
    f"sklearn.{name}": Stand
    for name in (
        "discriminant_analysis.LinearDiscriminantAnalysis",
        "dummy.DummyClassifier",
        "ensemble.HistGradientBoostingClassifier",
        "neighbors.KNeighborsClassifier",
        "svm.LinearSVC",
        "svm.SVC",
        "tree.DecisionTreeClassifier",
        "utils._mocking.CheckingClassifier",
        "utils._testing.MinimalClassifier",
    )
}
ONLY_SEARCHES = {
    "sklearn.utils.all_estimators": lambda: [("Search", Search)],
    "sklearn.utils._test_common.instance_generator._construct_instances": lambda kind: [kind(LogisticRegression())],
}
CONSUMERS = {
    "sklearn.tests.metadata_routing_common.ConsumingClassifier": Consuming,
    "sklearn.tests.metadata_routing_common.NonConsumingClassifier": Stand,
}

searches = adapted("sklearn.model_selection.tests.test_search", SEARCHES | CLASSIFIERS, MockClassifier=Stand)
delegation = adapted("sklearn.tests.test_metaestimators", SEARCHES | ONLY_SEARCHES)
delegation.DELEGATING_METAESTIMATORS = [made for made in delegation.DELEGATING_METAESTIMATORS if made.name == "GridSearchCV"]
routing = adapted("sklearn.tests.test_metaestimators_metadata_routing", SEARCHES | CONSUMERS)
regression = adapted(
    "sklearn.linear_model.tests.test_logistic", {"sklearn.linear_model.LogisticRegressionCV": RegressionSearch}
)


def is_routed(case):
    return isinstance(case, dict) and case["metaestimator"] is Search


def is_of_cv(test):
    return "LogisticRegressionCV" in inspect.unwrap(test).__code__.co_names


globals().update(
    dict(those_of(searches))
    | dict(those_of(delegation))
    | dict(those_of(routing, is_routed))
    | {name: test for name, test in those_of(regression) if is_of_cv(test)}
)
for name in [name for name in globals() if "array_api" in name]:
    del globals()[name]  # other arrays than NumPy's are not taken

REASONS = {
    "there is no grid: the candidates, their number and their order are the descent's": """
        test_grid_search test_grid_search_bad_param_grid test_grid_search_one_grid_point
        test_grid_search_when_param_grid_includes_range test_refit_callable_out_bound[*-2] test_search_estimator_param*
        test_grid_search_correct_score_results test_custom_run_search test_cv_results_multi_size_array
        test_grid_search_cv_results test_random_search_cv_results test_search_cv_using_minimal_compatible_estimator[Stand*
        test_logistic_cv[* test_logistic_cv_mock_scorer test_LogisticRegressionCV_on_folds test_multinomial_cv_iris*
        test_logistic_regressioncv_class_weights*
    """,
    "training scores are not computed": """
        test_grid_search_cv_results_multimetric test_random_search_cv_results_multimetric
        test_search_cv_results_rank_tie_breaking test_grid_search_cv_splits_consistency test_search_default_iid*
        test_searchcv_raise_warning_with_non_finite_score[*-True]
    """,
    "errors are raised, where error_score would hide them": """
        test_grid_search_failing_classifier test_grid_search_classifier_all_fits_fail
        test_callable_multimetric_error_failing_clf test_callable_multimetric_clf_all_fits_fail
        test_grid_search_failing_classifier_raise test_unsupported_sample_weight_scorer
    """,
    "no other estimator than a logistic regression is tuned": """
        test_classes__property test_cv_results_dtype_issue_29074 test_empty_cv_iterator_error test_gridsearch_nd
        test_grid_search_pipeline_steps test_grid_search_precomputed_kernel test_grid_search_with_multioutput_data
        test_gridsearch_no_predict test_random_search_bad_cv test_refit test_search_cv_results_none_param
        test_search_cv_pairwise_property_equivalence_of_precomputed test_search_cv_sample_weight_equivalence[estimator1]
        test_search_cv_score_samples_* test_search_cv_using_minimal_compatible_estimator[MinimalRegressor* test_search_html_repr
        test_search_with_2d_array test_search_with_estimators_issue_29157 test_stochastic_gradient_loss_param
        test_transform_inverse_transform_round_trip test_unsupervised_grid_search test_predict_proba_disabled
        test_grid_search_no_score test_metaestimator_delegation
    """,
    "the estimator's own fit is not called: it takes no parameters, and its callbacks see nothing": """
        test_SearchCV_with_fit_params* test_scalar_fit_param* test_setting_request_on_sub_estimator_removes_error*
        test_search_callbacks_*
    """,
    "C is not a number of a grid, so that dense and sparse rows agree up to rounding only": "test_grid_search_sparse*",
    "weights move the start, so that the steps differ and the optimum does not": """
        test_search_cv_sample_weight_equivalence[estimator0]
    """,
    "verbose prints a line for each step": "test_search_cv_verbose_3*",
    "all log losses are infinite, so that there is no descent": "test_logistic_cv_folds_with_classes_missing*",
    "the penalty is L2": """
        test_logistic_cv_refit_false_non_elasticnet test_logistic_regression_cv_refit*
        test_LogisticRegressionCV_GridSearchCV_elastic_net* test_LogisticRegressionCV_elasticnet_attribute_shapes*
        test_l1_ratio_None_deprecated test_scores_attribute_layout_elasticnet
    """,
    "an attribute, a parameter or a warning of LogisticRegressionCV's own": """
        test_LogisticRegressionCV_no_refit* test_logisticregressioncv_warns_with_use_legacy_attributes test_lr_scoring_warns
        test_get_default_scorer test_lr_cv_scores_* test_passing_params_without_enabling_metadata_routing
        test_logistic_regression_sample_weights[*-cv] test_n_iter[*
    """,
}

pytestmark = pytest.mark.filterwarnings("ignore")  # that they warn is tested elsewhere, and here in pytest.warns


@pytest.fixture(autouse=True)
def listed(request):
    """A test of the list is to fail."""
    for reason, patterns in REASONS.items():
        if any(fnmatchcase(request.node.name, pattern.replace("[", "[[]")) for pattern in patterns.split()):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture
def global_random_seed():
    """As scikit-learn's conftest has it by default."""
    return 42
