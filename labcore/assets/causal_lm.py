"""Loading a causal language model by name, folder, GGUF file or hub id.

Reading a GGUF file means dequantising it, which takes many times longer and more memory than
reading safetensors. So a GGUF file is converted once; the result is kept in the cache under the
file's SHA-256 and the wanted precision, and every later load starts from there.
"""

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from labcore import runtime
from labcore.assets import store
from labcore.assets.catalogue import registry
from labcore.assets.errors import AssetCorrupt, AssetSourceError
from labcore.assets.fetching import Progress, fetch, is_offline

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MEMORY_FACTOR = 1.5
_GGUF_MEMORY_FACTOR = 12  # peak while converting, over the file's size (measured on Q4_1: 12.0)


def load_causal_lm(
    source: str | Path = "smollm2-135m",
    *,
    dtype: torch.dtype = torch.float32,
    attn: str = "sdpa",
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    strict_memory: bool = False,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer, ready for inference.

    Args:
        source: a registered asset (fetched if needed), a folder, a ``.gguf`` file or a hub id.
        dtype: precision of the weights: float32, bfloat16 (half the memory) or float16.
        attn: the attention implementation, as transformers names it.
        device: where the model goes.
        progress: called with (bytes done, bytes in all) while an asset is fetched.
        strict_memory: refuse instead of warning when memory is short.

    Returns:
        (model, tokenizer): a transformers model in ``eval`` mode whose parameters need no
        gradient, and its tokenizer.

    Raises:
        ValueError: ``source`` is none of these, or ``dtype`` is not offered.
        AssetError: the asset cannot be fetched, or the file cannot be read.
        MemoryError: ``strict_memory`` and less than 1.5 times the model's size is free.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    where = _resolve(source, progress)
    if isinstance(where, Path) and where.suffix.lower() == ".gguf":
        where = converted(where, dtype=dtype, strict_memory=strict_memory)
    if isinstance(where, Path):
        _check_memory(_weights_bytes(where), _MEMORY_FACTOR, strict_memory)
    return _load(where, dtype, attn, device)


def converted(
    gguf: Path, *, dtype: torch.dtype = torch.float32, strict_memory: bool = False
) -> Path:
    """The folder with the safetensors form of a GGUF file, made on the first call.

    Raises:
        AssetCorrupt: transformers cannot read the file.
        MemoryError: ``strict_memory`` and too little memory is free for the conversion.
    """
    digest = store.remembered_hash(gguf)
    precision = str(dtype).removeprefix("torch.")
    folder = store.cache_root() / "models" / digest[:2] / digest / precision
    if folder.is_dir():
        return folder
    with store.locked(f"model-{digest[:32]}-{precision}"), store.storage_errors():
        if folder.is_dir():  # another process made it while this one waited
            return folder
        _check_memory(gguf.stat().st_size, _GGUF_MEMORY_FACTOR, strict_memory)
        part = folder.with_name(f".{precision}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _write_safetensors(gguf, part, dtype)
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _resolve(source: str | Path, progress: Progress | None) -> str | Path:
    """A folder, a GGUF file, or (as text) a hub id."""
    if isinstance(source, str) and source in registry():
        paths = fetch(source, progress=progress)
        models = [path for path in paths.values() if path.suffix == ".gguf"]
        if not models:
            raise ValueError(f"the asset {source!r} is no language model; it has no .gguf file")
        return models[0]
    path = Path(source).expanduser()
    if (path / "config.json").is_file() or (path.is_file() and path.suffix.lower() == ".gguf"):
        return path
    if path.is_dir():
        raise ValueError(f"{path} holds no config.json; give a model folder or a .gguf file")
    if path.exists():
        raise ValueError(f"{path} is no .gguf file; give a .gguf file or a model folder")
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith(("/", ".")):
        return source
    raise ValueError(
        f"no model at {str(source)!r}; give a registered asset ({', '.join(registry())}), a model "
        "folder, a .gguf file or a hub id such as owner/name"
    )


def _write_safetensors(gguf: Path, into: Path, dtype: torch.dtype) -> None:
    transformers = _transformers()
    try:
        with _quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True
            )
            read = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=dtype, local_files_only=True
            )
    except (ValueError, KeyError, IndexError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise AssetCorrupt(
            f"{gguf} cannot be read as a GGUF model ({error}); check the file or fetch it again"
        ) from error
    # A model read from GGUF refuses to be saved; a fresh one of the same shape takes its tensors.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    with torch.device("meta"):
        fresh = type(read)(type(read.config)(**settings))
    fresh.load_state_dict(read.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = read.generation_config
    with _quiet(transformers):
        fresh.save_pretrained(into)
    tokenizer.save_pretrained(into)
    _share_modes(into)


def _share_modes(folder: Path) -> None:
    """Give every file the mode of an ordinary new one; weights are written readable by us only."""
    ordinary = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(ordinary)


def _load(
    where: str | Path, dtype: torch.dtype, attn: str, device: str | torch.device
) -> tuple[Any, Any]:
    transformers = _transformers()
    local = isinstance(where, Path) or is_offline(None)
    try:
        with _quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=local)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                where, dtype=dtype, attn_implementation=attn, local_files_only=local
            )
    except OSError as error:
        advice = "check the folder" if isinstance(where, Path) else "check the id and the network"
        first = str(error).strip().splitlines()[0]
        raise AssetSourceError(f"{where} cannot be loaded ({first}); {advice}") from error
    return model.to(device).eval().requires_grad_(False), tokenizer


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _check_memory(size: int, factor: float, strict: bool) -> None:
    free = runtime.available_memory()
    if free is None or free >= factor * size:
        return
    message = (
        f"the model needs about {factor * size / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of "
        "memory are free; close other programs or load it with dtype=torch.bfloat16"
    )
    if strict:
        raise MemoryError(message)
    warnings.warn(message, ResourceWarning, stacklevel=3)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' own progress bars, which would litter notebooks and logs."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise AssetSourceError(
            'transformers is not installed; run `python -m pip install "labcore[models]"`'
        ) from None
    return transformers
