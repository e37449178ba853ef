"""Uploads: what is read equals what trusted writers wrote; what is bad ends in one sentence."""

import io
import json
import pickle
import struct
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

from labcore.uploads import UploadError, read_image, read_matrix, read_tensors, read_text

MATRIX = np.array([[1.5, -2.0, 3e-7], [0.0, 5.25, 6e8]])


def npy(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy_header(text: str, body: bytes = b"") -> bytes:
    raw = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + body


def picture(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# What trusted writers wrote comes back.


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i2", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_read_like_numpy(dtype: str, order: str) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype, order=order)
    assert np.array_equal(read_matrix(npy(array), "a.npy"), np.load(io.BytesIO(npy(array))))
    assert read_matrix(npy(array), "a.npy").dtype == np.float64


def test_npz_gives_the_first_or_the_named_array() -> None:
    data = npz(first=MATRIX, second=MATRIX[0])
    assert np.array_equal(read_matrix(data, "a.npz"), MATRIX)
    assert np.array_equal(read_matrix(data, "a.npz", name="second"), MATRIX[0])
    assert list(read_tensors(data, "a.npz")) == ["first", "second"]
    with pytest.raises(UploadError, match="no array 'third'; it has first, second"):
        read_matrix(data, "a.npz", name="third")


def test_safetensors_match_the_library_and_bf16_is_upcast() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "f": torch.randn(3, 4, generator=generator),
        "h": torch.randn(2, generator=generator).half(),
        "b": torch.randn(5, 2, generator=generator).bfloat16(),
        "i": torch.arange(6).reshape(2, 3),
        "t": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }
    read = read_tensors(save_torch(tensors), "a.safetensors")
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        wanted = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert np.array_equal(read[name], wanted.numpy()), name
        assert read[name].dtype == wanted.numpy().dtype


@pytest.mark.parametrize(
    ("text", "coding"),
    [
        ("1,2\n3,4\n", "utf-8"),
        ("1,2\r\n3,4", "utf-8-sig"),
        ("time,value\n1,2\n3,4\n", "utf-16"),
        ('"a, b";c\n1,0;2,0\n\n3,0;4,0\n', "utf-8"),
        ("x\ty\n1\t2\n3\t4\n", "utf-8"),
        (" 1 , +2.0e0\n3,4\n", "utf-8"),
    ],
)
def test_tables_in_their_many_forms(text: str, coding: str) -> None:
    assert np.array_equal(read_matrix(text.encode(coding), "a.csv"), [[1, 2], [3, 4]])


def test_one_column_stays_a_column() -> None:
    assert read_matrix(b"v\n1\n2\n3\n", "a.csv").shape == (3, 1)


@given(
    st.lists(
        st.lists(
            st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([",", ";", "\t"]),
)
@settings(max_examples=60)
def test_a_written_table_comes_back(rows: list[list[float]], delimiter: str) -> None:
    text = "\n".join(delimiter.join(repr(v) for v in row) for row in rows)
    if delimiter == ";":
        text = text.replace(".", ",")
    assert np.array_equal(read_matrix(text.encode(), "a.csv"), np.array(rows))


def test_text_in_both_codings() -> None:
    wanted = "Zürich – 10 €\nend"
    for data in (wanted.encode(), b"\xef\xbb\xbf" + wanted.encode(), wanted.encode("utf-16")):
        assert read_text(data.replace(b"\n", b"\n"), "a.txt") == wanted


def test_pictures_come_back_as_rgb() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read_image(picture(Image.fromarray(pixels)), "a.png"), pixels)
    clear = Image.new("RGBA", (2, 3), (255, 0, 0, 0))
    assert np.array_equal(read_image(picture(clear), "a.png"), np.full((3, 2, 3), 255))
    grey16 = Image.fromarray(np.full((2, 2), 0x8000, dtype=np.uint16))
    assert read_image(picture(grey16), "a.png").max() == 0x80


def test_a_photo_taken_sideways_is_turned() -> None:
    photo = Image.new("RGB", (8, 4), "red")
    exif = photo.getexif()
    exif[0x0112] = 6
    assert read_image(picture(photo, "JPEG", exif=exif), "a.jpg").shape == (8, 4, 3)


# What is bad is refused, with its reason.


class _Payload:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".csv"])
def test_a_pickle_never_runs(tmp_path: Path, suffix: str) -> None:
    trap = tmp_path / "ran"
    payload = pickle.dumps(_Payload(trap))
    inside = npy(np.array([_Payload(trap)], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("data.pkl", payload)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as out:
        out.writestr("a.npy", inside)
    for data in (payload, inside, archive.getvalue(), zipped.getvalue()):
        for reader in (read_matrix, read_tensors):
            with pytest.raises(UploadError):
                reader(data, f"a{suffix}")
    assert not trap.exists()
    pickle.loads(payload)
    assert trap.exists(), "the payload is harmless, so this test shows nothing"


def test_a_checkpoint_is_refused_with_the_way_out() -> None:
    with pytest.raises(UploadError, match=r"(?s)convert to \.safetensors: .*save_file") as error:
        read_tensors(b"PK", "model.PT")
    assert "\n" not in str(error.value)


def test_objects_and_renamed_pickles_name_the_safe_way() -> None:
    data = npy(np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UploadError, match="Python objects.*numeric array"):
        read_matrix(data, "a.npy")
    with pytest.raises(UploadError, match="renamed pickle.*numpy.save"):
        read_matrix(pickle.dumps([1]), "a.npy")


def test_a_header_that_promises_more_takes_no_memory() -> None:
    data = npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000)}")
    data = data.ljust(100, b" ")
    tracemalloc.start()
    with pytest.raises(UploadError, match="promises 80 GB, the file has 100 bytes"):
        read_matrix(data, "a.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4)}",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1)}",
        "__import__('os').getpid()",
        "(" * 200,
    ],
)
def test_bad_npy_headers(header: str) -> None:
    with pytest.raises(UploadError):
        read_matrix(npy_header(header, bytes(64)), "a.npy")


def test_a_zip_bomb_is_refused_at_once() -> None:
    bomb = npz(a=np.zeros(40_000_000))
    assert len(bomb) < 400_000
    start = time.process_time()
    with pytest.raises(UploadError, match="unpacks to 320 MB"):
        read_tensors(bomb, "a.npz", max_elements=4_000_000)
    with pytest.raises(UploadError, match="unpacks to 320 MB"):
        read_matrix(bomb, "a.npz")
    assert time.process_time() - start < 0.1


def test_damaged_archives_and_tensors() -> None:
    whole = save_numpy({"a": MATRIX})
    swapped = bytearray(whole)
    swapped[0] ^= 0x40
    longer = json.dumps({"a": {"dtype": "F64", "shape": [9, 9], "data_offsets": [0, 48]}}).encode()
    cases = [
        (whole[:-5], "a.safetensors"),
        (whole[:4], "a.safetensors"),
        (bytes(swapped), "a.safetensors"),
        (struct.pack("<Q", len(longer)) + longer + bytes(48), "a.safetensors"),
        (npz(a=MATRIX)[:-30], "a.npz"),
        (npy(MATRIX)[:-8], "a.npy"),
    ]
    for data, name in cases:
        with pytest.raises(UploadError, match="damaged|promises"):
            read_tensors(data, name)


def test_rare_safetensors_types_are_named() -> None:
    data = save_torch({"a": torch.zeros(2, dtype=torch.float8_e4m3fn)})
    with pytest.raises(UploadError, match="'a' has type F8_E4M3.*F32"):
        read_tensors(data, "a.safetensors")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n3\n", "row 3: 1 cells where the first row of numbers has 2"),
        (b"1,2\n\n3,x\n", "row 3, column 2: 'x' is no number"),
        (b"1,2\n3,\n", "row 2, column 2: ''"),
        (b"1,2\nnan,4\n", "row 2, column 1: the value is nan"),
        (b"1;2,5\n1;inf\n", "row 2, column 2: the value is inf"),
        (b"a,b\n", "header row only"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\xfe1\x00,\x00\x00", "not UTF-16 text"),
        (b"1,2\n\xe9,4\n", r"not UTF-8 text \(byte 4\)"),
        ("1,2\n".encode("utf-16-le"), "zero bytes"),
        (b"1_000,2\n", "row 1, column 1"),
        (b'1,2\n"3' + b"x" * 140_000 + b'",4\n', "field larger"),
    ],
)
def test_bad_tables_name_the_place(data: bytes, message: str) -> None:
    with pytest.raises(UploadError, match=message):
        read_matrix(data, "a.csv")


def test_not_finite_arrays_name_the_place() -> None:
    bad = MATRIX.copy()
    bad[1, 2] = np.inf
    with pytest.raises(UploadError, match="row 2, column 3: the value is inf"):
        read_matrix(npy(bad), "a.npy")
    with pytest.raises(UploadError, match="row 4, column 1: the value is nan"):
        read_matrix(npy(np.array([0, 1, 2, np.nan])), "a.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.array(1.0), r"shape \(\)"),
        (np.zeros(3, dtype=complex), "complex128"),
    ],
)
def test_arrays_that_are_no_matrix(array: np.ndarray, message: str) -> None:
    with pytest.raises(UploadError, match=message):
        read_matrix(npy(array), "a.npy")


def test_limits() -> None:
    with pytest.raises(UploadError, match="limit is 0.0 MB"):
        read_matrix(b"1,2\n" * 10, "a.csv", max_bytes=10)
    with pytest.raises(UploadError, match="the limit is 10"):
        read_matrix(b"1,2\n" * 10, "a.csv", max_elements=10)
    with pytest.raises(UploadError, match="20 numbers, the limit is 10"):
        read_matrix(npy(np.zeros(20)), "a.npy", max_elements=10)
    with pytest.raises(UploadError, match="6 numbers, the limit is 5"):
        read_tensors(save_numpy({"a": MATRIX}), "a.safetensors", max_elements=5)
    with pytest.raises(UploadError, match="limit"):
        read_text(b"a" * 11, "a.txt", max_bytes=10)
    with pytest.raises(UploadError, match="expected .csv.*got .xlsx"):
        read_matrix(b"1", "table.xlsx")
    with pytest.raises(UploadError, match="got no suffix"):
        read_text(b"1", "table")


def test_bad_pictures() -> None:
    good = picture(Image.new("RGB", (40, 30)))
    with pytest.raises(UploadError, match="40 x 30 pixels, more than 0.001 million"):
        read_image(good, "a.png", max_pixels=1000)
    with pytest.raises(UploadError, match="no PNG or JPEG"):
        read_image(picture(Image.new("RGB", (4, 3)), "GIF"), "a.png")
    with pytest.raises(UploadError, match="damaged"):
        read_image(good[:60], "a.png")
    huge = bytearray(good)
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UploadError, match="damaged|too many pixels|no PNG"):
            read_image(bytes(huge), "a.png")


_NAMES = st.sampled_from(["a.csv", "a.tsv", "a.npy", "a.npz", "a.safetensors", "a.pt", "a"])


@st.composite
def _mangled(draw: st.DrawFn) -> tuple[bytes, str]:
    """Random bytes, or a good file with a few bytes changed or its end cut off."""
    good = {
        "a.npy": npy(MATRIX),
        "a.npz": npz(x=MATRIX, y=np.arange(3)),
        "a.safetensors": save_numpy({"x": MATRIX, "y": np.arange(3)}),
        "a.csv": b"x;y\n1,5;2\n3;4\n",
    }
    name = draw(_NAMES)
    if name not in good or draw(st.booleans()):
        start = draw(st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\xff\xfe"]))
        return start + draw(st.binary(max_size=200)), name
    data = bytearray(good[name])
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data), name


def _outcome(reader: Callable[[bytes, str], object], data: bytes, name: str) -> object:
    """What was read, or the one line that refuses it; any other exception ends the test."""
    try:
        return reader(data, name)
    except UploadError as error:
        return str(error) if "\n" not in str(error) else None


@given(_mangled())
@example((npy_header("\x00"), "a.npy"))
@example((npy_header("'" * 3), "a.npy"))
@settings(max_examples=600)
def test_no_bytes_do_anything_but_read_or_refuse(case: tuple[bytes, str]) -> None:
    data, name = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about headers written by Python 2
        for reader in (read_matrix, read_tensors):
            assert _outcome(reader, data, name) is not None


@given(st.binary(max_size=80))
@settings(max_examples=200)
def test_no_bytes_break_the_text_and_picture_readers(data: bytes) -> None:
    for reader, name in ((read_text, "a.txt"), (read_image, "a.png")):
        for content in (data, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + data, b"\xff\xd8\xff" + data):
            assert _outcome(reader, content, name) is not None
