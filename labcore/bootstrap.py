"""Make the lab's environment: run by ``./lab`` as a file, with the standard library alone.

torch is the delicate part: on Linux x86-64 the registry's build brings gigabytes of CUDA. So the
CPU build is looked for first, in this order: a torch that is installed already; a CPU wheel that
pip is configured to see; uv, which knows where CPU builds are; an index that the user names in
``LAB_TORCH_INDEX``. Without any of them the set-up stops and says so, unless ``--cuda`` is given.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA_SIZE = "about 6.5 GB installed"


class SetupError(RuntimeError):
    """A set-up that cannot go on, with what to do."""


def run(command: list[str], *, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a client; its output goes to the terminal unless ``quiet``."""
    stream = subprocess.PIPE if quiet else None
    return subprocess.run(command, text=True, stdout=stream, stderr=stream, check=False)


def pinned(name: str, constraints: Path) -> str:
    """``name==version`` from the constraints file.

    Raises:
        SetupError: the file has no such line.
    """
    for line in constraints.read_text().splitlines():
        if line.lower().startswith(f"{name}=="):
            return line.strip()
    raise SetupError(
        f"{constraints.name} has no line for {name}: restore the file from the repository"
    )


def installed_torch(python: Path) -> str:
    """Version of torch in the environment, or an empty string."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    found = run([str(python), "-c", code], quiet=True)
    return found.stdout.strip() if found.returncode == 0 else ""


def pip_sees_cpu_build(python: Path, requirement: str) -> bool:
    """Whether pip would install a CPU build of torch (asked without installing anything)."""
    flags = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-"]
    answer = run([str(python), "-m", "pip", "install", *flags, requirement], quiet=True)
    if answer.returncode != 0:
        return False
    (item,) = json.loads(answer.stdout)["install"]
    return registry_build_is_cpu() or item["metadata"]["version"].endswith("+cpu")


def registry_build_is_cpu() -> bool:
    """On macOS, Windows and Linux outside x86-64 the registry's torch is a CPU build."""
    return sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64")


def install_torch(python: Path, uv: str | None, constraints: Path, *, cuda: bool) -> None:
    """Install the pinned torch, as a CPU build unless ``cuda``.

    Raises:
        SetupError: no CPU build could be found.
    """
    requirement = pinned("torch", constraints)
    have = installed_torch(python)
    if have.split("+")[0] == requirement.partition("==")[2]:
        return
    limits = ["-c", str(constraints), "--quiet"]
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *limits]
    if cuda or pip_sees_cpu_build(python, requirement):
        if run([*pip, requirement]).returncode == 0:
            return
        raise SetupError("pip could not install torch: read its message above, then ./lab setup")
    if uv:
        command = [
            uv,
            "pip",
            "install",
            "--python",
            str(python),
            "--torch-backend=cpu",
            requirement,
        ]
        if run(command, quiet=True).returncode == 0:
            return
    if index := os.environ.get("LAB_TORCH_INDEX"):
        if run([*pip, "--index-url", index, requirement]).returncode == 0:
            return
        raise SetupError("LAB_TORCH_INDEX did not give torch: check the address")
    raise SetupError(
        f"no CPU build of {requirement} found, and the registry's build brings CUDA ({CUDA_SIZE}): "
        "install uv (pip install uv), or name an index of CPU builds in LAB_TORCH_INDEX, or accept "
        "CUDA with LAB_SETUP_FLAGS=--cuda ./lab setup"
    )


def install_lab(python: Path, uv: str | None, constraints: Path) -> None:
    """Install the package, editable, with all extras, as wheels at the constrained versions.

    Raises:
        SetupError: the client failed.
    """
    target = ["-e", f"{ROOT}[all]", "-c", str(constraints)]
    torch = installed_torch(python)
    if uv:
        command = [
            uv,
            "pip",
            "install",
            "--python",
            str(python),
            "--quiet",
            *target,
            f"torch=={torch}",
        ]
        if run(command).returncode == 0:
            return
        print("lab: uv could not do it, trying pip", file=sys.stderr)
    wheels = ["--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    command = [str(python), "-m", "pip", "install", *wheels, *target, f"torch=={torch}"]
    if run(command).returncode != 0:
        raise SetupError("pip could not install the packages: read its message above, ./lab setup")


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Wait until no other set-up works on ``folder``; gives whether there was one to wait for.

    Where the system has no file locks nothing is waited for.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    waited = False
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("lab: another set-up is running, waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
            waited = True
        yield waited


def make(folder: Path, stamp: str, *, cuda: bool) -> None:
    """Make or refresh the environment in ``folder``; the stamp is written last.

    Raises:
        SetupError: a step failed; what is there is kept, and the next call goes on.
    """
    start = time.monotonic()
    constraints = ROOT / "constraints.txt"
    if not constraints.exists():
        raise SetupError("constraints.txt is missing: restore it from the repository")
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"lab: making {folder.name} with Python {platform.python_version()}", file=sys.stderr)
        venv.create(folder, with_pip=True)
    uv = shutil.which("uv")
    print(f"lab: installing packages with {'uv' if uv else 'pip'} (once)", file=sys.stderr)
    install_torch(python, uv, constraints, cuda=cuda)
    install_lab(python, uv, constraints)
    part = folder / ".lab-stamp.part"
    part.write_text(stamp + "\n")
    part.replace(folder / ".lab-stamp")
    print(f"lab: ready in {time.monotonic() - start:.0f} s", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Command line of the set-up: 0 good, 1 a failure told in one line."""
    parser = argparse.ArgumentParser(description="make the lab's environment")
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--stamp", required=True)
    parser.add_argument("--cuda", action="store_true", help="accept the CUDA build of torch")
    args = parser.parse_args(argv)
    try:
        with alone(args.venv) as waited:
            stamp = args.venv / ".lab-stamp"
            if waited and stamp.exists() and stamp.read_text().strip() == args.stamp.strip():
                return 0  # the other one did it
            make(args.venv, args.stamp, cuda=args.cuda)
    except (SetupError, OSError, subprocess.CalledProcessError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
