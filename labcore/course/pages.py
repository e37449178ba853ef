"""One executed notebook as one HTML page: prose, equations, code, printed text and live plots.

Equations become MathML, which browsers draw by themselves, and plots carry their data in the page,
so that a reader needs nothing but the folder: no network, no kernel.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from labcore.course.anatomy import NOTEBOOK_ID
from labcore.course.executing import ANSI, PLOT, is_plot

ALT_MARK = 'class="lab-alt"'  # what viz.show prints under a figure in a live notebook


class PageError(ValueError):
    """A page that would mislead or need the network."""


def page(title: str, body: str, *, home: str, scripts: Iterable[str] = ()) -> str:
    """A whole HTML document.

    Args:
        title: For the window.
        body: What goes into ``main``.
        home: Relative address of the site's folder, such as ``"../"``.
        scripts: Names of scripts in the site's ``assets`` folder.
    """
    loaded = "".join(f'<script src="{home}assets/{name}"></script>' for name in scripts)
    return (
        '<!doctype html>\n<html lang="en-GB"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><link rel="stylesheet" href="{home}assets/page.css">'
        f'</head><body><header><a href="{home}index.html">All notebooks</a></header>'
        f"<main>{body}</main>{loaded}</body></html>\n"
    )


def inlined(text: str, assets: Path) -> str:
    """A page with the style sheet and scripts of the ``assets`` folder written into it."""

    def content(found: re.Match[str]) -> str:
        inside = (assets / found["name"]).read_text(encoding="utf-8")
        if found["name"].endswith(".css"):
            return f"<style>{inside}</style>"
        inside = inside.replace("</script", "<\\/script")
        return f"<script>{inside}</script>"

    sheet = r'<link rel="stylesheet" href="[./]*assets/(?P<name>[\w.]+)">'
    script = r'<script src="[./]*assets/(?P<name>[\w.]+)"></script>'
    return re.sub(script, content, re.sub(sheet, content, text))


def broken_links(folder: Path) -> list[str]:
    """The links of a site that lead to no file or no place of it, one line each."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    problems = []
    for path, text in texts.items():
        for target in dict.fromkeys(re.findall(r'<(?:a|link)\b[^>]*? href="([^"#:]*)"', text)):
            if target and not (path.parent / target).exists():
                problems.append(f"{path}: a link leads to {target}, which is not there")
        places = set(re.findall(r' id="([^"]+)"', text))
        for place in dict.fromkeys(re.findall(r' href="#([^"]+)"', text)):
            if place not in places:
                problems.append(f"{path}: a link leads to #{place}, which is not on the page")
    return problems


def render(
    notebook: Any,
    outputs: Mapping[str, list[Any]],
    addresses: Mapping[str, str],
    pictures: str = "",
) -> str:
    """The cells of a notebook as HTML.

    Args:
        notebook: The notebook as nbformat gives it.
        outputs: What each code cell left, by cell id, as in :class:`executing.Run`.
        addresses: Where other notebooks are, by id; a mentioned id becomes a link.
        pictures: Where the still picture of each plot is, as ``"../pictures/P06-{}.png"``; shown
            where scripts do not run.

    Raises:
        PageError: There is no plot, a plot has no alt text, or an output asks for the network.
    """
    own = notebook.metadata.get("lab", {}).get("id")
    write = _writer({k: v for k, v in addresses.items() if k != own})
    parts: list[str] = []
    plots = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(write(cell.source))
            continue
        if cell.source.strip():
            parts.append(f'<div class="code">{_highlighted(cell.source)}</div>')
        for output in _joined(outputs.get(cell.id, ())):
            plots += is_plot(output)
            if markdown := output.get("data", {}).get("text/markdown"):
                parts.append(write(markdown))
            else:
                still = pictures.format(plots) if pictures else ""
                parts.append(_output(output, f"plot-{plots}", cell.id, still))
    if not plots:
        raise PageError("the page has no plot")
    text = "\n".join(parts)
    if found := re.search(r"<(?:script|link|iframe)[^>]+(?:src|href)=.https?:[^>]*>", text):
        raise PageError(f"an output asks for the network: {found[0][:90]}")
    return text


def _joined(outputs: Iterable[Any]) -> Iterator[Any]:
    """The outputs, with printed text that comes in several pieces as one."""
    for stream, group in groupby(outputs, key=lambda o: o.get("name", "")):
        if stream != "stdout":
            yield from group
        else:
            pieces = list(group)
            yield {**pieces[0], "text": "".join(piece["text"] for piece in pieces)}


def _output(output: Mapping[str, Any], name: str, cell_id: str, still: str) -> str:
    if output["output_type"] == "stream":
        if output["name"] != "stdout":
            return ""
        return f'<pre class="printed">{html.escape(ANSI.sub("", output["text"]))}</pre>'
    data = output.get("data", {})
    if is_plot(output):
        alt = output.get("metadata", {}).get("alt")
        return _figure(data[PLOT], alt, name, cell_id, still)
    if ALT_MARK in data.get("text/html", ""):
        return ""  # the figure before it already says this
    if "text/html" in data:
        return str(data["text/html"])
    if "image/png" in data:
        alt = html.escape(data.get("text/plain", "image"), quote=True)
        return f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/plain" in data and not any("widget-view" in kind for kind in data):
        return f'<pre class="printed">{html.escape(data["text/plain"])}</pre>'
    return ""


def _figure(figure: Mapping[str, Any], alt: str | None, name: str, cell_id: str, still: str) -> str:
    meta = figure.get("layout", {}).get("meta") or {}
    alt = alt or meta.get("alt")
    if not alt:
        raise PageError(f"the plot of cell {cell_id} has no alt text: use lab.show(fig, alt=...)")
    caption = meta.get("caption", "")
    seen = f"<strong>{html.escape(caption)}</strong> " if caption and caption != alt else ""
    kept = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    text = json.dumps(kept, separators=(",", ":")).replace("</", "<\\/")
    picture = f'<noscript><img src="{still}" alt=""></noscript>' if still else ""
    return (
        f'<figure aria-labelledby="{name}-alt"><div class="plot" id="{name}"></div>{picture}'
        f'<figcaption>{seen}<span id="{name}-alt" aria-live="polite">{html.escape(alt)}</span>'
        f'</figcaption><script type="application/json" id="{name}-data">{text}</script></figure>'
    )


def _highlighted(code: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return str(highlight(code, PythonLexer(), HtmlFormatter(cssclass="highlight")))


def code_style() -> str:
    """The style sheet of highlighted code."""
    from pygments.formatters import HtmlFormatter

    return str(HtmlFormatter(style="default").get_style_defs(".highlight"))


def phrase(text: str) -> str:
    """A line of Markdown with equations as HTML, without a paragraph of its own."""
    return str(_writer({})(text)).strip().removeprefix("<p>").removesuffix("</p>")


def mathml(latex: str, *, block: bool) -> str:
    """A LaTeX formula as MathML.

    Raises:
        PageError: It is not LaTeX that can be converted.
    """
    from latex2mathml.converter import convert

    # what the converter knows by other names only, or not beside a size such as ``bigl``
    text = re.sub(r"\\(begin|end)\{(?:aligned|split)\}", r"\\\1{align*}", latex.strip())
    text = re.sub(r"\\arg(?![A-Za-z])", r"\\operatorname{arg}", text)
    text = re.sub(r"(\\[Bb]igg?[lrm]?)\s*(?:\\[lr]?Vert(?![A-Za-z])|\\\|)", r"\1‖", text)
    text = re.sub(r"(\\[Bb]igg?[lrm]?)\s*\\[lr]?vert(?![A-Za-z])", r"\1|", text)
    try:
        if _braces(text):
            raise ValueError("unbalanced braces")
        found = str(convert(text, display="block" if block else "inline"))
        if left := re.search(r"<m[ino][^>]*>(\\[A-Za-z|]+|&)</m[ino]>", found):
            raise ValueError(f"{left[1]} is not understood")
    except Exception as error:  # the converter has no common base for its errors
        why = f"{type(error).__name__} {error}".strip()
        raise PageError(f"equation cannot be converted ({why}): {latex}") from None
    return found


def _braces(latex: str) -> int:
    plain = re.sub(r"\\.", "", latex)
    return plain.count("{") - plain.count("}")


def _writer(addresses: Mapping[str, str]) -> Any:
    """A function from markdown to HTML, with MathML and with notebook ids as links."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):  # type: ignore[misc]
        def block_math(self, body: str) -> str:
            return mathml(body, block=True)

        def inline_math(self, body: str) -> str:
            return mathml(body, block=False)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

        def text(self, text: str) -> str:
            return NOTEBOOK_ID.sub(_linked, super().text(text))

        def link(self, text: str, url: str, title: str | None = None) -> str:
            plain = re.sub(r"</?a\b[^>]*>", "", text)
            other = re.search(r"([A-Z0-9]+)_\w+\.ipynb$", url)
            where = addresses.get(other[1]) if other else url  # a page that is not here: no link
            return str(super().link(plain, where, title)) if where else plain

    def _linked(found: re.Match[str]) -> str:
        where = addresses.get(found[0])
        return f'<a href="{where}">{found[0]}</a>' if where else found[0]

    def write(text: str) -> str:
        return MarkdownWithMath(renderer=Renderer(escape=False)).render(text)

    return write
