"""What ``lab notebooks`` does with the repository's notebooks: build, execute, export.

Each function looks at everything and returns its problems as lines, none when all is well; it
raises only for what the caller got wrong.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labcore.course import building, executing, exporting, markup, pages, scripts
from labcore.course.anatomy import AnatomyError
from labcore.course.lab import Lab
from labcore.course.markup import SourceError

COPIES: tuple[building.Kind, ...] = ("solution", "student")
SLOWEST = 10
Report = Callable[[str], None]


def sources(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The sources under ``root/src``, all or those with the given ids.

    Raises:
        ValueError: There is no source with a given id.
    """
    found = sorted(root.glob("src/*/*.py"))
    ids = {path.name.split("_")[0]: path for path in found}
    unknown = [name for name in names if name not in ids]
    if unknown:
        raise ValueError(f"no notebook {', '.join(unknown)}; there are {', '.join(sorted(ids))}")
    return [ids[name] for name in names] if names else found


def copy_of(root: Path, source: Path, kind: building.Kind) -> Path:
    """Where a copy of a source is kept: ``root/solution/papers/P06_kv_cache.ipynb``."""
    return root / kind / source.parent.name / f"{source.stem}.ipynb"


def build_all(root: Path, check: bool = False) -> list[str]:
    """Write the solution and student copy of every source, or with ``check`` compare them.

    Args:
        root: The ``notebooks`` folder.
        check: Write nothing; a stale copy is a problem, shown as a difference.
    """
    problems = list(_shared_ids(root))
    kept = set()
    for source in sources(root):
        for kind in COPIES:
            target = copy_of(root, source, kind)
            kept.add(target)
            try:
                difference = building.build(source, target, kind=kind, check=check)
            except (SourceError, AnatomyError) as error:
                problems.append(str(error))
                break
            if check and difference:
                problems.append(f"{target} is stale: run 'lab notebooks build'\n{difference}")
    for kind in COPIES:
        extra = sorted(set(root.glob(f"{kind}/**/*.ipynb")) - kept)
        problems += [f"{path} has no source: delete it" for path in extra if _ours(path)]
    return problems


def build_nbgrader(root: Path, out: Path, names: Sequence[str] = ()) -> list[str]:
    """Write a source tree for nbgrader: ``out/source/P06/P06_kv_cache.ipynb``."""
    problems = []
    for source in sources(root, names):
        target = out / "source" / source.name.split("_")[0] / f"{source.stem}.ipynb"
        try:
            building.build(source, target, kind="nbgrader")
        except (SourceError, AnatomyError) as error:
            problems.append(str(error))
    return problems


def execute_all(
    root: Path,
    *,
    names: Sequence[str] = (),
    timeout: float = 120,
    fast: bool = False,
    report: Report = print,
) -> list[str]:
    """Execute every solution notebook, or with ``fast`` every source as a script, a core each.

    Args:
        root: The ``notebooks`` folder.
        names: Ids, all by default.
        timeout: Seconds per cell; for a script, in all.
        fast: Plain scripts, without kernels.
        report: Called with one line a notebook, and at the end with the slowest cells.
    """
    problems: list[str] = []
    cells: list[tuple[float, str]] = []

    def execute(source: Path) -> executing.Run | Exception:
        try:
            if fast:
                return scripts.execute_script(source, timeout=timeout)
            return executing.execute(copy_of(root, source, "solution"), timeout=timeout)
        except (executing.NotebookError, FileNotFoundError) as error:
            return error

    chosen = sources(root, names)
    with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) if fast else 1) as pool:
        for source, run in zip(chosen, pool.map(execute, chosen), strict=True):
            if isinstance(run, Exception):
                problems.append(str(run))
                report(f"{source.stem}: failed")
                continue
            budget = Lab(source.name.split("_")[0], 0).budget
            cells += [(seconds, cell) for cell, seconds in run.cells.items()]
            report(
                f"{source.stem}: {run.seconds:.1f} s, {run.cpu_seconds:.1f} of {budget} s of CPU"
            )
            if run.cpu_seconds > budget:
                problems.append(f"{source}: {run.cpu_seconds:.0f} s of CPU, the budget is {budget}")
    for seconds, cell in sorted(cells, reverse=True)[:SLOWEST]:
        report(f"  {seconds:6.2f} s  {cell}")
    return problems


def export_all(
    root: Path,
    out: Path,
    *,
    names: Sequence[str] = (),
    timeout: float = 120,
    repository: str = "",
    self_contained: bool = False,
    pictures: bool = False,
    report: Report = print,
) -> list[str]:
    """Write the reading copy of the solution notebooks into ``out``; see :func:`.export`."""
    paths = [copy_of(root, source, "solution") for source in sources(root, names)]
    missing = [
        f"{path} is missing: run 'lab notebooks build'" for path in paths if not path.exists()
    ]
    if missing:
        return missing
    try:
        exporting.export(
            paths,
            out,
            timeout=timeout,
            repository=repository,
            self_contained=self_contained,
            pictures=pictures,
            on_page=lambda p: report(str(p)),
        )
    except (executing.NotebookError, pages.PageError) as error:
        return [str(error)]
    return pages.broken_links(out)


def _shared_ids(root: Path) -> Iterator[str]:
    seen: dict[str, Path] = {}
    for path in sources(root):
        found = markup.FILE.fullmatch(path.name)
        if found and found["id"] in seen:
            yield f"{path}:1: id {found['id']} is also that of {seen[found['id']]}"
        elif found:
            seen[found["id"]] = path


def _ours(path: Path) -> bool:
    return ".ipynb_checkpoints" not in path.parts
