"""What libraries warn of is one sentence, said once, or nothing, and no advice to load pickles comes through."""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflip_secure.runtime import library_warnings
from autoflip_secure.runtime.library_warnings import first_sentence, tame
from autoflip_secure.runtime.processes import start
from autoflip_secure.terminal import notes
from autoflip_secure.terminal.advice import INSTEAD, without_unsafe_advice


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is remarked in a process that tamed its libraries; put back afterwards."""
    heard: list[str] = []
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    with warnings.catch_warnings():
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        tame()
        notes.begin(heard.append)
        yield heard
    notes.begin()


def warn(category: type[Warning], text: str, file: str = "/env/lib/site-packages/torch/nn/rnn.py") -> None:
    warnings.warn_explicit(text, category, file, 12)


def test_how_python_was_started_does_not_matter(said: list[str]) -> None:
    assert sys.warnoptions == []
    warnings.warn("The model is odd. See https://example.org.", stacklevel=1)
    assert said == [f"{Path(__file__).name}:{sys._getframe().f_lineno - 1} warns: The model is odd"]


def test_once_and_by_the_name_of_the_library(said: list[str]) -> None:
    for line in range(3):
        warnings.warn_explicit("dropout needs two layers", UserWarning, "/env/site-packages/torch/nn/rnn.py", line)
    warn(RuntimeWarning, "invalid value", "/env/dist-packages/numpy.py")
    assert said == ["torch warns: dropout needs two layers", "numpy warns: invalid value"]


@pytest.mark.parametrize(
    "category", [DeprecationWarning, FutureWarning, PendingDeprecationWarning, ResourceWarning, ImportWarning]
)
def test_what_is_for_the_authors_of_code_is_not_said(category: type[Warning], said: list[str]) -> None:
    warnings.simplefilter("always")  # as some libraries do when they are imported
    warn(category, "will be removed")
    assert said == []


def test_what_is_logged_where_nobody_set_up_logging(said: list[str]) -> None:
    logger = logging.getLogger("some.library")
    logger.propagate = False  # pytest listens at the root
    logger.info("nothing")
    logger.warning("font %s is missing. Using another", "X")
    logger.error("%d", "no number")
    assert said == ["some says: font X is missing", "some says: %d"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One"),
        ("Uses v1.2 of x.y; fine", "Uses v1.2 of x.y; fine"),
        ("a\n  b\tc", "a b c"),
        ("x (Triggered internally at ../aten/src/x.cpp:1.)", "x"),
        ("y" * 300, "y" * 199 + "…"),
        ("", ""),
        ("You can set weights_only=False to load it", INSTEAD),
    ],
)
def test_first_sentences(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(
    "advice",
    [
        "This file contains pickled (object) data. If you trust the file you can load it unsafely using the "
        "`allow_pickle=` keyword argument or `pickle.load()`.",
        "Object arrays cannot be loaded when allow_pickle=False",
        "Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` will likely succeed, but "
        "it can result in arbitrary code execution. Do it only if you got the file from a trusted source.",
    ],
)
def test_no_advice_to_load_pickles(advice: str) -> None:
    told = without_unsafe_advice(f"model.factory = 'a:b': failed with ValueError: {advice}\nmend it")
    assert told == f"model.factory = 'a:b': failed with ValueError: {INSTEAD}\nmend it"
    assert without_unsafe_advice("found 3 bytes: nothing to see") == "found 3 bytes: nothing to see"


def _tell_filters(pipe: object) -> None:
    warnings.warn("as an error this would end the process", stacklevel=1)
    pipe.send((warnings.showwarning is library_warnings._show, sys.warnoptions))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_processes_of_ours_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing.connection import Pipe

    monkeypatch.setattr(sys, "warnoptions", ["error"])
    here, there = Pipe()
    process = start(_tell_filters, there)
    there.close()
    assert here.recv() == (True, [])
    process.join()
    assert process.exitcode == 0
