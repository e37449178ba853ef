"""What the chapters' tests share: the committed result."""

import pytest

from labcore.book.experiment import load_result
from labcore.runs import Result


@pytest.fixture(scope="package")
def committed() -> Result:
    """The committed full result."""
    return load_result()
