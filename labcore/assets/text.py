"""Plain texts for language models: one novel and three speeches."""

from labcore.assets.fetching import fetch

YEARS = (1999, 2010, 2016)


def moby_dick() -> str:
    """Moby Dick (Melville, 1851) as one string of about 1.2 million characters.

    Raises:
        AssetError: the text is not here and cannot be fetched.
    """
    return fetch("moby-dick")["moby-dick.txt"].read_text(encoding="utf-8")


def address(year: int) -> str:
    """The State of the Union address of 1999 (Clinton), 2010 or 2016 (Obama).

    Raises:
        ValueError: another year.
        AssetError: the text is not here and cannot be fetched.
    """
    if year not in YEARS:
        raise ValueError(f"year must be one of {', '.join(map(str, YEARS))}, got {year}")
    return fetch("sotu")[f"{year}.txt"].read_text(encoding="utf-8")
