"""``lab notebooks`` and ``lab grade`` on the command line."""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
ABOUT = "build, execute, export or grade the notebooks"
ABOUT_GRADE = "a student's own look: which exercises of a notebook pass"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lab notebooks``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="write the student and solution copies")
    build.add_argument("--check", action="store_true", help="write nothing; fail when one is stale")
    build.add_argument("--nbgrader", metavar="DIR", help="a source tree for nbgrader instead")
    execute = actions.add_parser("execute", help="run the solutions, in kernels of their own")
    execute.add_argument("--fast", action="store_true", help="as scripts, without kernels")
    export = actions.add_parser("export", help="write the reading copy")
    export.add_argument("--out", default=str(ROOT / "site"), help="its folder (default site)")
    export.add_argument("--self-contained", action="store_true", help="all in each page")
    export.add_argument("--pictures", action="store_true", help="each plot as a PNG too")
    for action in (build, execute, export):
        action.add_argument("names", nargs="*", metavar="ID", help="as P06 (default: all)")
    grade = actions.add_parser("grade", help="grade a folder of submissions, a folder a student")
    grade.add_argument("folder", type=Path)
    grade.add_argument("--out", default="grades.csv", help="the table (default grades.csv)")
    grade.add_argument("--fresh", type=int, help="seed of the drawn inputs (default: a new one)")
    grade.add_argument("--jobs", type=int, default=1, help="submissions at once")


def add_grade_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lab grade``."""
    parser.add_argument("action", choices=("check",))
    parser.add_argument("file", type=Path, help="your notebook")


def run(args: argparse.Namespace) -> int:
    """``lab notebooks``: 0 when all is well, 1 with one line a problem on stderr."""
    start = time.perf_counter()
    problems = _grade(args) if args.action == "grade" else _make(args)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"notebooks {args.action}: good, {time.perf_counter() - start:.1f} s")
    return 1 if problems else 0


def _make(args: argparse.Namespace) -> Sequence[str]:
    from labcore.course import commands

    if args.action == "build" and args.nbgrader:
        return commands.build_nbgrader(NOTEBOOKS, Path(args.nbgrader), args.names)
    if args.action == "build":
        return commands.build_all(NOTEBOOKS, check=args.check)
    if args.action == "execute":
        return commands.execute_all(NOTEBOOKS, names=args.names, fast=args.fast)
    return commands.export_all(
        NOTEBOOKS,
        Path(args.out),
        names=args.names,
        self_contained=args.self_contained,
        pictures=args.pictures,
    )


def _grade(args: argparse.Namespace) -> Sequence[str]:
    from labcore.course import commands, grading

    fresh = secrets.randbelow(10**6) if args.fresh is None else args.fresh
    rows = grading.grade(args.folder, commands.sources(NOTEBOOKS), fresh=fresh, jobs=args.jobs)
    out = Path(args.out)
    grading.to_csv(rows, out)
    students = len({row["student"] for row in rows})
    print(f"{out}: {len(rows)} answers of {students} students, fresh seed {fresh}")
    return ()


def run_grade(args: argparse.Namespace) -> int:
    """``lab grade check``: one line an exercise; 1 when one does not pass yet."""
    from labcore.course import commands, grading

    rows = grading.check_file(args.file, commands.sources(NOTEBOOKS))
    for row in rows:
        passed = row["of"] == row["points"]
        print(f"{'ok ' if passed else 'no '} {row['message']}")
    got, of = (sum(row[key] for row in rows) for key in ("points", "of"))
    print(f"{got} of {of} points")
    return 0 if got == of else 1
