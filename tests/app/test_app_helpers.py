"""The helpers on a page: presets, downloads, long work, assets, errors; meter and map."""

import doctest
import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import labcore.course.map
from app.ui import waiting
from app.ui.catalogue import ROOT
from app.ui.figures import figure_json
from app.ui.jobs import job_key
from app.ui.meter import Meter, largest_class, summed
from app.ui.page import problem_text, repair
from app.ui.tables import VERDICT_MARKS, to_csv, to_json
from labcore import viz
from labcore.assets import AssetOffline
from labcore.claims import VERDICTS
from labcore.course.map import PLACES, course_map, direct_requirements, short_title
from labcore.runs import ResultError
from labcore.works import WORKS, Work
from tests.app.conftest import SAMPLE, Run, charts
from tests.app.data import sample_figures


def test_a_preset_sets_everything_and_says_what_to_look_at(run_page: Run) -> None:
    at = run_page(SAMPLE, {"k": "9"})
    at.button(key="preset-0").click().run()
    assert at.session_state["rho"] == 0.95
    assert at.session_state["parts"] == ["recent"]
    assert at.session_state["k"] == 4, "what a preset does not name goes back to its default"
    assert "Look at the height." in [c.value for c in at.caption]
    assert not at.warning
    assert "0.95" in charts(at)[0].alt


def test_moving_controls_after_a_link(run_page: Run) -> None:
    at = run_page(SAMPLE, {"k": "999"})
    assert at.warning[0].value == "k=999 in the link is outside 1..16; showing 4."
    at.slider(key="k").set_value(8).run()
    assert not at.warning
    assert "8 turns" in charts(at)[0].alt


def test_an_emptied_box_shows_the_default(run_page: Run) -> None:
    at = run_page(SAMPLE)
    at.text_area(key="text").set_value("").run()
    assert "empty" in at.info[0].value
    assert "'The cat'" in at.text[0].value
    assert not at.exception


def test_long_work_runs_outside_and_comes_back(run_page: Run) -> None:
    at = run_page(SAMPLE)
    (start,) = [b for b in at.button if b.key == "job-slow-start"]
    assert start.label == "Forty steps (about 2 s)"
    start.click().run()
    assert [b.label for b in at.button if b.label == "Stop"]
    end = time.monotonic() + 30
    while "slow gave 40" not in [t.value for t in at.text]:
        assert time.monotonic() < end
        time.sleep(0.2)
        at.run()
        assert not at.exception
    assert not [b for b in at.button if b.label == "Stop"]


def test_long_work_can_be_stopped(run_page: Run) -> None:
    waiting.pool().forget(job_key(sample_figures.slow, (40, 0.05), {}))
    at = run_page(SAMPLE)
    at.button(key="job-slow-start").click().run()
    (stop,) = [b for b in at.button if b.label == "Stop"]
    stop.click().run()
    end = time.monotonic() + 20
    while not [b for b in at.button if b.key == "job-slow-start"]:
        assert time.monotonic() < end
        time.sleep(0.2)
        at.run()
    assert "slow gave 40" not in [t.value for t in at.text]


def asset_page() -> None:
    import streamlit as st

    from app.ui import need_asset

    found = need_asset("whisper")
    st.text("with it" if found else "without it")


@pytest.mark.parametrize(("state", "words"), [("missing", "not on this"), ("corrupt", "damaged")])
def test_a_page_without_its_asset_offers_to_fetch_it(
    state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labcore.assets.status", lambda name: state)
    at = AppTest.from_function(asset_page, default_timeout=30).run()
    assert not at.exception
    assert words in at.info[0].value
    assert "78 MB" in at.info[0].value
    assert "MIT" in at.info[0].value
    assert "Fetch whisper (78 MB)" in [b.label for b in at.button]
    assert "./lab fetch whisper" in [c.value for c in at.code]
    assert at.text[0].value == "without it"


def failing_page() -> None:
    import streamlit as st

    from app.ui.page import guard
    from labcore.assets import AssetOffline

    def body() -> None:
        raise AssetOffline("whisper is not here and the network is off: ./lab fetch whisper")

    guard(body, "speech")
    st.text("the rest of the page")


def test_an_expected_problem_is_one_sentence_and_a_command() -> None:
    at = AppTest.from_function(failing_page, default_timeout=30).run()
    assert not at.exception
    assert at.error[0].value == "whisper is not here and the network is off: ./lab fetch whisper"
    assert at.code[0].value.startswith("./lab ")
    assert at.text[0].value == "the rest of the page"


def test_each_expected_problem_has_its_command() -> None:
    lost = FileNotFoundError(2, "No such file", "full.npz")
    assert "full.npz" in problem_text(lost)
    assert repair(lost, "kvcache") == "./lab run kvcache --full --out labcore/kvcache/results"
    assert repair(AssetOffline("x"), "speech") == "./lab assets"
    assert repair(MemoryError(), "speech") == "./lab doctor"
    assert "\n" not in problem_text(ResultError("damaged:\nrun again"))


def raising_page() -> None:
    from app.ui.page import on_script_error

    on_script_error(KeyError("inside"))


def test_an_unexpected_error_gets_an_id_and_keeps_its_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("LAB_DEBUG", raising=False)
    at = AppTest.from_function(raising_page).run()
    text = at.error[0].value
    assert text.startswith("Something went wrong (id ")
    assert "inside" not in text
    number = text.split("(id ")[1][:4]
    assert f"page error {number}" in caplog.text
    monkeypatch.setenv("LAB_DEBUG", "1")
    assert AppTest.from_function(raising_page).run().exception


def test_a_figures_setting_names_function_parameters_and_versions() -> None:
    made = json.loads(figure_json(sample_figures.wave(3, 0.5, "sine", False, ()), seed=7))
    assert made["function"] == "sample_figures.wave"
    assert made["parameters"] == {"k": 3, "rho": 0.5, "kind": "sine"}
    assert made["seed"] == 7
    assert "plotly" in made["versions"]


def test_tables_come_back_as_csv_and_json() -> None:
    rows = [{"id": "a", "claim": 'with "quotes", and commas'}, {"id": "b", "claim": "é"}]
    assert json.loads(to_json(rows)) == rows
    lines = to_csv(rows).decode().splitlines()
    assert lines[0] == "id,claim"
    assert lines[1] == 'a,"with ""quotes"", and commas"'


def test_every_verdict_has_its_own_symbol() -> None:
    assert set(VERDICT_MARKS) == set(VERDICTS)
    assert len({mark for mark, _ in VERDICT_MARKS.values()}) == len(VERDICTS)


def test_the_meter_gives_the_median_cpu_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0, 10.03, 10.06, 12.0, 12.05]  # the third step imported something
    monkeypatch.setattr("time.process_time", lambda: clock.pop(0))
    meter = Meter(least=4)
    for _ in range(4):
        meter.count()
    assert meter.cpu_ms() is None
    meter.count()
    assert meter.cpu_ms() == pytest.approx(40.0)
    assert meter.runs == 5


def test_the_rule_of_the_largest_class() -> None:
    assert largest_class(30, think_seconds=1, cores=1) == 20
    assert largest_class(30, think_seconds=1, cores=2) == 40
    assert largest_class(25, think_seconds=5, cores=1, load=0.6) == 120
    with pytest.raises(ValueError, match="positive"):
        largest_class(0, think_seconds=1, cores=1)


def test_metrics_text_is_added_up() -> None:
    text = (
        "# HELP a b\n# TYPE a counter\n"
        'session_events_total{type="connect"} 3\nactive_sessions 2\n'
        'cache_memory_bytes{cache_type="st_cache_data",cache="f"} 10\n'
        'cache_memory_bytes{cache_type="st_cache_data",cache="g"} 5\n# EOF\n'
    )
    assert summed(text) == {
        "session_events_total connect": 3,
        "active_sessions": 2,
        "cache_memory_bytes st_cache_data": 15,
    }


# --- the map -----------------------------------------------------------------------------------


def test_every_work_has_its_own_place_and_name() -> None:
    assert {work.id for work in WORKS} == set(PLACES)
    spots = {place[:2] for place in PLACES.values()}
    assert len(spots) == len(PLACES)
    assert len({short_title(work.id) for work in WORKS}) == len(WORKS)


def test_arrows_are_the_transitive_reduction() -> None:
    import networkx as nx

    full = nx.DiGraph([(first, w.id) for w in WORKS for first in w.requires])
    wanted = set(nx.transitive_reduction(full).edges)
    assert set(direct_requirements(WORKS)) == wanted


def made(id: str, *requires: str) -> Work:
    return Work(id, "book", "t", "s", "Book", "q?", requires)


def test_requirements_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="circle: B01 -> B02 -> B01"):
        direct_requirements([made("B01", "B02"), made("B02", "B01")])
    with pytest.raises(ValueError, match="'B77', which is not"):
        direct_requirements([made("B01", "B77")])
    with pytest.raises(ValueError, match="no place on the map"):
        course_map([made("Z01")], ())


def test_the_map_shows_what_is_open() -> None:
    fig = course_map(WORKS, {"P06", "B10"})
    marks: dict[str, Any] = {
        trace.name: trace for trace in fig.data if trace.customdata is not None
    }
    assert list(marks["Papers, open"].customdata) == ["P06"]
    assert list(marks["Book, open"].customdata) == ["B10"]
    assert sum(len(t.customdata) for t in marks.values()) == len(WORKS)
    assert marks["Papers, open"].marker.symbol != marks["Book, open"].marker.symbol
    assert "2 open now" in viz.describe(fig)


def test_the_examples_in_the_docstrings() -> None:
    for path in sorted((ROOT / "app" / "ui").glob("*.py")):
        module = importlib.import_module(f"app.ui.{path.stem}".removesuffix(".__init__"))
        assert doctest.testmod(module).failed == 0, path.name
    assert doctest.testmod(labcore.course.map).attempted > 0


# --- the configuration -------------------------------------------------------------------------


def test_the_servers_settings() -> None:
    import tomllib

    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["maxUploadSize"] == 20
    assert config["server"]["fileWatcherType"] == "none"
    assert config["browser"]["gatherUsageStats"] is False
    assert config["runner"]["magicEnabled"] is False
    assert tuple(config["theme"]["chartCategoricalColors"]) == viz.PALETTE
    text = "".join(p.read_text() for p in Path(ROOT / "app").rglob("*.py"))
    assert 'page_icon=":' not in text, "a named icon is fetched from the network"
