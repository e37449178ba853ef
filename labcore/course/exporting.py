"""Write the reading copy: one page a notebook and an index, to be opened from a folder.

plotly.js is in the folder once; nothing is fetched from the network and no chart offers to upload
itself.
"""

import html
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from labcore.course import executing, pages
from labcore.course.building import write_text
from labcore.course.pages import page

HERE = Path(__file__).parent
# the book's parts, by the ids of their chapters
PARTS = {
    "The book: introduction": ("B01",),
    "The book, part I: compass and needle": ("B02", "B03", "B04", "B05", "B06"),
    "The book, part II: a strange land": ("B07", "B08", "B09"),
    "The book, part III: down the rabbit-hole": ("B10", "B11", "B12", "B13"),
    "The book: appendices": ("BA", "BB"),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAPERS, OTHERS = "The papers", "More"


@dataclass(frozen=True)
class _Entry:
    """One notebook of the site: where it comes from, its address, what its first cells say."""

    path: Path
    address: str
    about: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.about.get("id", self.path.stem))

    @property
    def title(self) -> str:
        return str(self.about.get("title") or self.path.stem)


def export(
    paths: Iterable[Path],
    out: Path,
    *,
    timeout: float = 120,
    repository: str = "",
    self_contained: bool = False,
    pictures: bool = False,
    on_page: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Execute solution notebooks and write them as a site.

    Args:
        paths: The notebooks.
        out: The site's folder; pages of the same names are replaced.
        timeout: Seconds per cell.
        repository: Public address, such as ``https://github.com/owner/name``, for links to the
            source and to Colab; without it there are none.
        pictures: Draw each plot as a PNG too, shown where scripts do not run. Needs Chromium, and
            a second or two a plot.
        self_contained: Put style and scripts into every page (5 MB each), to send one page alone.
        on_page: Called with each page when it is written.

    Returns:
        The pages, the index last.

    Raises:
        NotebookError: A notebook fails.
        PageError: A page has no plot, a plot no alt text, an equation cannot be converted, or an
            output asks for the network.
    """
    entries = [_entry(path) for path in paths]
    stills: dict[Path, Any] = {}
    _write_assets(out / "assets")
    written = []
    for entry in entries:
        run = executing.execute(entry.path, timeout=timeout, static=True)
        target = out / entry.address
        if pictures:
            stills |= _stills(entry, run, out)
        text = _page(entry, entries, run, repository, pictures)
        write_text(target, pages.inlined(text, out / "assets") if self_contained else text)
        written.append(target)
        if on_page:
            on_page(target)
    if stills:
        draw(stills)
    write_text(out / "index.html", _index(entries))
    return [*written, out / "index.html"]


def _entry(path: Path) -> _Entry:
    about = nbformat.read(path, as_version=4).metadata.get("lab", {})
    return _Entry(path, f"{about.get('group', path.parent.name)}/{path.stem}.html", about)


def _stills(entry: _Entry, run: executing.Run, out: Path) -> dict[Path, Any]:
    """Where the picture of each plot of a page goes, and the plot."""
    plots = [o["data"][executing.PLOT] for c in run.outputs.values() for o in c
             if executing.is_plot(o)]  # fmt: skip
    stem = Path(entry.address).stem
    return {out / "pictures" / f"{stem}-{n}.png": plot for n, plot in enumerate(plots, start=1)}


def draw(stills: Mapping[Path, Any], *, width: int = 900) -> None:
    """Draw plots as PNG files, all in one browser; Chromium is found on the path.

    Raises:
        RuntimeError: no browser is installed.
    """
    import plotly.graph_objects as go
    import plotly.io

    from labcore import viz

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise RuntimeError("pictures need Chromium: apt-get install chromium")
    os.environ.setdefault("BROWSER_PATH", browser)
    viz.theme()
    figures = []
    for plot in stills.values():
        fig = go.Figure({key: plot[key] for key in ("data", "layout") if key in plot})
        fig.layout.sliders = fig.layout.updatemenus = ()  # a still picture has no controls
        figures.append(fig.update_layout(width=width))
    for path in stills:
        path.parent.mkdir(parents=True, exist_ok=True)
    plotly.io.write_images(figures, [str(path) for path in stills], scale=1.5)


def _page(
    entry: _Entry,
    entries: list[_Entry],
    run: executing.Run,
    repository: str,
    pictures: bool = False,
) -> str:
    here = Path(entry.address).parent
    addresses = {e.id: os.path.relpath(e.address, here).replace(os.sep, "/") for e in entries}
    notebook = nbformat.read(entry.path, as_version=4)
    stills = f"../pictures/{Path(entry.address).stem}-{{}}.png" if pictures else ""
    body = pages.render(notebook, run.outputs, addresses, stills) + _footer(entry, repository)
    return page(entry.title, body, home="../", scripts=("plotly.min.js", "page.js"))


def _footer(entry: _Entry, repository: str) -> str:
    inside = f"notebooks/solution/{Path(entry.address).with_suffix('.ipynb').as_posix()}"
    source = f"notebooks/src/{Path(entry.address).with_suffix('.py').as_posix()}"
    links = f"Open it live: <code>jupyter lab {inside}</code>. Source: <code>{source}</code>."
    if repository:
        base = html.escape(repository.rstrip("/"), quote=True)
        links += f' <a href="{base}/blob/main/{source}">Source online</a>.'
        if (owner := base.removeprefix("https://github.com/")) != base:
            colab = f"https://colab.research.google.com/github/{owner}/blob/main/{inside}"
            links += f' <a href="{colab}">Open in Colab</a>.'
    return f"<footer>{links}</footer>"


def _index(entries: list[_Entry]) -> str:
    sections = {title: [e for e in entries if e.id in ids] for title, ids in PARTS.items()}
    sections[PAPERS] = [e for e in entries if e.id.startswith("P")]
    placed = [e for found in sections.values() for e in found]
    sections[OTHERS] = [e for e in entries if e not in placed]
    body = "<h1>The notebooks</h1>"
    for title, found in sections.items():
        if found:
            rows = "".join(map(_row, sorted(found, key=lambda e: e.id)))
            body += f'<h2>{html.escape(title)}</h2><ul class="works">{rows}</ul>'
    return page("The notebooks", body, home="")


def _row(entry: _Entry) -> str:
    about = entry.about
    times = f"{about.get('reading', 0)} min to read, {about.get('exercises', 0)} min of exercises"
    goals = "; ".join(str(goal).rstrip(".") for goal in about.get("goals", ()))
    return (
        f'<li><a href="{entry.address}">{html.escape(entry.title)}</a>'
        f'<span class="about">{pages.phrase(goals)}</span>'
        f'<span class="about">{times}</span></li>'
    )


def _write_assets(folder: Path) -> None:
    from plotly.offline import get_plotlyjs

    style = (HERE / "page.css").read_text(encoding="utf-8") + pages.code_style()
    write_text(folder / "page.css", style)
    write_text(folder / "page.js", (HERE / "page.js").read_text(encoding="utf-8"))
    write_text(folder / "plotly.min.js", get_plotlyjs())
