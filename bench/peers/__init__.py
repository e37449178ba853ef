"""The peers: what a user would pick instead, each in an environment of its own.

``lab bench --setup-peers [NAME...]`` makes ``.peers/NAME``: a virtual environment layered over the
lab's own, so that torch and numpy are not installed again, with the pinned peer on top. A bench
that races a peer in its own process calls :func:`use`; one whose peer wants other versions than
the lab runs a script with :func:`python`. Tests find the environments that exist on ``sys.path``.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".peers"
STAMP = "requirements"


class PeerMissing(RuntimeError):
    """A peer that is not installed; the message says what to call."""


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes:
        requirements: What pip installs, pinned.
        topics: Whose bench or tests race it.
        light: Installed by CI: small, and works beside the lab's own versions.
        deps: Whether its dependencies are installed too.
    """

    requirements: tuple[str, ...]
    topics: tuple[str, ...]
    light: bool = True
    deps: bool = True


PEERS: dict[str, Peer] = {
    "captum": Peer(("captum==0.9.0",), ("koopman",)),
    "eon": Peer(("EoN==2.0",), ("koopman",)),
    "gudhi": Peer(("gudhi==3.13.0",), ("topology",), deps=False),
    "kvpress": Peer(("kvpress==0.5.5",), ("kvcache",), light=False),
    "mambapy": Peer(("mambapy==1.2.0",), ("topology", "book"), deps=False),
    "mergekit": Peer(("mergekit==0.1.5",), ("merging",), light=False),
    "micrograd": Peer(("micrograd==0.1.0",), ("book",)),
    "nbgrader": Peer(("nbgrader==0.9.6",), ("course",)),
    "peft": Peer(("peft==0.21.2",), ("finetuning",), deps=False),
    "pydmd": Peer(("pydmd==2025.8.1",), ("koopman",)),
    "pytest-cov": Peer(("pytest-cov==7.0.0",), (), light=False),
    "pysindy": Peer(("pysindy==2.1.0",), ("koopman",)),
    "scikit-learn": Peer(("scikit-learn==1.9.1",), ("koopman", "conditional")),
    "timm": Peer(("timm==1.0.31",), ("finetuning",), deps=False),
    "toponetx": Peer(("toponetx==0.2.0",), ("topology",)),
    "torch-geometric": Peer(("torch-geometric==2.8.1",), ("koopman", "topology", "book")),
}


def environment(name: str) -> Path:
    """Folder of a peer's environment.

    Raises:
        PeerMissing: no such peer in the table.
    """
    if name not in PEERS:
        raise PeerMissing(f"no peer {name!r}: there are {', '.join(sorted(PEERS))}")
    return FOLDER / name


def packages(name: str) -> Path:
    """Folder of a peer's own packages."""
    root = environment(name)
    variables = {"base": str(root), "platbase": str(root)}
    return Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))


def python(name: str) -> Path:
    """A peer's Python, for a peer that needs a process of its own.

    Raises:
        PeerMissing: it is not installed.
    """
    if not is_ready(name):
        raise PeerMissing(f"{name} is not installed: ./lab bench --setup-peers {name}")
    return _interpreter(environment(name))


def is_ready(name: str) -> bool:
    """Whether the peer is installed at the pinned version."""
    stamp = environment(name) / STAMP
    return stamp.exists() and stamp.read_text().split("\n") == list(PEERS[name].requirements)


def use(name: str) -> str:
    """Make a peer importable in this process, after the lab's own packages; gives its version.

    Raises:
        PeerMissing: it is not installed.
    """
    python(name)
    path = str(packages(name))
    if path not in sys.path:
        sys.path.append(path)
    return version(PEERS[name].requirements[0].partition("==")[0])


def ready_paths() -> list[str]:
    """The package folders of all installed peers that work beside the lab's own versions."""
    return [str(packages(name)) for name in PEERS if PEERS[name].light and is_ready(name)]


def setup(name: str) -> str:
    """Install a peer into its environment, if it is not there yet; says what was done.

    Raises:
        PeerMissing: no such peer, or pip could not install it.
    """
    folder, peer = environment(name), PEERS[name]
    if is_ready(name):
        return "here already"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False)
    layer = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (packages(name) / "lab.pth").write_text(layer)
    command = [str(_interpreter(folder)), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", *(() if peer.deps else ("--no-deps",))]
    limit = [f"torch=={version('torch').partition('+')[0]}"]
    done = subprocess.run(
        [*command, *peer.requirements, *(limit if peer.deps else ())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PeerMissing(f"pip could not install {name}: {' '.join(said) or done.stderr[-300:]}")
    (folder / STAMP).write_text("\n".join(peer.requirements))
    return "installed"


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
