"""Everything of scikit-learn that takes a classifier works on texts, and asks nothing twice.

The recipes are those of ``benchmarks/sklearn_tools.py``, which also prints them as a table.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
from joblib import parallel_config
from sklearn.utils import all_estimators
from sklearn.utils.discovery import all_displays, all_functions
from sklearn.utils.fixes import parse_version

try:
    from joblib.externals import cloudpickle
except ImportError:  # joblib has its own copy until 1.5
    import cloudpickle

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("not a checkout", allow_module_level=True)


def load_script(name):
    """Import a script of ``benchmarks/``, in a way that worker processes can follow."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)
    return module


tools = load_script("sklearn_tools")
RECIPES = [pytest.param(r, id=f"{r.tool}: {r.what}") for r in tools.RECIPES]
IN_PARALLEL = {"GridSearchCV", "cross_val_predict", "CalibratedClassifierCV", "StackingClassifier"}


@pytest.fixture(autouse=True)
def _no_window():
    tools.mpl.use("Agg")
    yield
    tools.plt.close("all")


@pytest.fixture
def bench(tmp_path):
    return tools.Bench(tmp_path)


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_works_and_asks_each_question_once(recipe, bench):
    found = recipe.run(bench, None)
    assert found
    assert tools.problems(found, bench) == []
    asked = bench.asked()
    assert set(asked.values()) == {1}
    if recipe.questions is not None:
        assert len(asked) == recipe.questions


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("recipe", [p for p in RECIPES if p.values[0].tool in IN_PARALLEL])
def test_workers_ask_each_question_once(recipe, backend, tmp_path):
    bench = tools.Bench(tmp_path, delay=0.002)  # so that the workers' questions overlap
    with parallel_config(backend=backend):
        found = recipe.run(bench, 2)
    assert tools.problems(found, bench) == []
    asked = bench.asked()
    if recipe.questions is not None:
        assert len(asked) == recipe.questions
    assert set(asked.values()) == {1}


def test_the_check_of_a_result_sees_what_is_wrong(bench):
    """Else the tests above could not fail."""
    proba = np.tile([0.6, 0.4], (bench.n_new, 1))
    guessed = np.full(bench.n_new, "negative")
    assert "do not sum to one" in tools.problems({"proba": proba * 0.9}, bench)[0]
    assert "are right" in tools.problems({"proba": proba}, bench)[0]
    assert "are right" in tools.problems({"labels": guessed}, bench)[0]
    assert "not finite" in tools.problems({"score": [np.nan]}, bench)[0]
    assert tools.problems({"labels": bench.y_new, "score": 0.5}, bench) == []


def test_asks_are_counted(bench):
    llm = bench.llm(cache=None)
    llm.predict(bench.new)
    llm.predict(bench.new[:10])
    assert sorted(bench.asked().values()) == [1] * 20 + [2] * 10
    assert tools.rate(bench.asked()) == "1.33"


def test_the_list_is_complete():
    """A tool that takes a classifier is either shown to work or said not to."""
    classes = {
        name
        for name, tool in all_estimators()
        if {"estimator", "estimators", "steps", "transformers", "transformer_list"}
        & set(inspect.signature(tool).parameters)
        and "Regressor" not in name
    } - {"RegressorChain"}
    functions = {
        name
        for name, function in all_functions()
        if "estimator" in inspect.signature(function).parameters
        and function.__module__.startswith(("sklearn.model_selection", "sklearn.inspection"))
    }
    displays = {name for name, display in all_displays() if hasattr(display, "from_estimator")}
    displays -= {"PredictionErrorDisplay", "DecisionBoundaryDisplay"}  # regressors; two numbers
    known = {name for r in tools.RECIPES for name in r.tool.split(", ")}
    known |= set(tools.NOT_SUPPORTED)
    assert classes | functions | displays <= known


QUIET = {"OneVsRestClassifier", "MultiOutputClassifier", "AdaBoostClassifier"}


# Older versions of scikit-learn notice less.
RECENT = parse_version(sklearn.__version__) >= parse_version("1.9")


@pytest.mark.skipif(not RECENT, reason="of the scikit-learn in the table of the documentation")
@pytest.mark.parametrize("tool", sorted(set(tools.NOT_SUPPORTED) - QUIET))
def test_most_tools_that_do_not_work_say_so(tool, bench):
    with pytest.raises(ValueError, match=r"string to float|not one of the labels|coef_"):
        tools.NOT_SUPPORTED[tool][1](bench)


def test_one_vs_rest_asks_the_same_for_every_label(bench):
    proba = tools.NOT_SUPPORTED["OneVsRestClassifier"][1](bench)
    np.testing.assert_allclose(proba, 1 / 3)
    assert len(bench.asked()) == bench.n_new


def test_multi_output_asks_the_same_for_every_output(bench):
    first, second = tools.NOT_SUPPORTED["MultiOutputClassifier"][1](bench)
    np.testing.assert_array_equal(first, second)
    assert len(bench.asked()) == bench.n_new


def test_boosting_changes_no_answer(bench):
    boosted = tools.NOT_SUPPORTED["AdaBoostClassifier"][1](bench)
    assert boosted.tolist() == bench.llm().predict(bench.new).tolist()
