"""A page as a reader of its source sees it."""

import json
from collections.abc import Callable
from html.parser import HTMLParser

from autoflip_secure.records.run import RunRecord

Make = Callable[..., RunRecord]
VOID = {"meta", "br", "img", "link", "input", "hr", "use", "path", "image"}


class Page(HTMLParser):
    """Elements with attributes, the last table of every figure as text, embedded data, and a check that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.tables: dict[str | None, list[list[str]]] = {}  # id of the figure -> rows
        self.csvs: dict[str, str] = {}
        self.words: list[str] = []
        self.cell = False
        self.figure: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "figure":
            self.figure = dict(attrs)["id"]
        if tag == "table":
            self.tables[self.figure] = []
        if tag == "tr":
            self.tables[self.figure].append([])
        if tag in ("td", "th"):
            self.tables[self.figure][-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag
        if tag == "figure":
            self.figure = None
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        last, attributes = self.elements[-1] if self.elements else ("", {})
        if last == "script" and attributes.get("type") == "application/json" and self.stack[-1] == "script":
            self.csvs[str(attributes["id"]).removeprefix("csv-")] = json.loads(data)
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.words.append(data)
        if self.cell:
            self.tables[self.figure][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())
