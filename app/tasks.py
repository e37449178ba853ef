"""Jobs of the app itself that a worker can import."""

from labcore import assets
from labcore.runs import Progress


def fetch_asset(name: str, progress: Progress) -> str:
    """Fetch an asset; returns the folder it lies in."""
    found = assets.fetch(name, progress=lambda done, total: progress(done, total, name))
    return str(found.root)
