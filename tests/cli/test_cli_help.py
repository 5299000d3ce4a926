"""Help, examples, suggestions, completion, and how fast the program is there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click

from skllm_calib import __version__
from skllm_calib.cli import main
from skllm_calib.cli.interface import program

OPTIONS = Path(__file__).resolve().parents[2] / "docs" / "command_line_options.inc"


def all_commands(group=program, path=()):
    for name, one in group.commands.items():
        yield (*path, name), one
        if isinstance(one, click.RichGroup):
            yield from all_commands(one, (*path, name))


COMMANDS = dict(all_commands())


def shown(capsys, *argv, code=0):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == code
    return capsys.readouterr()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_has_groups_and_examples_that_can_be_typed(path, capsys):
    command = COMMANDS[path]
    out = shown(capsys, *path, "--help").out
    assert "Examples:" in out
    examples = re.findall(r"^\$ skllm-calib (.*)$", command.epilog, re.M)
    assert examples
    for example in examples:
        argv = [a for a in shlex.split(example.split(" && ")[0]) if a != "..."]
        argv = argv[: next((i for i, a in enumerate(argv) if a in "<>"), len(argv))]
        given = program
        while isinstance(given, click.RichGroup):
            given = given.commands[argv.pop(0)]
        rest = {"obj": type("Args", (), {})()}
        if example.endswith("..."):
            rest["resilient_parsing"] = True
        given.make_context("x", argv, **rest)  # raises for what the command does not take
    titles = {one.panel for one in command.params if isinstance(one, click.RichOption)} - {None}
    for title in titles:
        assert f"─ {title} ─" in out
    if len(command.params) > 10:
        assert len(titles) >= 2


def test_bare_commands_show_help(capsys):
    for argv, word in (([], "calibrate"), (["queue"], "hand-out"), (["monitor"], "reset")):
        out, err = shown(capsys, *argv, code=2)
        assert word in out
        assert err == ""


@pytest.mark.parametrize(
    ("argv", "suggested"),
    [
        (["calibrat"], "calibrate"),
        (["quue", "add"], "queue"),
        (["queue", "handout"], "hand-out"),
        (["monitor", "updat"], "update"),
        (["predict", "f.csv", "--txt", "a"], "--text"),
        (["predict", "f.csv", "--text", "a", "--classifer", "x"], "--classifier"),
        (["decide", "--target-presicion", "0.9"], "--target-precision"),
        (["calibrate", "--methd", "auto"], "--method"),
    ],
)
def test_what_is_misspelt_is_suggested(argv, suggested, capsys):
    out, err = shown(capsys, *argv, code=2)
    assert out == ""
    assert "Did you mean" in err
    assert f"'{suggested}'" in err
    assert "usage: skllm-calib" in err


def test_names_are_those_of_the_library(capsys):
    rows = ["calibrate", "f.csv", "--text", "a", "--label", "b", "--model", "m", "--out", "c"]
    assert "temperature" in shown(capsys, *rows, "--method", "egg", code=2).err
    assert "logprobs" in shown(capsys, *rows, "--signal", "logprobs,egg", code=2).err
    from skllm_calib.calibration.calibrators import CALIBRATORS
    from skllm_calib.evidence.signals import SIGNALS
    from skllm_calib.operations.monitor import CalibrationMonitor

    known = {"--method": CALIBRATORS, "--signal": SIGNALS}
    for option in COMMANDS[("calibrate",)].params:
        for name in re.findall(r"[a-z]+_[a-z]+|temperature|platt|beta|dirichlet|isotonic|logprobs",
                               option.help if option.opts[0] in known else ""):  # fmt: skip
            assert name in known[option.opts[0]]
    defaults = CalibrationMonitor().get_params()
    for option in COMMANDS[("monitor", "start")].params:
        stated = re.search(r"\[default: ([\d.,]+)\]", option.help or "")
        if stated:
            assert float(stated[1].replace(",", "")) == defaults[option.name]
        if option.name == "detectors":
            assert all(name in option.help for name in defaults["detectors"])


def test_completion_of_commands_options_and_names():
    def complete(words):
        env = {**os.environ, "_SKLLM_CALIB_COMPLETE": "bash_complete", "COMP_WORDS": words,
               "COMP_CWORD": str(len(words.split(" ")) - 1)}  # fmt: skip
        command = [sys.executable, "-m", "skllm_calib"]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=60
        ).stdout.split()

    assert complete("skllm-calib pre") == ["plain,predict"]
    assert "plain,--threshold" in complete("skllm-calib predict f.csv --th")
    assert "plain,temperature" in complete("skllm-calib calibrate f.csv --method temp")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_completes(shell, capsys):
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "_SKLLM_CALIB_COMPLETE" in out
    assert "skllm-calib" in out


def test_version_and_help_import_nothing_heavy():
    code = (
        "import sys\nfrom skllm_calib.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'pandas', 'openai'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    for argv in (["--version"], ["--help"], ["calibrate", "--help"], ["predct"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True
        )
        assert done.stderr.splitlines()[-1] == "[]"
        if argv == ["--version"]:
            assert done.stdout == f"skllm-calib {__version__}\n"


@pytest.mark.parametrize("missing", ["click", "rich_click", "pandas", "openpyxl"])
def test_without_the_extra_one_line_says_what_to_install(missing, tmp_path):
    code = f"import sys\nsys.modules[{missing!r}] = None\n" + (
        "from skllm_calib.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    (tmp_path / "f.csv").write_text("text,label\na,x\nb,y\n")
    argv = ["calibrate", "f.csv", "--text", "text", "--label", "label", "--model", "testing:x"]
    if missing == "openpyxl":
        argv = ["predict", "f.csv", "--text", "text", "--model", "testing:x", "--classes", "x,y"]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv, "--out", "c.xlsx"],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'skllm-calib[cli]'" in done.stderr


# -- the table of options in the documentation -----------------------------------------------------


def options_table():
    lines = [".. Made by 'UPDATE_DOCS=1 pytest tests/cli/test_cli_help.py'; do not edit.", ""]
    for path, command in COMMANDS.items():
        if isinstance(command, click.RichGroup):
            continue
        arguments = " ".join(p.metavar for p in command.params if p.param_type_name == "argument")
        title = f"``{' '.join(path)} {arguments}``".replace(" ``", "``")
        lines += [title, "~" * len(title), "", ".. list-table::", "   :widths: 30 70", ""]
        for one in command.params:
            if one.name in ("quiet", "debug"):
                continue
            name = one.metavar if one.param_type_name == "argument" else one.opts[0]
            if one.param_type_name == "option" and one.metavar:
                name += f" {one.metavar}"
            text = " ".join(one.help.split()).replace("*", r"\*").replace("|", r"\|")
            if one.required and one.param_type_name == "option":
                text += " Required."
            if getattr(one, "show_default", False):
                text += f" [default: {one.default}]"
            lines += [f"   * - ``{name}``", f"     - {text}"]
        lines.append("")
    return "\n".join(lines)


def test_the_documentation_lists_every_option():
    if os.environ.get("UPDATE_DOCS"):
        OPTIONS.write_text(options_table(), encoding="utf-8")
    assert OPTIONS.read_text(encoding="utf-8") == options_table()
