"""The notebook in examples/: kept with its outputs, and it runs as its readers run it."""

import ast
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
from processes import PATIENCE

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[Any]:
    """What its outputs are, whatever they say."""
    return [(output.output_type, sorted(output.get("data", {}))) for output in cell.outputs]


def test_is_kept_with_its_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert all(cell.outputs for cell in code(notebook))
    assert not [o for cell in code(notebook) for o in cell.outputs if o.output_type in ("error", "stream")]
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not [place for place in ("/tmp/", "/home/", "/root/", "Users") if place in text]


@pytest.mark.slow
def test_its_cells_run(notebook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process, with a shorter run and without the report's figures; in a kernel: below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autoflip_secure.reports.pages.report._rendered", lambda *_, **__: "<html>")
    names: dict[str, Any] = {}
    shown = []
    with mpl.rc_context({"backend": "agg"}):
        for cell in code(notebook):
            *body, last = ast.parse(cell.source.replace("rounds=15", "rounds=2").replace("10, 14", "10, 12")).body
            exec(compile(ast.Module(body, []), "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
            else:
                exec(compile(ast.Module([last], []), "cell", "exec"), names)
    plt.close("all")
    results, mean, difference, frame, page = shown
    assert len(results.records) == len(frame) == 8
    assert mean.n == difference.n == 2
    assert page == "report.html"
    assert not list(tmp_path.iterdir())  # it leaves nothing behind


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the libraries that talk to the kernel
def test_runs_in_a_kernel(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    before = [kinds(cell) for cell in code(notebook)]
    for cell in code(notebook):
        cell.outputs = []
    NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert [kinds(cell) for cell in code(notebook)] == before
