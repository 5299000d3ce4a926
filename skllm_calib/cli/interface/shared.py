"""Options that several commands share."""

from typing import Any

import rich_click as click

from skllm_calib.cli.interface import values
from skllm_calib.cli.interface.declare import FILE, argument, option, switch

rows = argument(
    "file", "Table: CSV, TSV, JSON, JSONL, Excel or Parquet; - is standard input.", FILE
)
reading = [
    option("--sep", "CHAR", "Separator of the cells in a text file, such as ';' or tab "
           "[default: found].", values.separator),
    option("--encoding", "NAME", "Encoding of a text file, such as cp1252 [default: found]."),
]  # fmt: skip
text = option("--text", "COL", "Column with the texts.", required=True)
label = option("--label", "COL", "Column with the labels.", required=True)
row_id = option("--id", "COL", "Column that identifies each row.")
weight = option("--weight", "COL", "Column that says how much each labelled row counts, such as "
                "one over the probability with which it was chosen to be labelled.")  # fmt: skip
n_rows = option("--n-rows", "N", "Rows to draw, each class in proportion [default: all].",
                values.count_or_all)  # fmt: skip
seed = option("--seed", "N", "Another seed draws other rows.", int, 0)
classifier = option("--classifier", "DIR", "Folder that 'calibrate' wrote.", FILE, required=True)
classes = option("--classes", "A,B,C", "The labels to choose from.", values.classes)
cache = option("--cache", "PATH", "File, or address of a PostgreSQL database, to keep replies in, "
               "or 'none' [default: the usual file].", FILE)  # fmt: skip
pace = [
    option("--concurrency", "N", "Requests under way at a time, for a model behind a server "
           "[default: 8].", values.count),
    option("--requests-per-minute", "N", "Most requests in a minute [default: learnt].",
           values.count),
    option("--tokens-per-minute", "N", "Most tokens in a minute [default: learnt].", values.count),
]  # fmt: skip
server = [
    option("--base-url", "URL", "Address of an OpenAI-compatible server, for openai:NAME."),
    option("--api-key-env", "NAME", "Environment variable that holds the key."),
    *pace,
    cache,
]
cost = [
    option("--budget", "USD|N:tokens", "Spend at most so many dollars, such as 5, or tokens, "
           "such as 2000000:tokens; run the same command with more to go on.", values.spending),
    switch("--dry-run", "Tell what it will cost, and ask nothing."),
]  # fmt: skip
prompt = [
    option("--prompt", "TEMPLATE", "The question; {text}, {options} and {hint} are filled in."),
    option("--prompt-file", "FILE", "A file with the template; .json: a chat, a list of objects "
           "with role and content.", FILE),
    option("--instruction", "TEXT", "What to do, said before the row."),
    option("--answer", "auto|keys|words", "Answer with an option letter, with the label's own "
           "words, or what works best.", click.Choice(["auto", "keys", "words"]), "auto"),
    option("--label-texts", "FILE", "A .json file: the wording of labels in the prompt, by label.",
           FILE),
]  # fmt: skip
matrix = [
    option("--risk-matrix", "FILE", "A .json file of RiskMatrix.to_dict().", FILE),
    option("--impact", "COL", "Column with the impact of each row [default: the matrix's own]."),
]
out = option("--out", "FILE", "Table to write, in the format of its extension [default: CSV on "
             "standard output].", FILE)  # fmt: skip
json = option("--json", "FILE", "Write all figures; - for standard output.", FILE)


def on_error(default: str, text: str) -> Any:
    """Declare what becomes of rows that fail."""
    return option("--on-error", "raise|nan", text, click.Choice(["raise", "nan"]), default)
