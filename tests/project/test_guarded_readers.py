"""What comes from outside is read by the readers that expect damage; others are found here, in the sources."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflip_secure.files.regular_files import append_regular, open_regular, parse_json, read_regular
from autoflip_secure.terminal.visible import hidden, short, visible

ROOT = Path(__file__).parents[2]
PACKAGES = ("autoflip_secure", "attacks", "defenses", "scenarios", "reports")
READERS = {  # by whatever name they are called
    "safe_load", "safe_load_all", "full_load", "unsafe_load", "load_all", "compose_all", "read_text", "read_bytes",
    "loadtxt", "genfromtxt", "fromfile", "literal_eval", "model_validate_json", "validate_json", "loads", "open",
    "read_csv", "read_parquet", "read_json",
}  # fmt: skip
OF_MODULES = {f"{module}.load" for module in ("np", "numpy", "torch", "json", "pickle", "yaml", "joblib", "tomllib")}
OF_MODULES |= {f"{module}.{name}" for module in ("ET", "ElementTree", "ast") for name in ("parse", "fromstring")}
ALLOWED = {
    "autoflip_secure/files/regular_files.py": {"open", "json.loads"},  # the guarded readers themselves
    "scenarios/store/reading.py": {"RunRecord.model_validate_json"},  # of a sealed file; pydantic bounds the depth
    "autoflip_secure/records/stored.py": {"_adapter(name).validate_json"},  # what is wrong with it is read elsewhere
    "scenarios/audits/sweep_audit.py": {"AuditRecord.model_validate_json"},
    "scenarios/data/images.py": {"Image.open"},  # of an opened file, every failure caught
    "scenarios/data/table.py": {"pd.read_csv"},
    "scenarios/data/npz.py": {"np.load", "stored.open"},  # of an opened file, without pickles, every failure caught
    "autoflip_secure/models/export.py": {"torch.load"},  # of what it has just written, tensors alone
    "scenarios/models/state_dicts.py": {"torch.load"},  # of an opened file, tensors alone, every failure caught
    "autoflip_secure/runtime/memory.py": {"Path(path).read_text"},  # of the system, every failure caught
    "autoflip_secure/runtime/processor.py": {"_ABOUT.read_text"},  # of the system, every failure caught
    "autoflip_secure/terminal/docstrings.py": {"open", "ast.parse"},  # of this package's own sources
    "reports/figures/marks.py": {"json.loads"},  # of marks that it has just written
    "scenarios/running/executors/ray_node.py": {"pickle.loads"},  # of one sweep's own processes, as Ray's messages are:
    "scenarios/running/executors/ray_tasks.py": {"pickle.loads"},  # in bytes, so that versions are compared before
    "scenarios/store/fingerprints.py": {"ast.parse"},
    "scenarios/plugins/entry_points.py": {"one.read_text"},  # of an installed distribution, every failure caught
}


_NAMED = re.compile(rf"\b(?:{'|'.join(READERS | {name.partition('.')[2] for name in OF_MODULES})})\b")


def readers(source: str) -> Iterator[str]:
    """Calls that read, or take apart what was read, by the text of what is called."""
    if not _NAMED.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        text = ast.unparse(node.func)
        if name == "open" and (text == "os.open" or _writes(node)):
            continue
        if name in READERS or text in OF_MODULES:
            yield text


def _writes(call: ast.Call) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return any(set(mode) <= set("wxabt+") for mode in modes)


def test_no_source_reads_past_the_guarded_readers() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        calls = set(readers(path.read_text(encoding="utf-8"))) - {"book.open", "executor.open"}  # no files
        if calls:
            found[str(path.relative_to(ROOT))] = calls
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    ["yaml.safe_load(text)", "json.loads(text)", "json.load(file)", "path.read_text()", "open(path)", "path.open()",
     "gzip.open(path, 'rb')", "loads(text)", "np.load(path)", "Model.model_validate_json(text)", "ET.parse(path)"],
)  # fmt: skip
def test_an_unguarded_reader_is_found(line: str) -> None:
    assert list(readers(f"x = {line}")) == [line.partition("(")[0]]


def test_what_writes_is_no_reader() -> None:
    assert list(readers("open(path, 'w')\npath.open('a', encoding='utf-8')\nos.open(path, 0)")) == []


def test_only_files_are_read_and_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        for use in (open_regular, read_regular, lambda path: append_regular(path, "x")):
            with pytest.raises(OSError, match=r"is a pipe|Is a directory|No such device"):
                use(tmp_path / name)
    append_regular(tmp_path / "file", "a\ud800\n")
    append_regular(tmp_path / "file", "b\n")
    assert read_regular(tmp_path / "file") == b"a\\ud800\nb\n"
    with pytest.raises(OSError, match="more than 0 MiB"):
        read_regular(tmp_path / "file", 3)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, b"\xff", "1" * 5000])
def test_json_that_is_none_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json says many things
        parse_json(text)


def test_text_from_outside_moves_nothing() -> None:
    hostile = "a\x1b[2J\r\n\u202eb\x9bm\u2028\ud800"
    assert visible(hostile) == r"a\x1b[2J\r\n\u202eb\x9bm\u2028\ud800"
    assert visible(hostile, lines=True).count("\n") == 1
    assert visible("日本 ü 🦆 שלום") == "日本 ü 🦆 שלום"
    assert short("a" * 200) == "a" * 99 + "…"
    assert [hidden(text) for text in ("a\tb\n", "\x7f", "\ud800", "\x00")] == [None, "\x7f", "\ud800", "\x00"]
