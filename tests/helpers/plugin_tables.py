"""Every plug-in class, from the tables."""

from autoflip_secure.interfaces import Plugin
from autoflip_secure.scenarios.catalogue.entries import FAMILIES
from autoflip_secure.scenarios.config import tables


def plugins() -> dict[str, dict[str, type[Plugin]]]:
    """Family -> kind -> class."""
    return {family: getattr(tables, family.upper()) for family in FAMILIES}
