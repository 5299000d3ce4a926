"""Members of ensembles, and texts with labels for them."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skllm_calib import LLMClassifier, LLMEnsembleClassifier
from skllm_calib.backends import TestingBackend

TEXTS = [f"message number {i}" for i in range(60)]
LABELS = np.array(["ham", "spam"] * 30)


def llm(backend=None, **options):
    options = {"cache": None, **options}
    return LLMClassifier(backend or TestingBackend(), **options)


def says(spam, **options):
    """A member that gives every text the same probability."""
    rules = {"": {"ham": 1 - spam, "spam": spam}}
    return llm(TestingBackend(rules), classes=["ham", "spam"], **options)


def ensemble(*members, **options):
    return LLMEnsembleClassifier([(f"m{i}", m) for i, m in enumerate(members)], **options)


def words():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


def knowing(share_right, seed):
    """A member that is right about a given share of TEXTS, each time with 0.8."""
    rng = np.random.default_rng(seed)
    rules = {}
    for text, label in zip(TEXTS, LABELS, strict=True):
        right = rng.random() < share_right
        spam = 0.8 if (label == "spam") == right else 0.2
        rules[f"{text}\n"] = {"ham": 1 - spam, "spam": spam}
    return llm(TestingBackend(rules), classes=["ham", "spam"], prompt="{text}\n{hint}")
