"""cappr in an interpreter of its own (it needs transformers before 5); started by ``local.py``.

Reads a line of JSON for each round ({"prompts": [...], "labels": [...], "batch_size": 8}) and
writes how many seconds of the processor it took and the probabilities.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from cappr.huggingface import classify


def main() -> None:
    warnings.simplefilter("ignore")
    path, n_threads = Path(sys.argv[1]), int(sys.argv[2])
    np.VisibleDeprecationWarning = np.exceptions.VisibleDeprecationWarning  # noqa: NPY201
    torch.set_num_threads(n_threads)
    options = {"gguf_file": path.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(path.parent), dtype=torch.float32, **options
    ).eval()
    model.config.architectures = ["LlamaForCausalLM"]  # which it asks for, and GGUF files lack
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), **options)
    out, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        start = time.process_time()
        proba = classify.predict_proba(
            asked["prompts"],
            asked["labels"],
            model_and_tokenizer=(model, tokenizer),
            end_of_prompt="",
            batch_size=asked["batch_size"],
            show_progress_bar=False,
        )
        seconds = time.process_time() - start
        print(json.dumps([seconds, proba.tolist()]), file=out, flush=True)


if __name__ == "__main__":
    main()
