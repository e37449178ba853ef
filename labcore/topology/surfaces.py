"""Triangulated surfaces with known topology, made by random moves from small triangulations.

Start from the smallest triangulation of a sphere, torus, projective plane or a connected sum of
them; then insert vertices (1-3 moves) and flip edges (2-2 moves). Every move keeps the surface: an
edge stays in two triangles, each vertex's neighbourhood a disc, the Euler characteristic fixed.
The task "which surface?" is that of the MANTRA benchmark (arXiv 2410.02392), made anew here.
"""

from dataclasses import dataclass

import numpy as np

from labcore.topology.complexes import SimplicialComplex

SPHERE = ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))
TORUS = tuple(tuple(sorted((i, (i + a) % 7, (i + 3) % 7))) for i in range(7) for a in (1, 2))
PLANE = (
    (0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 1, 5),
    (1, 2, 4), (2, 3, 5), (1, 3, 4), (2, 4, 5), (1, 3, 5),
)  # fmt: skip
RECIPES: dict[str, tuple[tuple[tuple[int, ...], ...], ...]] = {
    "sphere": (SPHERE,),
    "torus": (TORUS,),
    "projective plane": (PLANE,),
    "Klein bottle": (PLANE, PLANE),
    "double torus": (TORUS, TORUS),
}
ORIENTABLE = {"sphere": True, "torus": True, "projective plane": False, "Klein bottle": False,
              "double torus": True}  # fmt: skip
BETTI = {
    "sphere": (1, 0, 1),
    "torus": (1, 2, 1),
    "projective plane": (1, 0, 0),
    "Klein bottle": (1, 1, 0),
    "double torus": (1, 4, 1),
}


@dataclass
class Surface:
    """A closed surface as a set of triangles, with moves."""

    triangles: set[tuple[int, ...]]
    n: int

    def split(self, triangle: tuple[int, ...]) -> None:
        """1-3 move: a new vertex in the middle of a triangle."""
        self.triangles.remove(triangle)
        a, b, c = triangle
        for pair in ((a, b), (a, c), (b, c)):
            self.triangles.add((*pair, self.n))
        self.n += 1

    def flip(self, u: int, v: int) -> bool:
        """2-2 move: put the other diagonal in place of edge u-v, unless it is there already."""
        around = [t for t in self.triangles if u in t and v in t]
        a, b = (next(w for w in t if w not in (u, v)) for t in around)
        if a == b or any(a in t and b in t for t in self.triangles):
            return False
        self.triangles -= set(around)
        self.triangles |= {tuple(sorted((a, b, u))), tuple(sorted((a, b, v)))}
        return True

    def complex(self, order: np.ndarray | None = None) -> SimplicialComplex:
        """The simplicial complex, its vertices renamed by ``order`` if given."""
        rows = np.array(sorted(self.triangles), dtype=np.int64)
        return SimplicialComplex.from_facets((rows if order is None else order[rows]).tolist())

    def check(self) -> None:
        """Verify that this is a closed surface.

        Raises:
            ValueError: an edge not in two triangles, or a vertex whose link is not one cycle.
        """
        edges: dict[tuple[int, int], int] = {}
        links: dict[int, list[tuple[int, ...]]] = {}
        for t in self.triangles:
            for i in range(3):
                side = tuple(v for j, v in enumerate(t) if j != i)
                edges[side[0], side[1]] = edges.get((side[0], side[1]), 0) + 1
                links.setdefault(t[i], []).append(side)
        if any(count != 2 for count in edges.values()):
            raise ValueError("an edge is not in exactly two triangles")
        for v, sides in links.items():
            if not _one_cycle(sides):
                raise ValueError(f"the link of vertex {v} is not one cycle")


def surface(name: str, n_vertices: int, seed: int, *, flips: int = 30) -> Surface:
    """A random triangulation of a named surface.

    Args:
        name: A key of RECIPES.
        n_vertices: Vertices of the triangulation.
        seed: Of the moves.
        flips: Tries of 2-2 moves at the end.

    Raises:
        ValueError: unknown name, or fewer vertices than its smallest recipe has.
    """
    if name not in RECIPES:
        raise ValueError(f"surface must be one of {', '.join(RECIPES)}, got {name!r}")
    rng = np.random.default_rng(seed)
    parts = RECIPES[name]
    made = Surface({tuple(sorted(t)) for t in parts[0]}, 1 + max(max(t) for t in parts[0]))
    for other in parts[1:]:
        _glue(made, other)
    if n_vertices < made.n:
        raise ValueError(f"a {name} made here has at least {made.n} vertices, got {n_vertices}")
    while made.n < n_vertices:
        pick = sorted(made.triangles)
        made.split(pick[int(rng.integers(len(pick)))])
    for _ in range(flips):
        pick = sorted(made.triangles)
        triangle = pick[int(rng.integers(len(pick)))]
        u, v = sorted(rng.choice(triangle, 2, replace=False).tolist())
        made.flip(u, v)
    return made


def _glue(made: Surface, other: tuple[tuple[int, ...], ...]) -> None:
    """Connected sum: remove a triangle of each and join along its three vertices."""
    first, second = max(made.triangles), other[0]
    made.triangles.remove(first)
    name = dict(zip(second, first, strict=True))
    for v in sorted({v for t in other for v in t} - set(second)):
        name[v] = made.n
        made.n += 1
    for t in other[1:]:
        made.triangles.add(tuple(sorted(name[v] for v in t)))


def _one_cycle(sides: list[tuple[int, ...]]) -> bool:
    near: dict[int, list[int]] = {}
    for u, v in sides:
        near.setdefault(u, []).append(v)
        near.setdefault(v, []).append(u)
    if any(len(found) != 2 for found in near.values()):
        return False
    start = sides[0][0]
    seen, at, last = 1, near[start][0], start
    while at != start:
        last, at = at, near[at][0] if near[at][0] != last else near[at][1]
        seen += 1
    return seen == len(near)


def surfaces(
    n: int, names: tuple[str, ...], *, vertices: tuple[int, int] = (10, 12), seed: int = 0
) -> tuple[list[SimplicialComplex], np.ndarray]:
    """``n`` surfaces, names in turn, with randomly named vertices; and the index of each name."""
    rng = np.random.default_rng(seed)
    made, labels = [], []
    for i in range(n):
        kind = i % len(names)
        size = int(rng.integers(vertices[0], vertices[1] + 1))
        one = surface(names[kind], size, int(rng.integers(2**31)))
        made.append(one.complex(rng.permutation(size)))
        labels.append(kind)
    return made, np.array(labels)


def disjoint_union(parts: list[SimplicialComplex]) -> tuple[SimplicialComplex, np.ndarray]:
    """Many complexes as one, side by side, and the part of each node.

    Its matrices are block diagonal, so a batch of complexes needs no other machinery; parts without
    cells of some rank are fine.
    """
    shift = np.cumsum([0, *(part.n for part in parts)])
    dim = max((part.dim for part in parts), default=0)
    rows = [
        np.concatenate([part.simplices(k) + s for part, s in zip(parts, shift, strict=False)])
        for k in range(1, dim + 1)
    ]
    batch = np.repeat(np.arange(len(parts)), [part.n for part in parts])
    return SimplicialComplex(rows, int(shift[-1])), batch
