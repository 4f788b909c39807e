"""Scenarios from a few lines."""

from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.settings import Settings


def read(text: str, *overrides: str) -> LoadedScenario:
    return resolve(Document.parse(text, "s.yaml"), overrides)


def settings(text: str, *overrides: str) -> Settings:
    return read(text, *overrides).cells[0].settings
