"""Every centre-piece of the book at two settings: what its slider has to draw."""

from collections.abc import Callable
from typing import Any

from labcore.book import figures_b01 as f1
from labcore.book import figures_b02 as f2
from labcore.book import figures_b03 as f3
from labcore.book import figures_b04 as f4
from labcore.book import figures_b05 as f5
from labcore.book import figures_b06 as f6
from labcore.book import figures_b07 as f7
from labcore.book import figures_b08 as f8
from labcore.book import figures_b09 as f9
from labcore.book import figures_b10 as f10
from labcore.book import figures_b11 as f11
from labcore.book import figures_b12 as f12
from labcore.book import figures_b13 as f13
from labcore.book import figures_ba as fa
from labcore.book import figures_bb as fb
from labcore.book.b08 import PROMPTS, next_characters
from labcore.book.b13 import SENTENCE
from labcore.book.data import karate
from labcore.runs import Result

Draw = Callable[..., Any]


def centre_pieces(result: Result) -> dict[str, tuple[Draw, dict[str, Any], dict[str, Any]]]:
    """By name: the figure as a function of its sliders, and two settings of them."""
    a, tables = result.arrays, result.tables
    adjacency, clubs = karate()
    places = a["b12/places"]

    def playground(name: str, **setting: Any) -> Any:
        points = (a[f"b05/{name}_x"], a[f"b05/{name}_y"])
        return f5.playground_figure(
            a["b05/answers"], a["b05/accuracy"], *points, name=name, **setting
        )

    def next_character(context: int, temperature: float) -> Any:
        prompt = PROMPTS["the Queen"]
        setting = {"context": context, "temperature": temperature}
        names, logits, line = next_characters(a, prompt, **setting)
        return f8.next_character_figure(names, logits, line, prompt=prompt, **setting)

    def temperature(**setting: Any) -> Any:
        names = ("penguin_logits", "penguin_species", "digit_logits", "digit_labels")
        return f4.temperature_figure(*(a[f"b04/{name}"] for name in names), **setting)

    def attention(**setting: Any) -> Any:
        tokens = [row["token"] for row in tables["b10/tokens"]]
        return f10.attention_figure(a["b10/weights"], tokens, **setting)

    def diffusion(**setting: Any) -> Any:
        return f12.diffusion_figure(adjacency, places, clubs, **setting)

    def networks(depth: int) -> Any:
        trained = (a["b12/depths"], a["b12/chances"], tables["b12/gcn"])
        return f12.depth_figure(adjacency, places, clubs, *trained, depth=depth)

    def gates(**setting: Any) -> Any:
        return f13.step_figure(a["b13/steps"], SENTENCE, **setting)

    def kernel(**setting: Any) -> Any:
        return f7.kernel_figure(a["b07/photo"], **setting)

    def bins(**setting: Any) -> Any:
        return fb.bins_figure(a["bb/bins"], a["bb/errors"], **setting)

    deep = {"width": 16, "depth": 3, "activation": "tanh", "seed": 2}
    return {
        "B01": (lambda **s: f1.scaling_figure(tables["b01/errors"], **s), {},
                {"n": 30000, "longer": True}),
        "B02": (f2.descent_figure, {}, {"lr": 3.9, "momentum": 0.9, "steps": 100}),
        "B03": (lambda **s: f3.outlier_figure(a["b03/flippers"], **s), {},
                {"outlier": 150.0, "delta": 6.0}),
        "B04": (temperature, {}, {"temperature": 0.1, "bins": 20}),
        "B05": (playground, {"name": "xor"}, {"name": "digits", **deep}),
        "B06": (f6.backward_figure, {}, {"step": 5, "order": "first discovered"}),
        "B07": (kernel, {}, {"kernel": (0.0,) * 9, "row": 0, "layers": 12}),
        "B08": (next_character, {"context": 63, "temperature": 1.0},
                {"context": 2, "temperature": 0.0}),
        "B09": (lambda **s: f9.depth_figure(a, tables["b09/runs"], **s), {}, {"depth": 2}),
        "B10": (attention, {}, {"layer": 23, "head": 3}),
        "B11": (lambda **s: f11.cost_figure(tables["b11/clock"], **s), {},
                {"tokens": 64, "kv_heads": 9, "dtype": "int8"}),
        "B12, diffusion": (diffusion, {}, {"step": 60, "share": 1.2}),
        "B12, networks": (networks, {"depth": 2}, {"depth": 16}),
        "B13, eigenvalue": (f13.eigenvalue_figure, {}, {"radius": 1.05, "angle": 3.1}),
        "B13, gates": (gates, {}, {"layer": 1, "feature": 63}),
        "BA": (fa.two_fits_figure, {}, {"mean": 6.0, "deviation": 0.3, "apart": 0.0}),
        "BB": (bins, {}, {"m": 50}),
    }  # fmt: skip
