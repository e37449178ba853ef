import numpy as np
import pytest
import torch

from labcore.course import checking
from labcore.course.checking import Exercise, UnknownExercise, Wrong, register, run

DEMO = checking.exercises


def softmax_by_loops(scores):
    out = np.empty_like(scores, dtype=float)
    for row in np.ndindex(scores.shape[:-1]):
        top = max(scores[row])
        weights = [np.exp(s - top) for s in scores[row]]
        out[row] = [w / sum(weights) for w in weights]
    return out


RIGHT = {
    "loops": softmax_by_loops,
    "torch": lambda scores: torch.softmax(torch.from_numpy(scores), -1),
    "float32": lambda scores: torch.softmax(torch.from_numpy(scores).float(), -1),
    "not contiguous": lambda scores: np.asfortranarray(softmax_by_loops(scores)),
    "lists": lambda scores: softmax_by_loops(scores).tolist(),
    "other name and a default": lambda x, tau=1.0: softmax_by_loops(x),
}


@pytest.fixture
def local():
    """Ids registered by a test are gone after it."""
    before = dict(checking._REGISTRY)
    yield
    checking._REGISTRY.clear()
    checking._REGISTRY.update(before)


@pytest.mark.parametrize("name", RIGHT)
def test_other_ways_to_be_right(name: str) -> None:
    assert run("B99.1", RIGHT[name]).passed


def test_reference_passes_on_twenty_fresh_seeds() -> None:
    for exercise in DEMO("B99"):
        for seed in range(20):
            answer = exercise.answer(exercise.reference)
            result = run(exercise.id, answer, fresh=seed)
            assert result.passed, result.message


def test_every_wrong_answer_gets_its_own_hint() -> None:
    for exercise in DEMO("B99"):
        for wrong in exercise.wrong:
            result = run(exercise.id, exercise.answer(wrong.fn))
            assert not result.passed
            assert result.matched_wrong == wrong.name
            assert result.message.endswith(f"Hint: {wrong.hint}")


def empty(scores):
    raise NotImplementedError("B99.1: your answer here")


@pytest.mark.parametrize("answer", [None, ..., empty])
def test_empty_answers_are_named(answer: object) -> None:
    result = run("B99.1", answer)
    assert result.message.startswith("B99.1 is still empty: ")
    assert not result.passed


def test_order_of_what_is_looked_at() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    assert "a function is wanted, not its result" in run("B99.1", scores).message
    message = run("B99.1", lambda: 1).message
    assert "cannot be called as in the exercise" in message
    assert "expected (scores)\n  got      ()" in message
    assert "fixed input 1: wrong shape" in run("B99.1", lambda s: s[..., :1]).message
    assert "not a finite number at index" in run("B99.1", lambda s: s * np.nan).message
    message = run("B99.1", lambda s: s * 0.5).message
    assert "the value at index (0,) differs\n  expected 0.09" in message
    assert "with array([1., 2., 3.])" in message


def test_an_answer_that_stops_is_told_where() -> None:
    message = run("B99.1", lambda s: s[:, 99]).message
    assert "your code stopped with IndexError: " in message
    assert "with array([1., 2., 3.])" in message


def test_an_answer_may_spoil_its_input() -> None:
    def in_place(scores):
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return scores

    assert run("B99.1", in_place).passed
    assert run("B99.1", softmax_by_loops).passed


def test_fresh_seeds_draw_other_inputs() -> None:
    seen: dict[int | None, list[float]] = {}
    for seed in (None, 0, 1):
        drawn: list[float] = []
        run("B99.1", lambda s, drawn=drawn: drawn.append(float(s.flat[0])) or softmax_by_loops(s))
        first = list(drawn)
        drawn.clear()
        run(
            "B99.1",
            lambda s, drawn=drawn: drawn.append(float(s.flat[0])) or softmax_by_loops(s),
            fresh=seed,
        )
        seen[seed] = list(drawn)
        assert first == seen[None]
    assert seen[None] == seen[0]
    assert seen[1] != seen[0]


def test_a_memorised_answer_fails_on_fresh_inputs() -> None:
    known: dict[bytes, np.ndarray] = {}

    def remember(scores):
        return known.setdefault(scores.tobytes(), softmax_by_loops(scores))

    assert run("B99.1", remember).passed

    def recall(scores):
        return known.get(scores.tobytes(), np.zeros_like(scores))

    assert run("B99.1", recall).passed
    assert not run("B99.1", recall, fresh=7).passed


def test_properties_see_what_cases_do_not(local: None) -> None:
    def positive(answer, rng):
        return None if answer(rng.standard_normal(3)).min() >= 0 else "an entry is negative"

    register("B99.8", reference=np.abs, cases=((np.ones(2),),), properties=(positive,))
    assert run("B99.8", np.abs).passed
    assert "a property does not hold: an entry is negative" in run("B99.8", lambda x: x).message
    message = run("B99.8", lambda x: x if len(x) == 2 else x / "a").message
    assert "property does not hold: your code stopped with" in message


def test_many_right_answers(local: None) -> None:
    def sorted_rows(answer, rng):
        return None if list(answer) == sorted(answer) else "not in order"

    register(
        "B99.8",
        reference=[1, 2, 3],
        compare=False,
        properties=(sorted_rows,),
        wrong=(Wrong("reversed", [3, 2, 1], "the other way round"),),
    )
    assert run("B99.8", [4, 5]).passed
    assert run("B99.8", [3, 2, 1]).matched_wrong == "reversed"
    assert run("B99.8", [2, 1]).matched_wrong is None


def test_texts_and_classes_by_use(local: None) -> None:
    a, b = np.ones((2, 3)), np.ones((3, 4))
    register("B99.8", reference="ij,jk->ik", cases=((a, b),), use=np.einsum)
    assert run("B99.8", "ab,bc->ac").passed
    assert "wrong shape" in run("B99.8", "ab,bc->ca").message
    register("B99.9", reference=dict, cases=((1,),), use=lambda cls, x: cls(x=x)["x"])
    assert run("B99.9", dict).passed
    assert run("B99.9", None).message.startswith("B99.9 is still empty")


def test_a_wrong_answer_that_stops_is_matched(local: None) -> None:
    def off_by_one(x):
        return x[len(x)]

    register(
        "B99.8",
        reference=lambda x: x[-1],
        cases=((np.ones(2),),),
        wrong=(Wrong("off by one", off_by_one, "indices end at n - 1"),),
    )
    assert run("B99.8", lambda x: x[2]).matched_wrong == "off by one"
    assert run("B99.8", lambda x: x[9]).matched_wrong is None


def test_a_reference_that_stops_is_the_authors_mistake(local: None) -> None:
    register("B99.8", reference=lambda x: x / "a", cases=((np.ones(2),),))
    with pytest.raises(RuntimeError, match=r"the reference of B99\.8 stops on fixed input 1"):
        run("B99.8", lambda x: x)


def test_the_closest_mistake_wins(local: None) -> None:
    register(
        "B99.8",
        reference=lambda x: x * x,
        cases=((3.0,), (2.0,), (5.0,)),
        wrong=(
            Wrong("constant", lambda x: 6.0, "not a constant"),
            Wrong("double", lambda x: 2 * x, "a square, not a double"),
        ),
    )
    assert run("B99.8", lambda x: x + x).matched_wrong == "double"
    assert run("B99.8", lambda x: 6.0).matched_wrong == "constant"
    assert run("B99.8", lambda x: -x).matched_wrong is None


def test_unknown_ids_list_the_nearest() -> None:
    with pytest.raises(UnknownExercise, match=r"did you mean B99\.[12]"):
        run("B99.3", 1)
    with pytest.raises(UnknownExercise, match="nearest: .*B99"):
        run("B98.1", 1)


def test_bad_registrations(local: None) -> None:
    register("B99.8", reference=1)
    with pytest.raises(ValueError, match="B99.8 is registered already"):
        register("B99.8", reference=1)
    with pytest.raises(ValueError, match="4 hints: at most three"):
        register("B99.9", reference=1, hints=("a", "b", "c", "d"))
    register("B99.9", reference=abs, cases=(lambda rng: [1],))
    with pytest.raises(TypeError, match="must be a tuple or dict"):
        run("B99.9", abs)


def test_arguments_by_name(local: None) -> None:
    register("B99.8", reference=lambda x, tau: x / tau, cases=({"tau": 2.0, "x": 3.0},))
    assert run("B99.8", lambda tau, x: x / tau).passed
    assert "with tau=2.0, x=3.0" in run("B99.8", lambda tau, x: tau / x).message
    assert "cannot be called" in run("B99.8", lambda tau, y: 1).message


def test_an_exercise_knows_what_it_wants() -> None:
    function, value = DEMO("B99")
    assert isinstance(function, Exercise)
    assert not function.wants_value
    assert value.wants_value
    assert value.answer(value.reference) == 0.75
