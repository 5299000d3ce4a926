"""One script, whatever the server shows: without log-probabilities it reads what the model says.

And it tells so.

The script and the command line are run as users run them, against servers on the loopback address
that speak the documented wire formats. All of them have the same mind: it knows how likely a text
is spam, and is over-confident about it.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import re
import runpy
import urllib.error
import urllib.request

import brain
import loopback
import numpy as np
import pytest
from loopback import Answer, refusal, servers

from skllm_calib import LLMClassifier
from skllm_calib.backends import LlamaCppBackend, OpenAIBackend, clear_handles
from skllm_calib.cli import main
from skllm_calib.exceptions import SignalUnavailable
from skllm_calib.utils.tables import read_table

SCRIPT = """
import csv
import os

from skllm_calib import CalibratedLLMClassifier, LLMClassifier
from skllm_calib.backends import AnthropicBackend, OpenAIBackend

provider = {"openai": OpenAIBackend, "anthropic": AnthropicBackend}[os.environ["PROVIDER"]]
model = provider("some-model", base_url=os.environ["SERVER"])

with open(os.environ["ROWS"], encoding="utf-8") as f:
    rows = list(csv.DictReader(f))
n_new = int(os.environ["N_NEW"])
labelled, new = rows[:-n_new], rows[-n_new:]
texts = [row["message"] for row in labelled]
labels = [row["kind"] for row in labelled]

on_error = os.environ.get("ON_ERROR", "raise")
llm = LLMClassifier(model, classes=["ham", "spam"], signal="auto", on_error=on_error)
clf = CalibratedLLMClassifier(llm, method="temperature").fit(texts, labels)

proba = clf.predict_proba([row["message"] for row in new])
told = clf.explain([row["message"] for row in new])
card = clf.calibration_card_
"""
N_LABELLED, N_NEW = 60, 20
TRUTH = re.compile(r"urgency (0\.\d+)")


# -- the mind, and the servers it speaks through ---------------------------------------------------


def thought(whole):
    """Return what it thinks of the options of a prompt: three times the log-odds of the truth."""
    said = TRUTH.findall(whole)
    truth = float(said[-1]) if said else 0.6
    sure = 1 / (1 + ((1 - truth) / truth) ** 3)
    return {"A": 1 - sure, "B": sure}  # in the order of the classes


def written(whole):
    if "probability between 0 and 1" in whole[-400:]:
        return json.dumps({key: round(p, 4) for key, p in thought(whole).items()})
    return max(thought(whole), key=thought(whole).get)


def shows(body):
    """A server with log-probabilities."""
    whole = brain.turns(body["messages"])
    if not body.get("logprobs"):
        return loopback.completion(written(whole))
    listed = thought(whole)
    best = max(listed, key=listed.get)
    return loopback.completion(best, [loopback.position(best, listed)])


REFUSALS = {
    "unsupported": refusal(
        400,
        "Unsupported parameter: 'logprobs' is not supported with this model.",
        param="logprobs",
        code="unsupported_parameter",
    ),
    "not allowed": refusal(403, "You are not allowed to request logprobs from this model"),
}


def hides(body, answer=REFUSALS["unsupported"]):
    """A server that refuses log-probabilities and has no decision endpoint."""
    if "messages" not in body or "questions" in body:
        return refusal(404, "Invalid URL", code="not_found")
    return answer if body.get("logprobs") else shows(body)


def claude(body):
    """Anthropic's, which has no log-probabilities to begin with."""
    import loopback_anthropic

    return loopback_anthropic.message(written(brain.turns(body["messages"])))


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", loopback.KEY)
    with servers(monkeypatch) as start:
        yield start


@pytest.fixture
def rows_csv(tmp_path):
    """Write rows whose text tells how likely they are spam; labels are drawn accordingly."""
    rng = random.Random(0)
    lines = ["message,kind"]
    for i in range(N_LABELLED + N_NEW):
        p = 0.05 + 0.9 * rng.random()
        lines.append(f"message {i} of urgency {p:.3f},{'spam' if rng.random() < p else 'ham'}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, rows_csv):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setenv("ROWS", str(rows_csv))
    monkeypatch.setenv("N_NEW", str(N_NEW))

    def run(server, provider="openai"):
        address = server.base_url if provider == "openai" else server.address
        monkeypatch.setenv("SERVER", address)
        monkeypatch.setenv("PROVIDER", provider)
        return runpy.run_path(str(path))

    return run


# -- the script ------------------------------------------------------------------------------------

SETTINGS = {
    "log-probs shown": ("openai", shows, "logprobs"),
    "log-probs refused": ("openai", hides, "self_reported"),
    "log-probs not allowed": (
        "openai",
        lambda body: hides(body, REFUSALS["not allowed"]),
        "self_reported",
    ),
    "Anthropic": ("anthropic", claude, "self_reported"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_script_runs_unchanged_and_says_what_was_read(serve, run, setting):
    provider, respond, signal = SETTINGS[setting]
    if provider == "anthropic":
        pytest.importorskip("anthropic")
    found = run(serve(respond), provider)
    clf, proba, told, card = (found[name] for name in ("clf", "proba", "told", "card"))

    assert proba.shape == (N_NEW, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    assert clf.estimator_.signal_ == card["signal"] == signal
    why = clf.estimator_.signal_reason_
    assert card["signal_reason"] == why
    assert re.search(rf"^  signal +{signal}$", str(card), re.M)
    assert re.search(rf"^  signal reason +{re.escape(why)}$", str(card), re.M)
    for record, row in zip(told, proba, strict=True):
        assert (record["signal"], record["signal_reason"]) == (signal, why)
        assert record["failure"] is None
        assert record["n_requests"] == 1
        np.testing.assert_allclose(list(record["calibrated"].values()), row)
        json.dumps(record)
    if signal == "logprobs":
        assert why == "the model shows log-probabilities"
        assert "stated" not in told[0]
    else:
        assert "'logprobs' is not available: " in why
        assert "'decisions' is not available: " in why
        assert set(told[0]["stated"]) == {"ham", "spam"}
    if provider == "openai" and signal != "logprobs":
        refused = REFUSALS["not allowed" if "allowed" in setting else "unsupported"]
        assert refused.body["error"]["message"] in why  # in the server's own words


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_probabilities_are_good_ones_whatever_was_read(serve, run, setting):
    provider, respond, _ = SETTINGS[setting]
    if provider == "anthropic":
        pytest.importorskip("anthropic")
    found = run(serve(respond), provider)
    truth = [float(TRUTH.search(row["message"])[1]) for row in found["new"]]
    raw = np.array([record["log_proba"]["spam"] for record in found["told"]])
    off = np.abs(found["proba"][:, 1] - truth)
    assert off.mean() < 0.1
    assert off.mean() < np.abs(np.exp(raw) - truth).mean()
    held_out = found["card"]["held_out"]
    assert held_out["after"]["log_loss"] < held_out["before"]["log_loss"]


def asks_for_logprobs(body):
    return bool(body.get("logprobs"))


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_two_requests_of_a_kind_are_refused_not_one_per_row(serve, run, answer):
    """A first answer decides nothing: what a model does not show is known from two texts."""
    server = serve(lambda body: hides(body, answer))
    run(server)
    assert sorted(s.path for s in server.seen if s.status != 200) == [
        *["/v1/chat/completions"] * 2,
        *["/v1/decisions"] * 2,
        *["/v1/systemone"] * 2,
    ]
    assert len(list(filter(asks_for_logprobs, server.bodies()))) == 2
    assert len(server.bodies(200)) == 1 + N_LABELLED + N_NEW  # the probe, and each row once
    run(server)  # all is known
    assert len(server.seen) == 7 + N_LABELLED + N_NEW
    clear_handles()  # as a new process: it asks again what is refused, and nothing that was paid
    run(server)
    assert len(server.bodies(200)) == 1 + N_LABELLED + N_NEW
    assert len(server.seen) == 7 + N_LABELLED + N_NEW + 6


def test_where_they_are_shown_nothing_is_refused(serve, run):
    server = serve(shows)
    run(server)
    assert [s.path for s in server.seen if s.status != 200] == []
    assert len(server.seen) == 1 + N_LABELLED + N_NEW
    assert all(map(asks_for_logprobs, server.bodies()))


def test_anthropic_is_asked_nothing_that_it_does_not_have(serve, run):
    pytest.importorskip("anthropic")
    server = serve(claude)
    run(server, "anthropic")
    assert [s.status for s in server.seen] == [200] * (1 + N_LABELLED + N_NEW)


# -- no calibration is used for what it was not made of --------------------------------------------


def test_a_calibration_of_log_probabilities_is_not_used_for_something_else(serve, run):
    clf = run(serve(shows))["clf"]
    hidden = serve(hides)
    clf.estimator_.set_params(model__base_url=hidden.base_url)
    new = ["a new one of urgency 0.5", "another of urgency 0.6"]
    for ask in (clf.predict_proba, clf.predict, clf.explain, clf.estimator_.predict_proba):
        with pytest.raises(SignalUnavailable, match=r"no log-probabilities.*self_reported"):
            ask(new)
    assert clf.estimator_.signal_ == "logprobs"
    assert [s.status for s in hidden.seen] == [400, 400]  # by two texts, and then not asked again


def test_nor_in_the_next_process(serve, run, monkeypatch):
    shown, hidden = serve(shows), serve(hides)
    clf = run(shown)["clf"]
    clf.estimator_.set_params(model__base_url=None)
    kept = pickle.dumps(clf)
    clear_handles()
    monkeypatch.setenv("OPENAI_BASE_URL", hidden.base_url)
    with pytest.raises(SignalUnavailable, match="no log-probabilities"):
        pickle.loads(kept).predict_proba(["a new one of urgency 0.5"])
    monkeypatch.setenv("OPENAI_BASE_URL", shown.base_url)
    assert pickle.loads(kept).predict_proba(["a new one of urgency 0.5"]).shape == (1, 2)


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_a_server_that_begins_to_refuse(serve, run, on_error):
    server = serve(shows)
    found = run(server)
    clf, before = found["clf"], len(server.seen)
    clf.estimator_.set_params(on_error=on_error)
    server.respond = hides
    known = [row["message"] for row in found["new"]]
    np.testing.assert_array_equal(clf.predict_proba(known), found["proba"])  # in the cache
    others = [f"another {i} of urgency 0.5" for i in range(40)]
    with pytest.raises(SignalUnavailable, match="no log-probabilities"):
        clf.predict_proba(others)
    # It has answered before, so 16 rows in a row have to be lost first; then a text that nobody
    # can object to is asked. Others were under way at the time.
    refused = [s.status for s in server.seen[before:]]
    assert set(refused) == {400}
    assert len(refused) <= 16 + 1 + OpenAIBackend("x").max_concurrency
    if on_error == "nan":
        with pytest.warns(UserWarning, match=r"40 of 42 rows failed.*no log-probabilities"):
            proba = clf.predict_proba([*known[:2], *others])
        np.testing.assert_array_equal(proba[:2], found["proba"][:2])
        assert np.isnan(proba[2:]).all()
    else:
        with pytest.raises(SignalUnavailable, match="40 of 42 rows failed"):
            clf.predict_proba([*known[:2], *others])


def test_fitted_again_it_reads_what_there_is(serve, run):
    found = run(serve(shows))
    clf = found["clf"].set_params(estimator__model__base_url=serve(hides).base_url)
    np.testing.assert_array_equal(
        clf.predict_proba([row["message"] for row in found["new"]]), found["proba"]
    )  # what is fitted stays what it is until then
    clf.fit(found["texts"], found["labels"])
    assert clf.calibration_card_["signal"] == "self_reported"


# -- several at a time -----------------------------------------------------------------------------


def test_two_models_of_one_server_are_told_apart(serve):
    server = serve(lambda body: (shows if body["model"] == "open" else hides)(body))
    for name, signal in (("open", "logprobs"), ("closed", "self_reported")):
        backend = OpenAIBackend(name, base_url=server.base_url)
        clf = LLMClassifier(backend, classes=["ham", "spam"]).fit(["x of urgency 0.7"])
        assert clf.signal_ == signal
        (proba,) = clf.predict_proba(["x of urgency 0.7"])
        assert proba[1] == pytest.approx(0.927, abs=0.005)


# -- the command line ------------------------------------------------------------------------------

MODEL = ["--model", "openai:some-model", "--signal", "auto", "--method", "temperature"]


def calibrate(server, rows, out, *options):
    columns = ["--text", "message", "--label", "kind", "--n-rows", str(N_LABELLED)]
    argv = ["calibrate", str(rows), *columns, *MODEL, "--base-url", server.base_url]
    return main([*argv, "--out", str(out), *options])


def predict(rows, classifier, out, *options):
    argv = ["predict", str(rows), "--text", "message", "--classifier", str(classifier)]
    return main([*argv, "--out", str(out), *options])


@pytest.mark.parametrize(("respond", "signal"), [(shows, "logprobs"), (hides, "self_reported")])
def test_the_commands_run_unchanged(serve, rows_csv, tmp_path, capsys, respond, signal):
    server, folder, out = serve(respond), tmp_path / "classifier", tmp_path / "out.csv"
    assert calibrate(server, rows_csv, folder) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^  signal +{signal}$", shown, re.M)
    (why,) = re.findall(r"^  signal reason +(.+)$", shown, re.M)
    assert ("'logprobs' is not available" in why) == (signal != "logprobs")
    n_refused = len(server.seen) - len(server.bodies(200))
    assert n_refused == (0 if signal == "logprobs" else 6)

    clear_handles()  # the next command is another process
    assert predict(rows_csv, folder, out) == 0
    assert len(server.seen) == 1 + N_LABELLED + N_NEW + n_refused  # nothing was probed again
    table = read_table(out)
    assert len(table.rows) == N_LABELLED + N_NEW
    assert not any(table.column("failure"))
    stated = np.array([float(p) for p in table.column("proba_spam")])
    truth = np.array([float(TRUTH.search(text)[1]) for text in table.column("message")])
    assert np.abs(stated - truth).mean() < 0.1


def test_the_command_line_does_not_mix_either(serve, rows_csv, tmp_path, capsys):
    server, folder, out = serve(shows), tmp_path / "classifier", tmp_path / "out.csv"
    assert calibrate(server, rows_csv, folder) == 0
    clear_handles()
    server.respond = hides
    (tmp_path / "new.csv").write_text("message\nnew of urgency 0.3\nanother of urgency 0.4\n")
    assert predict(tmp_path / "new.csv", folder, out) == 1
    err = capsys.readouterr().err
    assert "shows no log-probabilities here" in err
    assert "signal='self_reported'" in err
    assert not out.exists()


# -- a real model behind it ------------------------------------------------------------------------


@pytest.mark.local_llm
@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.FailedRowsWarning")
@pytest.mark.filterwarnings("ignore:calibrated on .* rows, which is very few:UserWarning")
def test_a_real_server_that_refuses(smollm2, serve, run, rows_csv, monkeypatch):
    """llama.cpp behind a proxy that lets no request for log-probabilities pass."""
    address = LlamaCppBackend().http_address().removesuffix("/v1")

    def forward(body):
        if body.get("logprobs"):
            return REFUSALS["unsupported"]
        path = next(s.path for s in reversed(server.seen) if s.body is body)
        request = urllib.request.Request(
            address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return Answer(reply.status, json.load(reply))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.load(error))

    server = serve(forward)
    lines = rows_csv.read_text().splitlines()
    rows_csv.write_text("\n".join([*lines[:13], *lines[-20:-17]]) + "\n")
    monkeypatch.setenv("ON_ERROR", "nan")
    monkeypatch.setenv("N_NEW", "3")
    found = run(server)
    assert found["card"]["signal"] == "self_reported"
    assert REFUSALS["unsupported"].body["error"]["message"] in found["card"]["signal_reason"]
    assert found["card"]["n"] + found["card"]["n_failed_rows"] == 12
    assert sum(map(asks_for_logprobs, server.bodies())) == 2
    assert {record["signal"] for record in found["told"]} == {"self_reported"}
    for record, row in zip(found["told"], found["proba"], strict=True):
        assert bool(record["failure"]) == np.isnan(row).any()
        assert record["failure"] or math.isclose(row.sum(), 1)
