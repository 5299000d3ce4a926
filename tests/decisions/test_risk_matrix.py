import copy
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest

from skllm_calib.decisions.risk_matrix import RiskMatrix

BANDS = {"rare": (0, 0.05), "possible": (0.05, 0.2), "likely": (0.2, 1)}
LEVELS = ["minor", "major"]
ACTIONS = [["accept", "accept"], ["accept", "review"], ["review", "reject"]]
STARTS = {"minor": 0, "major": 1000}


@pytest.fixture
def matrix():
    return RiskMatrix(BANDS, LEVELS, ACTIONS)


def change(row, column, action):
    actions = copy.deepcopy(ACTIONS)
    actions[row][column] = action
    return actions


def test_decides_by_the_probability_of_error_and_the_impact(matrix):
    proba = [[0.97, 0.02, 0.01], [0.1, 0.9, 0], [0.1, 0.9, 0], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]]
    impact = ["major", "minor", "major", "minor", "major"]
    actions = matrix.decide(proba, impact)
    assert actions.tolist() == ["accept", "accept", "review", "review", "reject"]
    band, level = matrix.locate(proba, impact)
    assert band.tolist() == [0, 1, 1, 2, 2]
    assert level.tolist() == [1, 0, 1, 0, 1]
    assert matrix.decide(proba, "major").tolist() == ["accept", *["review"] * 2, *["reject"] * 2]


def test_a_border_belongs_to_the_higher_band():
    """Also where 1 - p is a little off: 1 - 0.9 is 0.09999999999999998."""
    edges = np.linspace(0, 1, 101).round(2)
    bands = {f"{100 * low:.0f}": (low, high) for low, high in pairwise(edges)}
    names = list(bands)
    matrix = RiskMatrix(bands, ["any"], [[name] for name in names], action_order=names)
    right = np.arange(50, 101) / 100
    assert matrix.decide(right, "any").tolist() == [str(100 - p) for p in range(50, 101)]
    event = RiskMatrix(
        bands, ["any"], matrix.actions, action_order=names, event_class=1, classes=[0, 1]
    )
    shares = np.arange(101) / 100
    assert event.decide(shares, "any").tolist() == [*names, "99"]  # the last band holds 1


def test_cells_count_every_row_once(matrix):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([5, 0.5, 0.5], size=500)
    impact = rng.choice(LEVELS, size=500)
    counts = matrix.cells(proba, impact)
    assert counts.shape == matrix.shape == (3, 2)
    assert counts.sum() == 500
    assert counts.dtype.kind == "i"
    wrong = 1 - proba.max(axis=1)
    for row, (low, high) in enumerate(BANDS.values()):
        for column, level in enumerate(LEVELS):
            inside = (wrong >= low) & (wrong < high) & (impact == level)
            assert counts[row, column] == inside.sum()
    actions = matrix.decide(proba, impact)
    for action in ("accept", "review", "reject"):
        assert counts[matrix.actions == action].sum() == (actions == action).sum()
    weight = rng.integers(0, 4, size=500)
    weighted = matrix.cells(proba, impact, sample_weight=weight)
    np.testing.assert_allclose(
        weighted, matrix.cells(np.repeat(proba, weight, axis=0), np.repeat(impact, weight))
    )
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        matrix.cells(proba, impact, sample_weight=[1.0])


def test_impact_in_numbers():
    matrix = RiskMatrix(BANDS, STARTS, ACTIONS)
    proba = np.full((5, 2), 0.5)
    impact = [0, 999.99, 1000, 5e9, np.inf]
    assert matrix.locate(proba, impact)[1].tolist() == [0, 0, 1, 1, 1]
    assert matrix.locate(proba, np.array(impact, dtype=object))[1].tolist() == [0, 0, 1, 1, 1]
    assert matrix.locate(proba, 2000)[1].tolist() == [1] * 5
    assert matrix.decide(proba[:2], ["minor", "major"]).tolist() == ["review", "reject"]
    with pytest.raises(ValueError, match=r"impact -1.0 of row 2 lies below 0, where .*'minor'"):
        matrix.decide(proba, [0.0, 1, -1, 3, 4])
    with pytest.raises(ValueError, match="impact of row 1 must be one of the levels"):
        matrix.decide(proba, [0.0, np.nan, 1, 3, 4])


def test_impact_of_the_decided_class():
    impact = {"toys": "minor", "food": "major"}  # the order of the dict has no say
    matrix = RiskMatrix(BANDS, LEVELS, ACTIONS, impact=impact)
    assert matrix.classes.tolist() == ["food", "toys"]
    proba = [[0.9, 0.1], [0.1, 0.9]]
    assert matrix.decide(proba).tolist() == ["review", "accept"]
    assert matrix.decide(proba, ["minor", "major"]).tolist() == ["accept", "review"]
    assert matrix.decide(proba, {"food": "minor", "toys": "major"}).tolist() == ["accept", "review"]
    plain = RiskMatrix(BANDS, STARTS, ACTIONS)
    assert plain.decide(proba, {1: 5000, 0: 10}).tolist() == ["accept", "review"]
    assert RiskMatrix(BANDS, LEVELS, ACTIONS, impact="major").decide(proba[:1]) == ["review"]


def test_likelihood_of_a_named_class():
    matrix = RiskMatrix(
        BANDS, LEVELS, ACTIONS, event_class="fraud", impact={"fraud": "major", "fine": "minor"}
    )
    proba = [[0.99, 0.01], [0.9, 0.1], [0.2, 0.8]]  # columns: fine, fraud
    assert matrix.decide(proba).tolist() == ["accept", "review", "reject"]
    per_row = RiskMatrix(BANDS, LEVELS, ACTIONS, event_class=True, classes=[False, True])
    assert per_row.decide([0.01, 0.1, 0.8], "minor").tolist() == ["accept", "accept", "review"]


def test_five_by_five():
    matrix = RiskMatrix.five_by_five(impact={"a": "moderate", "b": "severe"})
    assert matrix.shape == (5, 5)
    assert matrix.action_order == ("accept", "review", "reject")
    assert matrix.decide([[0.99, 0.01], [0.9, 0.1], [0.001, 0.999]]).tolist() == [
        "accept",
        "review",
        "review",
    ]
    own = RiskMatrix.five_by_five(
        impact_levels={"1": 0, "2": 10, "3": 100, "4": 1000, "5": 10_000}, impact=50
    )
    assert own.locate([[0.5, 0.5]]) == ([4], [1])


@pytest.mark.parametrize(
    "matrix",
    [
        RiskMatrix(BANDS, LEVELS, ACTIONS),
        RiskMatrix(BANDS, STARTS, ACTIONS, impact={0: 5, 1: 5000}, event_class=1),
        RiskMatrix(BANDS, STARTS, ACTIONS, impact={True: "minor", False: 2000.5}),
        RiskMatrix(BANDS, LEVELS, ACTIONS, impact="minor", classes=np.array([3, 4, 5])),
        RiskMatrix(BANDS, LEVELS, change(0, 0, "stop"), monotone=False),
        RiskMatrix(BANDS, LEVELS, ACTIONS, classes=np.arange(3), event_class=np.int64(2)),
    ],
)
def test_json_round_trip(matrix):
    text = json.dumps(matrix.to_dict(), sort_keys=True, allow_nan=False)
    again = RiskMatrix.from_dict(json.loads(text))
    assert again == matrix
    assert again.to_dict() == matrix.to_dict()
    n_classes = 2 if matrix.classes is None else matrix.classes.size
    proba = np.random.default_rng(0).dirichlet(np.ones(n_classes), size=50)
    impact = None if matrix.impact is not None else "major"
    np.testing.assert_array_equal(again.decide(proba, impact), matrix.decide(proba, impact))
    assert pickle.loads(pickle.dumps(matrix)) == copy.deepcopy(matrix) == matrix


def test_equality_and_repr(matrix):
    assert matrix == RiskMatrix(BANDS, tuple(LEVELS), np.array(ACTIONS))
    assert matrix != RiskMatrix(BANDS, STARTS, ACTIONS)
    assert matrix != "matrix"
    assert repr(matrix) == (
        "<RiskMatrix: likelihood of a wrong decision in 3 bands x impact in 2 levels -> "
        "accept, review, reject>"
    )


def test_bad_dict(matrix):
    content = matrix.to_dict()
    with pytest.raises(ValueError, match=r"lacks \['actions'\] and has the unknown \['action'\]"):
        RiskMatrix.from_dict({k.replace("actions", "action"): v for k, v in content.items()})
    content["actions"][2][1] = "accept"
    with pytest.raises(ValueError, match="must not grow milder"):
        RiskMatrix.from_dict(content)
    content = matrix.to_dict()
    content["likelihood_bands"].append(content["likelihood_bands"][0])
    with pytest.raises(ValueError, match="names a band twice"):
        RiskMatrix.from_dict(content)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ({"a": (0, 0.1), "b": (0.2, 1)}, "band 'b' starts at 0.2, not at 0.1 where 'a' ends.* gap"),
        ({"a": (0, 0.3), "b": (0.2, 1)}, "band 'b' starts at 0.2.* overlaps or is out of order"),
        ({"b": (0.5, 1), "a": (0, 0.5)}, "band 'b' starts at 0.5, not at 0, and leaves a gap"),
        ({"a": (0.1, 1)}, "band 'a' starts at 0.1, not at 0"),
        ({"a": (0, 0.5), "b": (0.5, 0.9)}, "must end at 1, but the last, 'b', ends at 0.9"),
        ({"a": (0, 0.5), "b": (0.5, 0.5), "c": (0.5, 1)}, "band 'b' must rise"),
        ({"a": (0, 10), "b": (10, 100)}, "'a' must rise within .* fractions, not per cent"),
        ({"a": (0, np.nan), "b": (0.5, 1)}, "band 'a' must be a pair"),
        ({"a": 0.5}, "band 'a' must be a pair"),
        ({"a": (0, "1")}, "band 'a' must be a pair"),
        ({"a": (0, 0.5, 1)}, "band 'a' must be a pair"),
        ({"": (0, 1)}, "each key of likelihood_bands must be a name"),
        ({}, "must be a dict of name to"),
        ([0, 0.5, 1], "must be a dict of name to"),
    ],
)
def test_bad_bands(bands, message):
    with pytest.raises(ValueError, match=message):
        RiskMatrix(bands, ["any"], [["accept"]] * len(bands))


def test_ends_that_differ_by_rounding_meet():
    bands = {"a": (0, 0.3), "b": (0.1 + 0.2, 1)}
    assert RiskMatrix(bands, ["any"], [["accept"], ["review"]]).likelihood_bands["b"] == (0.3, 1)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "must name at least one level"),
        ("high", "must name at least one level, got 'high'"),
        (["a", "a"], "must not repeat"),
        (["a", 2], "each of impact_levels must be a name.*got 2"),
        ({"a": 0, "b": np.inf}, "level 'b' must start at a finite number, got inf"),
        ({"a": 0, "b": "x"}, "level 'b' must start at a finite number"),
        ({"a": 5, "b": 5}, "level 'b' starts at 5, not above 5"),
    ],
)
def test_bad_levels(levels, message):
    with pytest.raises(ValueError, match=message):
        RiskMatrix(BANDS, levels, ACTIONS)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (ACTIONS[:2], r"a row for each of the 3 likelihood bands.*got 2"),
        ([*ACTIONS[:2], ["review"]], r"band 'likely' must name one for each of the 2.*got 1"),
        ([*ACTIONS[:2], "reject"], r"band 'likely' must name one for each of the 2"),
        (change(1, 0, ""), r"the action of cell \('possible', 'minor'\) must be a name"),
        (change(1, 0, None), r"the action of cell \('possible', 'minor'\) must be a name"),
        (
            change(1, 0, "reject"),
            r"milder with more likelihood, but cell \('likely', 'minor'\) says 'review' after "
            r"'reject' in \('possible', 'minor'\).*monotone=False",
        ),
        (
            [["review", "accept"], *[["reject", "reject"]] * 2],
            r"milder with more impact, but cell \('rare', 'major'\) says 'accept' after 'review'",
        ),
        (change(2, 1, "hold"), r"which of the actions .*'hold'.* action_order=, or pass monotone"),
    ],
)
def test_bad_actions(actions, message):
    with pytest.raises(ValueError, match=message):
        RiskMatrix(BANDS, LEVELS, actions)


def test_action_order():
    actions = [["pass", "pass"], ["pass", "look"], ["look", "stop"]]
    order = ["pass", "look", "ask", "stop"]
    assert RiskMatrix(BANDS, LEVELS, actions, action_order=order).action_order == tuple(order)
    with pytest.raises(ValueError, match=r"cell \('possible', 'major'\) says 'look' after"):
        RiskMatrix(BANDS, LEVELS, actions, action_order=order[::-1])
    for wrong in (["pass", "look"], ["pass", "look", "stop", "stop"], "pass"):
        with pytest.raises(ValueError, match="action_order must list every action"):
            RiskMatrix(BANDS, LEVELS, actions, action_order=wrong)
    free = RiskMatrix(BANDS, LEVELS, actions[::-1], monotone=False)
    assert free.action_order == ("look", "stop", "pass")
    assert free.decide([[0.99, 0.01]], "major") == ["stop"]


def test_bad_impact(matrix):
    proba = [[0.9, 0.1], [0.2, 0.8]]
    for impact, message in (
        (None, "the impact is missing"),
        (
            ["minor", "huge"],
            r"impact 'huge' of row 1 is not one of the levels \('minor', 'major'\)",
        ),
        (["minor", None], "impact of row 1 must be one of the levels.*got None"),
        ([1, 2], "impact of row 0 is the number 1, but .* where the levels start"),
        ("huge", "impact 'huge' of every row"),
        (["minor"], r"one value for each of the 2 rows.*got shape \(1,\)"),
        ([["minor"], ["major"]], r"got shape \(2, 1\)"),
        ({"a": "minor"}, "impact must list at least two classes"),
        ({"a": "minor", "b": "big"}, "impact 'big' of class 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            matrix.decide(proba, impact)
    with pytest.raises(ValueError, match="must sum to 1"):
        matrix.decide([[0.5, 0.4]], "minor")


def test_bad_classes():
    with pytest.raises(ValueError, match=r"impact 'x' of class 1"):
        RiskMatrix(BANDS, LEVELS, ACTIONS, impact={0: "minor", 1: "x"})
    with pytest.raises(ValueError, match="impact 'x' of every row"):
        RiskMatrix(BANDS, LEVELS, ACTIONS, impact="x")
    with pytest.raises(ValueError, match=r"impact must give each class a level.*\[0, 1, 2\]"):
        RiskMatrix(BANDS, LEVELS, ACTIONS, impact={0: "minor", 1: "major"}, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"event_class='x' is not among the classes \(\['a', 'b'"):
        RiskMatrix(BANDS, LEVELS, ACTIONS, event_class="x", classes=["a", "b"])
    with pytest.raises(ValueError, match=r"event_class='x' .*there are no classes"):
        RiskMatrix(BANDS, LEVELS, ACTIONS, event_class="x")
    known = RiskMatrix(BANDS, LEVELS, ACTIONS, impact={0: "minor", 1: "major"})
    with pytest.raises(ValueError, match=r"proba has 3 columns for the 2 classes"):
        known.decide([[0.5, 0.2, 0.3]])


def test_impact_from_pandas(matrix):
    pd = pytest.importorskip("pandas")
    proba = [[0.9, 0.1], [0.2, 0.8]]
    for values in (
        pd.Series(LEVELS, index=[7, 8]),
        pd.Series(LEVELS, dtype="category"),
        pd.Series(LEVELS, dtype="string"),
    ):
        assert matrix.decide(proba, values).tolist() == ["accept", "reject"]
    with pytest.raises(ValueError, match="impact of row 1 must be one of the levels"):
        matrix.decide(proba, pd.Series(["minor", None], dtype="string"))


@pytest.mark.parametrize(
    ("given", "labels", "expected"),
    [
        ({}, ["ham", "spam"], "(0.2 that 'ham' is wrong)"),
        ({}, None, "(0.2 that '0' is wrong)"),
        ({"classes": ["a", "b"]}, None, "(0.2 that 'a' is wrong)"),
        ({"classes": ["a", "b"], "event_class": "b"}, None, "(0.2 that it is 'b')"),
    ],
)
def test_every_row_is_explained_by_its_cell(given, labels, expected):
    matrix = RiskMatrix.five_by_five(**given)
    proba = [[0.8, 0.2], [0.8, 0.2]]
    impact = [matrix.impact_levels[0], matrix.impact_levels[-1]]
    said = matrix.explain(proba, impact, labels=labels)
    bands = tuple(matrix.likelihood_bands)
    for text, band, level in zip(said, matrix.locate(proba, impact)[0], impact, strict=True):
        assert text == f"likelihood {bands[band]!r} {expected}, impact {level!r}"
