import html
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labcore.course import building, exporting, pages
from labcore.course.executing import PLOT
from labcore.course.pages import PageError


@pytest.fixture(scope="module")
def site(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo exported; its folder is called data, so that is its group."""
    root = tmp_path_factory.mktemp("site")
    notebook = root / "B99_demo.ipynb"
    building.build(demo, notebook, kind="solution")
    exporting.export([notebook], root / "out", repository="https://github.com/owner/name/")
    return root / "out"


def test_plots_and_their_alt_texts(site: Path) -> None:
    text = (site / "data" / "B99_demo.html").read_text()
    figures = re.findall(
        r'<script type="application/json" id="(plot-\d+)-data">(.*?)</script>', text
    )
    assert [name for name, _ in figures] == ["plot-1", "plot-2"]
    centre = json.loads(figures[0][1])
    assert len(centre["frames"]) == 16
    assert centre["layout"]["sliders"][0]["currentvalue"]["prefix"] == "tau: "
    for name, _ in figures:
        alt = re.search(rf'<span id="{name}-alt"[^>]*>([^<]+)</span>', text)
        assert alt is not None
        assert "0.43" in alt[1]
    assert "lab-alt" not in text  # it would say the same twice


def test_nothing_comes_from_the_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=.https?:", text)
        for address in re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', text):
            assert (path.parent / address).exists(), address
    assert (site / "assets" / "plotly.min.js").stat().st_size > 1e6
    assert len(list(site.rglob("plotly*.js"))) == 1
    assert "showSendToCloud: false" in (site / "assets" / "page.js").read_text()


def test_internal_links_lead_somewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        for address in re.findall(r'<a href="([^"#]+)"', path.read_text()):
            if not address.startswith("https://"):
                assert (path.parent / address).exists(), address
    text = (site / "data" / "B99_demo.html").read_text()
    assert "and the chapter." in text  # a link to a page that is not exported is plain text


def test_equations_code_hints_and_badges(site: Path) -> None:
    text = (site / "data" / "B99_demo.html").read_text()
    assert text.count("<math") >= 4
    assert "\\frac" not in text
    assert '<span class="k">return</span>' in text
    assert "<summary>Hint 1 of 2 for B99.1</summary>" in text
    assert "B99.1 passed" in text
    assert 'href="https://github.com/owner/name/blob/main/notebooks/src/data/B99_demo.py"' in text
    assert "colab.research.google.com/github/owner/name/blob/main/" in text


def test_index_lists_the_notebook(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert '<a href="data/B99_demo.html">B99 · A demo: how warm is a softmax?</a>' in text
    assert "5 min to read, 10 min of exercises" in text
    assert "Turn scores into probabilities without overflow; Say" in text


def test_equations_in_the_index_are_equations() -> None:
    about = {"id": "B01", "title": "T", "goals": ["Read $x \\sim y$ by `einsum` & co."]}
    text = exporting._index([exporting._Entry(Path("B01_x.ipynb"), "g/B01.html", about)])
    assert "$" not in text
    assert "<math" in text
    assert "<code>einsum</code> &amp; co</span>" in text


def test_index_goes_by_part_and_paper() -> None:
    ids = ("P06", "B11", "B02", "B01", "BA")
    entries = [
        exporting._Entry(Path(f"{id}_x.ipynb"), f"g/{id}.html", {"id": id, "title": f"T{id}"})
        for id in ids
    ]
    text = html.unescape(exporting._index(entries))
    order = [text.index(f">T{id}<") for id in ("B01", "B02", "B11", "BA", "P06")]
    assert order == sorted(order)
    assert text.index("part III") < order[2] < text.index("appendices") < order[3]


def notebook(*cells: Any) -> Any:
    return nbformat.v4.new_notebook(cells=list(cells))


def plot(**extra: Any) -> Any:
    figure = {"data": [], "layout": {}}
    return nbformat.v4.new_output("display_data", data={PLOT: figure}, **extra)


CODE = nbformat.v4.new_code_cell("f()", id="c0")


def test_a_page_without_plots_or_alt_text_is_refused() -> None:
    with pytest.raises(PageError, match="the page has no plot"):
        pages.render(notebook(CODE), {}, {})
    with pytest.raises(PageError, match="plot of cell c0 has no alt text"):
        pages.render(notebook(CODE), {"c0": [plot()]}, {})
    text = pages.render(notebook(CODE), {"c0": [plot(metadata={"alt": "a < b"})]}, {})
    assert "a &lt; b</span>" in text


def test_an_output_that_calls_the_network_is_refused() -> None:
    loud = nbformat.v4.new_output(
        "display_data", data={"text/html": '<script src="https://cdn.example/x.js"></script>'}
    )
    with pytest.raises(PageError, match="asks for the network"):
        pages.render(notebook(CODE), {"c0": [plot(metadata={"alt": "a"}), loud]}, {})


def test_text_is_escaped_and_noise_is_left_out() -> None:
    said = nbformat.v4.new_output("stream", name="stdout", text="a </pre><b> \x1b[31mred\x1b[0m")
    noise = nbformat.v4.new_output("stream", name="stderr", text="a warning")
    text = pages.render(notebook(CODE), {"c0": [plot(metadata={"alt": "a"}), said, noise]}, {})
    assert '<pre class="printed">a &lt;/pre&gt;&lt;b&gt; red</pre>' in text
    assert "a warning" not in text


def test_printed_pieces_are_one_text_and_markdown_is_prose() -> None:
    def said(text: str) -> Any:
        return nbformat.v4.new_output("stream", name="stdout", text=text)

    prose = nbformat.v4.new_output(
        "display_data", data={"text/markdown": "**so**", "text/plain": "<IPython Markdown>"}
    )
    outputs = [said("one\n"), said("two\n"), plot(metadata={"alt": "a"}), said("three\n"), prose]
    text = pages.render(notebook(CODE), {"c0": outputs}, {})
    assert '<pre class="printed">one\ntwo\n</pre>' in text
    assert text.count('<pre class="printed">') == 2
    assert "<strong>so</strong>" in text
    assert "IPython" not in text


def test_mentioned_notebooks_become_links() -> None:
    prose = nbformat.v4.new_markdown_cell("See B10, B77, `B10` and [it](../book/B10_x.ipynb).")
    outputs = {"c0": [plot(metadata={"alt": "a"})]}
    text = pages.render(notebook(prose, CODE), outputs, {"B10": "../book/B10_x.html"})
    assert text.count('href="../book/B10_x.html"') == 2
    assert "B77, <code>B10</code>" in text


def test_equations_are_mathml() -> None:
    assert 'display="block"' in pages.mathml(r"\sum_t \frac{a}{b}", block=True)
    prose = nbformat.v4.new_markdown_cell("$a_i$ and\n\n$$b$$\n\n\\begin{align}a&=b\\end{align}")
    text = pages.render(notebook(prose, CODE), {"c0": [plot(metadata={"alt": "a"})]}, {})
    assert text.count("<math") == 3
    assert "<mtable" in pages.mathml(r"\begin{aligned}a&=b\\c&=d\end{aligned}", block=True)


@pytest.mark.parametrize("name", [r"\lVert", r"\Vert", r"\|", r"\rvert"])
def test_bars_of_a_given_size(name: str) -> None:
    made = pages.mathml(rf"\bigl{name} a \bigr{name}_1", block=True)
    assert "\\" not in made
    assert made.count("|" if "v" in name else "‖") == 2


@pytest.mark.parametrize("latex", [r"\left( a", r"\frac{a", r"\unheardof x", r"\bigl\lgroup a"])
def test_equations_that_would_come_out_wrong(latex: str) -> None:
    with pytest.raises(PageError, match="equation cannot be converted"):
        pages.mathml(latex, block=False)


def test_a_page_alone_has_all_it_needs(tmp_path: Path) -> None:
    exporting._write_assets(tmp_path)
    text = pages.page("t", "b", home="../", scripts=("plotly.min.js", "page.js"))
    whole = pages.inlined(text, tmp_path)
    assert "../assets/" not in whole
    assert whole.count("<script>") == 2
    assert (tmp_path / "page.js").read_text()[:40] in whole
    assert len(whole) > 3_000_000


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><a href="#x">x</a><p id="y"></p>')
    (tmp_path / "b.html").write_text('<a href="a.html#y">a</a><a href="https://x.org/">out</a>')
    problems = pages.broken_links(tmp_path)
    assert len(problems) == 1
    assert "#x, which is not on the page" in problems[0]
    (tmp_path / "b.html").unlink()
    assert any("leads to b.html" in problem for problem in pages.broken_links(tmp_path))


def test_a_still_picture_stands_where_scripts_do_not_run(tmp_path: Path) -> None:
    outputs = {"c0": [plot(metadata={"alt": "a"})]}
    text = pages.render(notebook(CODE), outputs, {}, "../pictures/P-{}.png")
    assert '<noscript><img src="../pictures/P-1.png"' in text
    if not any(map(exporting.shutil.which, exporting.BROWSERS)):
        pytest.skip("no browser to draw with")
    path = tmp_path / "pictures" / "P-1.png"
    exporting.draw({path: {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {}}})
    assert path.read_bytes().startswith(b"\x89PNG")
