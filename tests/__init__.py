"""The runtime type checker of the test run: beartype, where an int is a good float (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
