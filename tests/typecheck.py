"""The runtime type checker that the import hook of ``conftest.py`` installs."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
