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
ACTIONS = ("build", "execute", "export", "grade")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lab notebooks``."""
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="ID",
        help="as P06 (default: all); for grade the folder of submissions",
    )
    parser.add_argument("--check", action="store_true", help="build: fail when a copy is stale")
    parser.add_argument("--nbgrader", metavar="DIR", help="build: a source tree for nbgrader")
    parser.add_argument("--fast", action="store_true", help="execute: as scripts, no kernels")
    parser.add_argument(
        "--out", help="export: the site (default site); grade: the table (default grades.csv)"
    )
    parser.add_argument("--self-contained", action="store_true", help="export: all in each page")
    parser.add_argument("--fresh", type=int, help="grade: seed of the drawn inputs (default: new)")
    parser.add_argument("--jobs", type=int, default=1, help="grade: submissions at once")


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
    out = Path(args.out or ROOT / "site")
    return commands.export_all(NOTEBOOKS, out, names=args.names, self_contained=args.self_contained)


def _grade(args: argparse.Namespace) -> Sequence[str]:
    from labcore.course import commands, grading

    if len(args.names) != 1:
        raise ValueError("name the folder of submissions: lab notebooks grade FOLDER")
    fresh = secrets.randbelow(10**6) if args.fresh is None else args.fresh
    out = Path(args.out or "grades.csv")
    rows = grading.grade(
        Path(args.names[0]), commands.sources(NOTEBOOKS), fresh=fresh, jobs=args.jobs
    )
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
