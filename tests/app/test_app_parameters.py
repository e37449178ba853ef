"""Tables of parameters, links, and the sentences about wrong links."""

from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.ui import catalogue
from app.ui.catalogue import page_assets, page_url, query
from app.ui.parameters import Choice, Flag, Parameter, Range, Several, Text, checked, problem

TABLE: dict[str, Parameter] = {
    "k": Range(4, 1, 16, about="rank"),
    "rho": Range(0.5, 0.0, 1.0, about="share"),
    "kind": Choice("a", ("a", "b", "c"), "kind"),
    "parts": Several(("x",), ("x", "y"), "parts"),
    "on": Flag(True, "switch"),
    "text": Text("hi", 10, "words"),
}


@given(
    some.fixed_dictionaries(
        {
            "k": some.integers(1, 16),
            "rho": some.sampled_from([0.0, 0.25, 0.1, 1.0]),
            "kind": some.sampled_from("abc"),
            "parts": some.sampled_from([(), ("x",), ("y",), ("x", "y")]),
            "on": some.booleans(),
            "text": some.text(min_size=1, max_size=10).filter(str.strip),
        }
    )
)
def test_a_link_comes_back_as_the_setting(values: dict[str, object]) -> None:
    fields = parse_qs(query(TABLE, values), keep_blank_values=True)
    read = {k: TABLE[k].read(fields[k]) if k in fields else TABLE[k].default for k in values}
    assert read == values


def test_defaults_stay_out_of_the_link() -> None:
    assert query(TABLE, {key: p.default for key, p in TABLE.items()}) == ""
    assert query(TABLE, {"parts": ()}) == "parts="


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("k", 17, "is outside 1..16"),
        ("k", 2.5, "is not a whole number"),
        ("rho", float("nan"), "is not a number"),
        ("kind", "z", "is not one of a, b, c"),
        ("parts", ("z",), "is not among x, y"),
        ("on", "perhaps", "neither true nor false"),
        ("text", " ", "is empty"),
        ("text", "x" * 11, "has 11 characters"),
        ("zz", 1, "no parameter 'zz'"),
    ],
)
def test_a_link_that_the_page_would_refuse_is_not_made(
    key: str, value: object, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        query(TABLE, {key: value})


def test_the_sentence_about_a_wrong_link() -> None:
    k = TABLE["k"]
    assert problem("k", ["999"], k, 4) == "k=999 in the link is outside 1..16; showing 4."
    assert problem("k", ["7"], k, 7) == ""
    assert problem("k", ["inf"], k, 4).startswith("k=inf in the link is outside")
    assert len(problem("k", ["9" * 5000], k, 4)) < 120
    assert problem("kind", ["b"], TABLE["kind"], "a") == (
        "kind=b in the link cannot be shown; showing a."
    )


@pytest.mark.parametrize("key", ["", "K", "9a", "embed", "a-b", "a" * 17])
def test_a_key_must_stand_in_a_link(key: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        checked({key: Flag(True, "x")})


def test_an_entry_says_what_it_means() -> None:
    with pytest.raises(ValueError, match="no about"):
        checked({"k": Flag(True)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Range(9, 1, 4),
        lambda: Range(1, 1, 1),
        lambda: Choice("z", ("a",)),
        lambda: Choice(1, (1, "1")),
        lambda: Several(("z",), ("a",)),
        lambda: Text("", 5),
    ],
)
def test_a_table_entry_that_contradicts_itself_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="default|same"):
        make()  # type: ignore[operator]


def test_links_between_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Path(__file__).parent / "data" / "sample.py").read_text()
    (tmp_path / "kvcache.py").write_text(source)
    monkeypatch.setattr(catalogue, "PAGES", tmp_path)
    assert page_url("kvcache", "http://h:1/", k=7, marks=True) == (
        "http://h:1/kvcache?k=7&marks=true"
    )
    assert page_assets("kvcache") == ("smollm2-135m",)
    assert list(catalogue.pages()) == ["kvcache"]
    assert catalogue.built_ids() == {"P06"}
    with pytest.raises(ValueError, match="k=99 is outside"):
        page_url("kvcache", k=99)
    with pytest.raises(ValueError, match="no page 'nothing'"):
        page_url("nothing")
