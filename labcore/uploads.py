"""Reading files that people upload: matrices, tensors, texts, pictures.

Nothing in an upload is trusted. No pickle is ever read; what a header promises is compared with
what the file holds before memory is taken; every refusal is an ``UploadError`` of one sentence that
says what was found, where, and what to do.
"""

import csv
import io
import math
import struct
import tokenize
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

MEGABYTE = 2**20
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
_SAFE_WAY = (
    "from safetensors.torch import save_file; "
    'save_file(torch.load("old.pt", weights_only=True), "new.safetensors")'
)
_NPY_MAGIC = b"\x93NUMPY"
_SAFETENSORS_DTYPES = {"BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UI" for size in (1, 2, 4, 8)
}
# What numpy's header parser and zipfile raise on damaged bytes; encryption is a RuntimeError.
_BAD_HEADER = (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError)
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, struct.error)


class UploadError(ValueError):
    """The file cannot be used; the message says why and what to upload instead."""


def read_matrix(
    data: bytes,
    filename: str,
    *,
    max_bytes: int = 20 * MEGABYTE,
    max_elements: int = 4_000_000,
    name: str | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """Numbers from a .csv, .tsv, .npy, .npz or .safetensors file.

    The suffix of ``filename`` decides. A table may use commas, tabs, or semicolons with decimal
    commas, may begin with a header row, and may be UTF-8 or (with a byte-order mark) UTF-16; it
    gives rows and columns. From a file with several arrays the first is taken, or the one called
    ``name``.

    >>> read_matrix(b"a;b\\n1,5;2\\n", "x.csv")
    array([[1.5, 2. ]])

    Returns:
        A 1-D or 2-D array of finite numbers.

    Raises:
        UploadError: anything else.
    """
    suffix = _door(data, filename, max_bytes, (".csv", ".tsv", ".npy", ".npz", ".safetensors"))
    if suffix in (".csv", ".tsv"):
        values = _read_table(_decode(data, filename), filename, max_elements)
    elif suffix == ".npy":
        values = _read_npy(data, filename, max_elements)
    else:
        limits = {"max_bytes": max_bytes, "max_elements": max_elements}
        values = _pick(read_tensors(data, filename, **limits), filename, name)
    return _as_matrix(values, filename, max_elements)


def read_tensors(
    data: bytes,
    filename: str,
    *,
    max_bytes: int = 200 * MEGABYTE,
    max_elements: int = 100_000_000,
) -> dict[str, np.ndarray]:
    """All arrays of a .safetensors, .npz or .npy file by name (BF16 becomes float32).

    Raises:
        UploadError: another kind of file, a damaged one, or one that unpacks to too much.
    """
    suffix = _door(data, filename, max_bytes, (".safetensors", ".npz", ".npy"))
    if suffix == ".npy":
        return {"array": _read_npy(data, filename, max_elements)}
    if suffix == ".npz":
        return dict(_read_npz(data, filename, max_elements))
    return _read_safetensors(data, filename, max_elements)


def read_text(data: bytes, filename: str, *, max_bytes: int = 2 * MEGABYTE) -> str:
    """A .txt or .md file as text: UTF-8, or UTF-16 with a byte-order mark; line ends become LF.

    >>> read_text("caf\\u00e9\\r\\n".encode("utf-16"), "note.txt")
    'café\\n'

    Raises:
        UploadError: another suffix, too long, empty, or not text.
    """
    _door(data, filename, max_bytes, (".txt", ".md"))
    return _decode(data, filename).replace("\r\n", "\n").replace("\r", "\n")


def read_image(
    data: bytes,
    filename: str,
    *,
    max_bytes: int = 20 * MEGABYTE,
    max_pixels: int = 16_000_000,
) -> UInt8[np.ndarray, "height width 3"]:
    """A PNG or JPEG picture as red, green, blue; turned upright, transparency on white.

    Raises:
        UploadError: another kind of file, a damaged one, or more than ``max_pixels`` pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    _door(data, filename, max_bytes, (".png", ".jpg", ".jpeg"))
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise UploadError(
                    f"{filename} has {width} x {height} pixels, more than {max_pixels / 1e6:g} "
                    "million; make it smaller"
                )
            upright = _eight_bit(ImageOps.exif_transpose(picture)).convert("RGBA")
    except UploadError:
        raise
    except UnidentifiedImageError:
        raise UploadError(f"{filename} is no PNG or JPEG picture; save it as one") from None
    except Image.DecompressionBombError:
        raise UploadError(f"{filename} has far too many pixels; make it smaller") from None
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise _damaged(filename, str(error)) from error
    white = Image.new("RGBA", upright.size, "white")
    return np.array(Image.alpha_composite(white, upright).convert("RGB"))


def _eight_bit(picture: Any) -> Any:
    """A 16-bit grey picture brought to 8 bits, which plain conversion would clip to white."""
    return picture.point(lambda v: v / 256, "L") if picture.mode.startswith("I") else picture


def _door(data: bytes, filename: str, max_bytes: int, wanted: tuple[str, ...]) -> str:
    """Checks that hold for every upload; the suffix."""
    dot = filename.rfind(".")
    suffix = filename[dot:].lower() if dot >= 0 else ""
    if suffix in _PICKLES:
        raise UploadError(
            f"{filename}: {suffix} files can run code when they are read, so they are refused; "
            f"convert to .safetensors: {_SAFE_WAY}"
        )
    if suffix not in wanted:
        raise UploadError(f"{filename}: expected {', '.join(wanted)}, got {suffix or 'no suffix'}")
    if not data:
        raise UploadError(f"{filename} is empty; upload a file with content")
    if len(data) > max_bytes:
        raise UploadError(
            f"{filename} has {len(data) / 1e6:.1f} MB, the limit is {max_bytes / 1e6:.1f} MB; "
            "upload a part of it"
        )
    return suffix


def _damaged(filename: str, reason: str) -> UploadError:
    line = " ".join(reason.split())[:160]
    return UploadError(f"{filename} is a damaged file ({line}); export it again")


def _decode(data: bytes, filename: str) -> str:
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        raise UploadError(
            f"{filename} is not {coding.upper().removesuffix('-SIG')} text (byte {error.start}); "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        raise UploadError(f"{filename} holds zero bytes, so it is no text; save it as UTF-8")
    if not text.strip():
        raise UploadError(f"{filename} is empty; upload a file with content")
    return text


def _read_table(text: str, filename: str, max_elements: int) -> np.ndarray:
    decimal_comma = _delimiter(text, filename) == ";"
    numbers = array("d")
    width = 0
    for i, (line, cells) in enumerate(_table_rows(text, filename)):
        parsed = [_number(cell, decimal_comma) for cell in cells]
        if i == 0 and all(number is None for number in parsed):
            continue  # a header row
        width = width or len(cells)
        if len(cells) != width:
            raise UploadError(
                f"{filename}, row {line}: {len(cells)} cells where the first row of numbers has "
                f"{width}; make all rows equally long"
            )
        for j, (cell, number) in enumerate(zip(cells, parsed, strict=True)):
            if number is None:
                raise UploadError(
                    f"{filename}, row {line}, column {j + 1}: {cell.strip()[:40]!r} is no number; "
                    "correct or remove it"
                )
            if not math.isfinite(number):
                raise _not_finite(filename, line, j + 1, number)
            numbers.append(number)
        if len(numbers) > max_elements:
            raise _too_many(filename, len(numbers), max_elements)
    if not width:
        raise UploadError(f"{filename} has a header row only; add rows of numbers")
    return np.array(numbers).reshape(-1, width)


def _table_rows(text: str, filename: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold something, each with its line number in the file."""
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text, filename))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UploadError(
            f"{filename}, row {reader.line_num}: {error}; save the table as plain CSV"
        ) from None


def _delimiter(text: str, filename: str) -> str:
    first = next(line for line in text.splitlines() if line.strip())
    if "\t" in first or filename.lower().endswith(".tsv"):
        return "\t"
    return ";" if ";" in first else ","


def _number(cell: str, decimal_comma: bool) -> float | None:
    text = cell.strip()
    if decimal_comma:
        text = text.replace(",", ".", 1)
    if "_" in text:  # Python's own notation, in a table a slip
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _read_npy(data: bytes, filename: str, max_elements: int) -> np.ndarray:
    """An .npy file without numpy's loader: its header is believed only as far as the bytes go."""
    if not data.startswith(_NPY_MAGIC):
        raise UploadError(
            f"{filename} is no .npy file (perhaps a renamed pickle, which is never read); save the "
            "array with numpy.save"
        )
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        numpy_format = np.lib.format
        first, second = numpy_format.read_array_header_1_0, numpy_format.read_array_header_2_0
        shape, fortran, dtype = {(1, 0): first, (2, 0): second}[version](stream)
    except (*_BAD_HEADER, tokenize.TokenError) as error:
        raise _damaged(filename, f"header: {error}") from None
    if dtype.hasobject:
        raise UploadError(
            f"{filename} holds Python objects, which can run code when read; save a numeric array"
        )
    if dtype.kind not in "biufc":
        raise UploadError(f"{filename} holds {dtype}, not numbers; save a numeric array")
    count = math.prod(shape)
    held = len(data) - stream.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize > held:
        raise UploadError(
            f"{filename}: the header promises {_size(count * dtype.itemsize)}, the file has "
            f"{_size(len(data))}; export it again"
        )
    if count == 0:
        raise UploadError(f"{filename} has shape {shape}, so no number; add some")
    if count > max_elements:
        raise _too_many(filename, count, max_elements)
    values = np.frombuffer(data, dtype, count=count, offset=stream.tell())
    return values.reshape(shape, order="F" if fortran else "C").copy()


def _read_npz(data: bytes, filename: str, max_elements: int) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _refuse_bomb(infos, filename, max_elements)
            for info in infos:
                if not info.filename.endswith(".npy"):
                    raise UploadError(
                        f"{filename} holds {info.filename!r}; save it with numpy.savez"
                    )
                with archive.open(info) as member:
                    content = member.read(info.file_size)
                name = info.filename.removesuffix(".npy")
                yield name, _read_npy(content, f"{filename}/{name}", max_elements)
    except UploadError:
        raise
    except (*_BAD_ZIP, ValueError, IndexError, KeyError) as error:
        raise _damaged(filename, str(error)) from None


def _refuse_bomb(infos: list[zipfile.ZipInfo], filename: str, max_elements: int) -> None:
    if not infos:
        raise UploadError(f"{filename} holds no array; save it with numpy.savez")
    total = sum(info.file_size for info in infos)
    limit = 8 * max_elements + 4096 * len(infos)
    if total > limit:
        raise UploadError(
            f"{filename} unpacks to {_size(total)}, the limit is {_size(limit)}; upload a part"
        )
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos):
        raise UploadError(f"{filename} uses a rare compression; save it with numpy.savez")


def _read_safetensors(data: bytes, filename: str, max_elements: int) -> dict[str, np.ndarray]:
    import safetensors

    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise _damaged(filename, str(error)) from None
    count = sum(math.prod(entry["shape"]) for _, entry in entries)
    if count > max_elements:
        raise _too_many(filename, count, max_elements)
    tensors = {}
    for name, entry in entries:
        code = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if code is None:
            raise UploadError(
                f"{filename}: tensor {name!r} has type {entry['dtype']}, which is not read here; "
                "convert it to F32"
            )
        values = np.frombuffer(bytes(entry["data"]), code)
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        tensors[name] = values.reshape(entry["shape"]).copy()
    return dict(sorted(tensors.items()))


def _pick(tensors: dict[str, np.ndarray], filename: str, name: str | None) -> np.ndarray:
    if not tensors:
        raise UploadError(f"{filename} holds no array; save one")
    chosen = next(iter(tensors)) if name is None else name
    if chosen not in tensors:
        known = ", ".join(list(tensors)[:8])
        raise UploadError(f"{filename} has no array {chosen!r}; it has {known}")
    return tensors[chosen]


def _as_matrix(
    values: np.ndarray, filename: str, max_elements: int
) -> Float64[np.ndarray, "*shape"]:
    if values.ndim not in (1, 2):
        raise UploadError(
            f"{filename} has shape {values.shape}; reshape it to one or two dimensions"
        )
    if values.dtype.kind not in "biuf":
        raise UploadError(f"{filename} holds {values.dtype}; save real numbers")
    if values.size == 0:
        raise UploadError(f"{filename} has shape {values.shape}, so no number; add some")
    if values.size > max_elements:
        raise _too_many(filename, values.size, max_elements)
    matrix = np.ascontiguousarray(values, dtype=np.float64)
    if not np.isfinite(matrix).all():
        row, *column = np.argwhere(~np.isfinite(matrix))[0]
        bad = float(matrix[(row, *column)])
        raise _not_finite(filename, int(row) + 1, int(column[0]) + 1 if column else 1, bad)
    return matrix


def _not_finite(filename: str, row: int, column: int, value: float) -> UploadError:
    return UploadError(
        f"{filename}, row {row}, column {column}: the value is {value}; replace or remove it"
    )


def _too_many(filename: str, count: int, limit: int) -> UploadError:
    return UploadError(f"{filename} holds {count} numbers, the limit is {limit}; upload a part")


def _size(count: int) -> str:
    """A number of bytes for people.

    >>> _size(100), _size(80 * 10**9)
    ('100 bytes', '80 GB')
    """
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count} bytes"
