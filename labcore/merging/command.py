"""``lab merge``: merge checkpoints on disk. Importing this needs no torch."""

import argparse
import json
from pathlib import Path
from typing import Any

ABOUT = "merge fine-tuned checkpoints of one model into one, in bounded memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lab merge``."""
    parser.add_argument("base", help="folder or file of the base checkpoint")
    parser.add_argument("tasks", nargs="+", metavar="TASK=PATH", help="fine-tuned checkpoints")
    parser.add_argument("--out", required=True, help="new folder for the merged checkpoint")
    parser.add_argument("--method", default="tsv_m", help="how to merge (default tsv_m)")
    parser.add_argument("--alpha", type=float, default=1.0, help="scale of what is added")
    parser.add_argument("--rank", type=int, help="components a task (default r // T)")
    parser.add_argument("--exclude", action="append", default=[], metavar="PART",
                        help="parameters whose names hold this are averaged")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="another option of the method, as keep=0.3 of ties")  # fmt: skip
    parser.add_argument("--rounding", action="store_true", help="drop what storage rounding made")
    parser.add_argument("--dtype", help="of the written tensors (default: the base's)")
    parser.add_argument("--max-shard", default="2GB", help="largest file (default 2GB)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--engine", default="serial", help="serial, threads, processes or dask")
    parser.add_argument("--cluster", default="local", help="with dask: the scheduler's address")
    parser.add_argument("--no-resume", action="store_true", help="forget an unfinished merge")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Merge as the arguments say; the rows of the report.

    Raises:
        ValueError: an argument without "=", a repeated task, or as ``merge_checkpoints``.
    """
    from labcore.merging.streaming import merge_checkpoints
    from labcore.merging.vectors import MatrixPolicy
    from labcore.runs import terminal

    finetuned: dict[str, Path] = {}
    for text in args.tasks:
        task, equals, path = text.partition("=")
        if not (task and equals and path):
            raise ValueError(f"want TASK=PATH, got {text!r}: as greek=models/greek")
        if task in finetuned:
            raise ValueError(f"task {task!r} is named twice")
        finetuned[task] = Path(path)
    options: dict[str, Any] = {}
    if args.rank is not None:
        options["rank"] = args.rank
    if args.rounding:
        options["tol"] = "rounding"
    if args.exclude:
        options["exclude"] = [*MatrixPolicy().exclude, *args.exclude]
    options |= dict(_option(text) for text in args.set)
    report = merge_checkpoints(
        args.base,
        finetuned,
        args.out,
        args.method,
        alpha=args.alpha,
        dtype=args.dtype,
        max_shard=args.max_shard,
        workers=args.workers,
        engine=args.engine,
        address=args.cluster,
        resume=not args.no_resume,
        options=options,
        progress=terminal,
    )
    return report.rows


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is no JSON is a word.

    >>> _option("keep=0.3"), _option("trim=mergekit")
    (('keep', 0.3), ('trim', 'mergekit'))
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"want NAME=VALUE, got {text!r}: as keep=0.3")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
