"""calibrate: rows drawn, arguments passed on, a folder written."""

import csv
import json

import pytest
from sklearn.base import clone

from skllm_calib import CalibratedLLMClassifier, OpenAIBackend, ResponseCache
from skllm_calib.backends import PROVIDERS, TestingBackend
from skllm_calib.cli import main

BASE = ["--text", "message", "--label", "kind", "--model", "testing:cal"]


def test_it_writes_a_folder_and_prints_the_card(rows_csv, tmp_path, capsys):
    out = tmp_path / "c"
    argv = ["calibrate", str(rows_csv), *BASE, "--out", str(out), "--n-rows", "50"]
    assert main([*argv, "--method", "temperature"]) == 0
    shown, err = capsys.readouterr()
    assert shown.startswith("Calibration card")
    assert f"Saved to {out}" in shown
    assert "70 labelled rows are left to test it on: skllm-calib evaluate" in err
    card = json.loads((out / "card.json").read_text())
    assert card["n"] == 50
    assert card["method"] == "temperature"
    assert card["classes"] == ["ham", "spam"]
    used = json.loads((out / "calibration_rows.json").read_text())
    assert len(used["rows"]) == len(used["texts"]) == 50
    assert CalibratedLLMClassifier.load(out).estimator.verbose == "auto"


def test_more_rows_than_there_are_and_all(rows_csv, tmp_path, capsys):
    argv = ["calibrate", str(rows_csv), *BASE, "--out", str(tmp_path / "c")]
    argv += ["--method", "platt"]
    assert main(argv) == 0
    assert "only 120 labelled rows; all of them are used" in capsys.readouterr().err
    assert main([*argv, "--n-rows", "all"]) == 0
    assert capsys.readouterr().err == ""


def test_rows_without_a_label_or_a_text_are_left_out(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    rows = [{"message": f"m{i}", "kind": i % 2 == 0} for i in range(30)]
    rows += [{"message": "x", "kind": None}, {"message": "x"}, {"message": " ", "kind": True}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "c"
    assert main(["calibrate", str(path), *BASE, "--out", str(out), "--n-rows", "all"]) == 0
    err = capsys.readouterr().err
    assert "Left out 2 of 33 rows: they have no label." in err
    assert "Left out 1 of 33 rows: they have no text." in err
    assert CalibratedLLMClassifier.load(out).classes_.tolist() == ["False", "True"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("message,kind\na,\n,x\n", [], "no row of"),
        ("message,kind\na,x\nb,x\n", [], "holds the one label 'x'"),
        ("message,kind\na,x\nb,y\n", ["--classes", "x,z"], "row 2 (line 3) has the label 'y'"),
        ("message,kind\na,x\nb,y\n", ["--model", "nonsense:1"], "is unknown"),
        ("message,kind\na,x\nb,y\n", ["--label", "nope"], "no column 'nope'"),
        (
            "message,kind\na,x\nb,y\n",
            ["--n-shots", "-1"],
            "n_shots must be an integer of at least 0, got -1",
        ),
    ],
)
def test_errors(tmp_path, content, options, message, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    argv = ["calibrate", str(path), *BASE, "--out", str(tmp_path / "c"), *options, "--quiet"]
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_declared_classes_prompt_and_cache(rows_csv, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Kind of {text}? {hint}\n", encoding="utf-8")
    cache = tmp_path / "mine.sqlite"
    out = tmp_path / "c"
    argv = ["calibrate", str(rows_csv), *BASE, "--out", str(out), "--quiet", "--n-rows", "40"]
    argv += ["--classes", "ham,spam, odd", "--prompt-file", str(prompt), "--answer", "words"]
    assert main([*argv, "--cache", str(cache), "--n-shots", "1", "--instruction", "Sort."]) == 0
    classifier = CalibratedLLMClassifier.load(out)
    assert classifier.classes_.tolist() == ["ham", "odd", "spam"]
    assert classifier.estimator_.prompt.template == "Kind of {text}? {hint}"
    assert classifier.estimator_.prompt.instruction == "Sort."
    assert classifier.calibration_card_["scores"].startswith("cross-fitted")
    assert len(ResponseCache(cache)) > 0
    assert len(ResponseCache()) == 0


def test_a_chat_and_the_wording_of_labels_from_files(rows_csv, tmp_path):
    chat = [
        {"role": "user", "content": "Kind? {hint} Buy now!"},
        {"role": "assistant", "content": "junk"},
        {"role": "user", "content": "{text}"},
    ]
    (tmp_path / "chat.json").write_text(json.dumps(chat))
    (tmp_path / "texts.json").write_text(json.dumps({"spam": "junk"}))
    out = tmp_path / "c"
    argv = ["calibrate", str(rows_csv), *BASE, "--out", str(out), "--quiet", "--n-rows", "40"]
    argv += ["--prompt-file", str(tmp_path / "chat.json")]
    assert main([*argv, "--label-texts", str(tmp_path / "texts.json")]) == 0
    conversation = CalibratedLLMClassifier.load(out).estimator_.render(["hello"])[0]
    assert [turn["role"] for turn in conversation] == ["user", "assistant", "user"]
    assert "ham or junk" in conversation[0]["content"]


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--label-texts", "{", "not JSON"),
        ("--label-texts", "[]", "holds a list, where an object of label to wording"),
        ("--label-texts", '{"egg": "x"}', "egg"),
        ("--prompt-file", "{}", "holds a dict, where a list of messages"),
    ],
)
def test_files_that_say_something_else(rows_csv, tmp_path, option, content, message, capsys):
    path = tmp_path / "given.json"
    path.write_text(content)
    argv = ["calibrate", str(rows_csv), *BASE, "--out", str(tmp_path / "c"), "--quiet"]
    assert main([*argv, option, str(path)]) == 1
    assert message in capsys.readouterr().err


def test_a_failing_row_stops_or_is_left_out(rows_csv, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        PROVIDERS, "testing", lambda name: TestingBackend(name=name, fail_on=("message 7,",))
    )
    argv = ["calibrate", str(rows_csv), *BASE, "--out", str(tmp_path / "c"), "--n-rows", "all"]
    assert main([*argv, "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "1 of 120 rows failed; the first is row 7" in err
    assert "Pass on_error='nan'" in err
    assert "(here: --on-error)" in err
    assert main([*argv, "--on-error", "nan"]) == 0
    out, err = capsys.readouterr()
    assert "n failed rows    1" in out
    assert "skllm-calib: warning: 1 of 120 rows failed" in err


def test_a_server_of_ones_own(rows_csv, tmp_path, monkeypatch, capsys):
    seen = []

    def fit(self, X, y):
        seen.append(self.estimator.model)
        raise ValueError("enough")

    monkeypatch.setattr(CalibratedLLMClassifier, "fit", fit)
    argv = ["calibrate", str(rows_csv), "--text", "message", "--label", "kind", "--out", "x"]
    argv += ["--model", "openai:qwen", "--base-url", "http://localhost:1/v1"]
    assert main([*argv, "--api-key-env", "MY_KEY"]) == 1
    (backend,) = seen
    assert isinstance(backend, OpenAIBackend)
    assert (backend.model, backend.api_key_env) == ("qwen", "MY_KEY")


@pytest.mark.parametrize("cache", [[], ["--cache", "none"]])
def test_an_interrupt_says_how_to_go_on(rows_csv, tmp_path, monkeypatch, capsys, cache):
    def fit(self, X, y):
        raise KeyboardInterrupt

    monkeypatch.setattr(CalibratedLLMClassifier, "fit", fit)
    assert main(["calibrate", str(rows_csv), *BASE, "--out", str(tmp_path), *cache]) == 130
    expected = "Nothing was kept" if cache else "run the same command again"
    assert expected in capsys.readouterr().err


class TestWeights:
    @pytest.fixture
    def weighted(self, tmp_path):
        path = tmp_path / "weighted.csv"
        with open(path, "w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(["message", "kind", "w"])
            for i in range(60):
                writer.writerow([f"m{i}", ("ham", "spam")[i % 2], 1 + i % 5])
            writer.writerow(["", "ham", "-3"])  # a row without a text is not looked at
        return path

    @pytest.mark.parametrize("more", [[], ["--search", "--answer", "words"]])
    def test_they_reach_the_fit(self, weighted, tmp_path, more, capsys):
        argv = ["calibrate", str(weighted), *BASE, "--method", "platt", "--n-rows", "all", *more]
        assert main([*argv, "--weight", "w", "--out", str(tmp_path / "a")]) == 0
        assert main([*argv, "--out", str(tmp_path / "b")]) == 0
        capsys.readouterr()
        found, plain = (CalibratedLLMClassifier.load(tmp_path / name) for name in "ab")
        texts, labels = [f"m{i}" for i in range(60)], ["ham", "spam"] * 30
        assert found.calibration_card_["n"] == 60
        by_hand = clone(found).fit(texts, labels, sample_weight=[1.0 + i % 5 for i in range(60)])
        assert by_hand.calibrator_.parameters_ == found.calibrator_.parameters_
        if not more:
            assert plain.calibrator_.parameters_ != found.calibrator_.parameters_

    def test_rows_that_are_drawn_keep_theirs(self, weighted, tmp_path, monkeypatch):
        seen = {}

        def fit(self, X, y, sample_weight):
            seen.update(zip(X, sample_weight, strict=True))
            raise ValueError("enough")

        monkeypatch.setattr(CalibratedLLMClassifier, "fit", fit)
        argv = ["calibrate", str(weighted), *BASE, "--out", str(tmp_path / "c"), "--quiet"]
        assert main([*argv, "--weight", "w", "--n-rows", "20"]) == 1
        assert len(seen) == 20
        assert all(weight == 1 + int(text[1:]) % 5 for text, weight in seen.items())

    @pytest.mark.parametrize("cell", ["0", "-1", "nan", "inf", "much", ""])
    def test_what_is_no_weight(self, tmp_path, cell, capsys):
        path = tmp_path / "rows.csv"
        path.write_text(f"message,kind,w\na,x,1\nb,y,{cell}\n")
        argv = ["calibrate", str(path), *BASE, "--out", str(tmp_path / "c"), "--weight", "w"]
        assert main(argv) == 1
        said = f"has the weight '{cell}'" if cell else "has no weight"
        err = capsys.readouterr().err
        assert f"row 2 (line 3) {said} in column 'w', where a number above zero must be" in err
        assert main([*argv, "--weight", "v"]) == 1
        assert "no column 'v'" in capsys.readouterr().err


class TestSearch:
    def argv(self, rows, out, *options):
        argv = ["calibrate", str(rows), *BASE, "--out", str(out), "--n-rows", "60", *options]
        return [*argv, "--method", "temperature"]  # 'auto' fits five calibrators each time

    def test_every_wording_asks_once_a_row_and_the_best_is_kept(self, rows_csv, tmp_path, capsys):
        backend = TestingBackend(name="cal")
        backend.forget()
        assert main(self.argv(rows_csv, tmp_path / "c", "--search")) == 0
        out, err = capsys.readouterr()
        assert "Trying 8 wordings on 60 rows: up to 480 questions." in err
        lines = [line for line in out.splitlines() if " words " in line or " keys " in line]
        assert len(lines) == 8
        assert set(backend.asked.values()) == {1}
        assert backend.asked.total() <= 480
        best = min(lines, key=lambda line: float(line.replace("<- chosen", "").split()[-1]))
        assert "<- chosen" in best
        chosen = CalibratedLLMClassifier.load(tmp_path / "c").estimator_
        assert chosen.prompt.answer in best
        assert (str(chosen.n_shots or "-")) in best

    def test_the_users_own_wording_takes_part_without_a_cache(self, rows_csv, tmp_path, capsys):
        options = ["--search", "--cache", "none", "--prompt", "{text}?", "--answer", "words"]
        assert main(self.argv(rows_csv, tmp_path / "c", *options)) == 0
        assert "\n  yours " in capsys.readouterr().out
        assert CalibratedLLMClassifier.load(tmp_path / "c").estimator.cache is None
        assert len(ResponseCache()) == 0

    def test_many_classes_go_without_examples(self, tmp_path, capsys):
        path = tmp_path / "rows.csv"
        with open(path, "w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(["message", "kind"])
            writer.writerows([f"m{i}", f"class {i % 12}"] for i in range(60))
        assert main(self.argv(path, tmp_path / "c", "--search")) == 0
        assert "Trying 5 wordings" in capsys.readouterr().err

    def test_a_wording_that_fails_is_said_to(self, rows_csv, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(
            PROVIDERS, "testing", lambda name: TestingBackend(name=name, fail_on=("Which of",))
        )
        assert main(self.argv(rows_csv, tmp_path / "c", "--search", "--quiet")) == 0
        out = capsys.readouterr().out
        assert any("text first" in line and "failed" in line for line in out.splitlines())
        options = ["--search", "--quiet", "--on-error", "nan"]
        assert main(self.argv(rows_csv, tmp_path / "c", *options)) == 0
        assert "failed" in capsys.readouterr().out

    def test_what_is_wrong_with_all_of_them_is_said_plainly(
        self, rows_csv, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setitem(
            PROVIDERS, "testing", lambda name: TestingBackend(name=name, fail_on=("message",))
        )
        assert main(self.argv(rows_csv, tmp_path / "c", "--search", "--quiet")) == 1
        assert "60 of 60 rows failed" in capsys.readouterr().err
