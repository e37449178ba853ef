"""The ``lab`` command.

Every command exits with 0 when good, 1 after an expected failure told in one line on stderr, and
2 on wrong usage. ``--json`` prints what a program may read. Heavy modules are imported by the
command that needs them.
"""

import argparse
import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labcore import __version__
from labcore.printing import Rows, print_records, print_rows
from labcore.runtime import limit_threads

ROOT = Path(__file__).resolve().parent.parent


class ExpectedError(Exception):
    """A failure that the user can mend: one line, exit 1."""


# --- commands ----------------------------------------------------------------------------------


def _topic_module(topic: str, name: str) -> Any:
    from labcore.works import built_topics

    if topic not in built_topics():
        raise ExpectedError(f"no topic {topic!r} here: choose one of {', '.join(built_topics())}")
    return importlib.import_module(f"labcore.{topic}.{name}")


def _run(args: argparse.Namespace) -> int:
    from labcore.runs import terminal
    from labcore.runtime import peers_on_path

    peers_on_path()
    experiment = _topic_module(args.topic, "experiment")
    preset = "full" if args.full else "quick"
    config = getattr(experiment.Config, preset)(seed=args.seed)
    result = experiment.run(config, progress=terminal)
    out = Path(args.out or ROOT / "out" / args.topic)
    path = result.save(out / f"{preset}.npz")
    rows = experiment.summary(result)
    if args.json:
        print(json.dumps({"result_file": str(path), "rows": rows}, indent=1))
        return 0
    print_rows(rows, as_json=False)
    spent = result.provenance
    print(f"\n{path}  ({spent.seconds:.0f} s, {spent.cpu_seconds:.0f} CPU s)")
    return 0


def _claims(args: argparse.Namespace) -> int:
    from labcore import claims
    from labcore.runs import Result

    if args.rerun:
        return _rerun(args)
    result = Result.load(args.result) if args.result else None
    print_records(claims.table(args.work, result=result), as_json=args.json)
    return 0


def _rerun(args: argparse.Namespace) -> int:
    from labcore.claims.rerun import rerun

    rows = rerun(
        [args.work] if args.work else (),
        jobs=os.cpu_count() or 1,
        report=lambda said: print(said, file=sys.stderr),
    )
    print_rows(rows, as_json=args.json)
    failed = {row["work"] for row in rows if row["quick"] == "the run failed"}
    if failed:
        raise ExpectedError(f"the quick experiment of {', '.join(sorted(failed))} failed")
    return 0


def _bench(args: argparse.Namespace) -> int:
    from labcore.ledger import keep
    from labcore.runs import terminal
    from labcore.works import TOPICS

    folder = ROOT / "bench"
    sys.path.insert(0, str(ROOT))
    if args.setup_peers is not None:
        return _setup_peers(args.setup_peers)
    known = [name for name in (*TOPICS, "course", "growth") if (folder / f"{name}.py").exists()]
    if args.topic and args.topic not in known:
        raise ExpectedError(f"no bench for {args.topic!r}: choose one of {', '.join(known)}")
    rows: Rows = []
    for name in [args.topic] if args.topic else [k for k in known if k != "growth"]:
        try:
            bench = importlib.import_module(f"bench.{name}")
            found = bench.rows(progress=terminal, quick=args.quick)
        except importlib.import_module("bench.peers").PeerMissing as error:
            raise ExpectedError(str(error)) from error
        if args.save:
            print(f"kept: {keep(name, found, quick=args.quick)}", file=sys.stderr)
        rows += found
    print_rows(rows, as_json=args.json)
    return 0


def _estimate(args: argparse.Namespace) -> int:
    from labcore import estimate

    rows = estimate.merging(args.machines, args.cores)
    print_rows(rows + estimate.experiment(args.work, args.machines, args.cores), as_json=args.json)
    return 0


def _setup_peers(names: Sequence[str]) -> int:
    """Install the named peers, ``light`` ones, or all; one that fails does not stop the others."""
    peers = importlib.import_module("bench.peers")
    if list(names) == ["light"]:
        names = [name for name, peer in peers.PEERS.items() if peer.light]
    failed = 0
    for name in names or list(peers.PEERS):
        try:
            print(f"{name}: {peers.setup(name)}", flush=True)
        except peers.PeerMissing as error:
            failed += 1
            print(f"lab: {error}", file=sys.stderr)
    return 1 if failed else 0


def _fetch(args: argparse.Namespace) -> int:
    from labcore import assets
    from labcore.runs import terminal

    names = args.names
    if args.all:
        names = [name for name, asset in assets.registry().items() if asset.accepted]
    if not names:
        raise ExpectedError(f"name an asset, or --all: {', '.join(assets.registry())}")
    for name in names:
        found = assets.fetch(
            name,
            offline=args.offline or None,
            verify=args.verify,
            progress=lambda done, total, name=name: terminal(done, total, name),
        )
        print(f"{name}: {found.root}")
    return 0


def _assets(args: argparse.Namespace) -> int:
    from labcore import assets

    print_rows(assets.table(), as_json=args.json)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from labcore.runtime import doctor

    checks = doctor()
    rows = [check.as_dict() for check in checks]
    if args.json:
        print_rows(rows, as_json=True)
    else:
        for check in checks:
            mend = "" if check.ok or not check.fix else f"  -> {check.fix}"
            print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<9} {check.detail}{mend}")
    return 0 if all(check.ok for check in checks) else 1


def free_port(wanted: int, *, exact: bool) -> int:
    """The wanted port, or the next free one after it.

    Raises:
        ExpectedError: ``exact`` and the port is busy, or none of the next fifty is free.
    """
    for port in range(wanted, wanted + 1 if exact else wanted + 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ExpectedError(
        f"port {wanted} is busy (ask: lsof -i :{wanted}): stop what holds it, or choose another"
    )


def _app(args: argparse.Namespace) -> int:
    port = free_port(args.port or 8501, exact=args.port is not None)
    if args.port is None and port != 8501:
        print(f"port 8501 is busy, taking {port}", file=sys.stderr)
    limit_threads(args.threads)
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app/server.py",
        "--server.port",
        str(port),
    ]
    print(f"labcore {__version__}: http://127.0.0.1:{port}  (Ctrl-C stops it)", flush=True)
    os.chdir(ROOT)
    os.execv(sys.executable, command)  # one process: Ctrl-C and kill reach the server itself


def _serve(args: argparse.Namespace) -> int:
    from labcore.serving import Fleet, serve

    port = free_port(args.port, exact=True)
    fleet = Fleet(args.address, port, args.replicas, args.proxy, args.threads)
    return serve(fleet)


def _merge(args: argparse.Namespace) -> int:
    from labcore.merging import command

    rows = command.run(args)
    if args.json:
        print_rows(rows, as_json=True)
    else:
        matrices = sum(row["kind"] == "matrix" for row in rows)
        print(f"{args.out}: {len(rows)} tensors merged, {matrices} of them as matrices")
    return 0


def _test(args: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "pytest", *(args.rest or ["-m", "not e2e and not notebooks"])]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _notebooks(args: argparse.Namespace) -> int:
    from labcore.course import command

    return command.run(args)


def _grade(args: argparse.Namespace) -> int:
    from labcore.course import command

    return command.run_grade(args)


# --- parser ------------------------------------------------------------------------------------


def _add(
    commands: Any, name: str, about: str, function: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(function=function)
    return parser


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lab``."""
    parser = argparse.ArgumentParser(prog="lab", description="labcore: run, see, change, check")
    parser.add_argument("--version", action="version", version=f"labcore {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (_serving, _experiments, _models, _courses):
        group(commands)
    return parser


def _serving(commands: Any) -> None:
    app = _add(commands, "app", "serve the app on this machine", _app)
    app.add_argument("--port", type=int, help="exactly this port (default: 8501 or the next free)")
    app.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1)")

    serve = _add(commands, "serve", "serve a class: replicas behind a sticky proxy", _serve)
    serve.add_argument("--replicas", type=int, default=2, help="servers (default 2: one a core)")
    serve.add_argument("--port", type=int, default=8501, help="public port; replicas come after it")
    serve.add_argument("--address", default="127.0.0.1", help="where the proxy listens")
    serve.add_argument("--proxy", choices=("haproxy", "nginx", "none"), default="haproxy")
    serve.add_argument("--threads", type=int, default=1, help="BLAS threads of a replica")

    test = _add(commands, "test", "run the tests", _test)
    test.add_argument("rest", nargs=argparse.REMAINDER, help="passed to pytest")

    doctor = _add(commands, "doctor", "look at Python, packages, memory, cache", _doctor)
    _with_json(doctor)


def _experiments(commands: Any) -> None:
    run = _add(commands, "run", "run a topic's experiment on this machine", _run)
    run.add_argument("topic")
    size = run.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about a minute (default)")
    size.add_argument("--full", action="store_true", help="the size of the committed results")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--out", help="folder of the result (default out/TOPIC)")

    claims = _add(commands, "claims", "each published claim and what was measured here", _claims)
    claims.add_argument("--work", metavar="TOPIC")
    claims.add_argument("--result", metavar="FILE", help="judge this result of --work instead")
    claims.add_argument("--rerun", choices=("quick",), help="run the quick experiments and judge")

    bench = _add(commands, "bench", "race each method against its peer, in one run", _bench)
    bench.add_argument("topic", nargs="?")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions")
    bench.add_argument("--save", action="store_true", help="keep the rows under bench/results")
    peers = "install the peers, each in an environment of its own (default all; 'light': CI's)"
    bench.add_argument("--setup-peers", nargs="*", metavar="PEER", help=peers)

    estimate = _add(commands, "estimate", "hours of large jobs on N machines", _estimate)
    estimate.add_argument("--machines", type=int, nargs="+", default=[1, 4, 16])
    estimate.add_argument("--cores", type=int, default=16, help="of each machine (default 16)")
    estimate.add_argument("--work", default="speech", help="whose full experiment")
    _with_json(run, claims, bench, estimate)


def _models(commands: Any) -> None:
    fetch = _add(commands, "fetch", "fetch named models and data sets", _fetch)
    fetch.add_argument("names", nargs="*", metavar="NAME")
    fetch.add_argument("--all", action="store_true")
    fetch.add_argument("--offline", action="store_true", help="only what is here already")
    fetch.add_argument("--verify", action="store_true", help="hash the files again")

    from labcore.merging import command as merging

    merge = _add(commands, "merge", merging.ABOUT, _merge)
    merging.add_arguments(merge)
    assets = _add(commands, "assets", "the models and data sets, and where they are", _assets)
    _with_json(merge, assets)


def _courses(commands: Any) -> None:
    from labcore.course import command as course

    course.add_arguments(_add(commands, "notebooks", course.ABOUT, _notebooks))
    course.add_grade_arguments(_add(commands, "grade", course.ABOUT_GRADE, _grade))


def _with_json(*commands: argparse.ArgumentParser) -> None:
    for command in commands:
        command.add_argument("--json", action="store_true", help="what a program may read")


def _expected_errors() -> tuple[type[Exception], ...]:
    from labcore.assets import AssetError
    from labcore.runs import Cancelled, ResultError
    from labcore.serving import ServeError

    return (ExpectedError, AssetError, ResultError, ServeError, Cancelled, ValueError, OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    limit_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    args = build_parser().parse_args(argv)
    try:
        code: int = args.function(args)
    except KeyboardInterrupt:
        print("lab: stopped", file=sys.stderr)
        return 1
    except _expected_errors() as error:
        if os.environ.get("LAB_DEBUG") == "1":
            raise
        print(f"lab: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
