from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ffdi.core.errors import DataError
from ffdi.data.images import decode

COLOURS = np.zeros((48, 32, 3), np.uint8)
COLOURS[:16], COLOURS[16:, :8], COLOURS[16:, 8:] = (200, 30, 40), (20, 180, 60), (30, 60, 220)
NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)

LOSSLESS = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **{**LOSSLESS.get(kind, {}), **options})
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds next to nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"x"), (b"IEND", b"")]
    body = [
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def refusal(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        decode.decode(content, "face.jpg")
    return str(caught.value)


def outcome(content: bytes) -> np.ndarray | str:
    """The pixels, or the error's text."""
    try:
        return decode.decode(content, "face.jpg")
    except DataError as error:
        return str(error)


# --- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF"])
def test_a_lossless_file_gives_its_rgb_pixels_back(kind: str) -> None:
    decoded = decode.decode(encoded(NOISE, kind), "face")
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, NOISE)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_comes_close_to_its_rgb_pixels(progressive: bool) -> None:
    decoded = decode.decode(encoded(COLOURS, "JPEG", progressive=progressive), "face")
    assert np.abs(decoded.astype(int) - COLOURS).max() <= 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    content = encoded(COLOURS, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert np.array_equal(decode.decode(content, "face"), np.asarray(upright))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "1"), ("PNG", "L"), ("PNG", "P"), ("PNG", "LA"), ("BMP", "1"), ("BMP", "L"), ("BMP", "P")],
)
def test_grey_and_palette_images_become_rgb(kind: str, mode: str) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    assert np.array_equal(decode.decode(encoded(picture, kind), "face"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_alpha_is_dropped_and_not_blended(kind: str) -> None:
    picture = Image.fromarray(COLOURS).convert("RGBA")
    picture.putalpha(Image.fromarray(np.arange(48 * 32, dtype=np.uint8).reshape(48, 32)))
    assert np.array_equal(decode.decode(encoded(picture, kind), "face"), COLOURS)


def test_a_transparent_palette_colour_keeps_its_colour() -> None:
    palette = Image.fromarray(COLOURS).quantize(4)
    assert np.array_equal(decode.decode(encoded(palette, "PNG", transparency=0), "face"), COLOURS)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(kind: str) -> None:
    decoded = decode.decode(encoded(Image.fromarray(COLOURS).convert("CMYK"), kind), "face")
    assert np.abs(decoded.astype(int) - COLOURS).max() <= 8


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_sixteen_bits_become_the_upper_eight(ending: str) -> None:
    deep = np.random.default_rng(1).integers(0, 2**16, (9, 7, 3), dtype=np.uint16)
    content = cv2.imencode(ending, deep[..., ::-1].copy())[1].tobytes()
    assert np.abs(decode.decode(content, "face").astype(int) - deep / 257).max() < 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "MPO"])
def test_of_several_pictures_in_a_file_the_first_counts(kind: str) -> None:
    options = {**LOSSLESS["JPEG"]} if kind == "MPO" else {}
    content = encoded(COLOURS, kind, save_all=True, append_images=[Image.fromarray(255 - COLOURS)], **options)
    assert np.abs(decode.decode(content, "face").astype(int) - COLOURS).max() <= 8


def test_one_pixel_is_an_image() -> None:
    assert decode.decode(encoded(NOISE[:1, :1], "PNG"), "face").tolist() == [[NOISE[0, 0].tolist()]]


# --- refusing ------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"") == "face.jpg is empty"


@pytest.mark.parametrize("content", [b"\0" * 64, b"<html>not found</html>", b"\xff\xd8", b"\x89PNG", b"BM"])
def test_a_file_that_is_not_an_image_is_refused(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own words on a TIFF of four bytes
        assert refusal(content) == "face.jpg is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)"


def test_an_animated_gif_is_refused() -> None:
    content = encoded(COLOURS, "GIF", save_all=True, append_images=[Image.fromarray(255 - COLOURS)])
    assert refusal(content) == "face.jpg is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)"


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})],
)
def test_a_file_cut_anywhere_is_refused(kind: str, options: dict[str, object]) -> None:
    content = encoded(NOISE, kind, **options)
    assert decode.decode(content, "face").shape == NOISE.shape
    last = len(content) - (2 if kind == "JPEG" else 0)  # the two bytes of a JPEG's end marker hold no pixels
    cuts = {*range(1, last, 29), *range(last - 16, last)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(refusal(content[:cut]).startswith("face.jpg ") for cut in cuts)


@pytest.mark.parametrize("seed", range(8))
def test_a_jpeg_without_its_end_marker_is_refused_or_whole(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    content = encoded(noise, "JPEG")
    for cut in (content[:-1], content[:-2]):
        refused = f"face.jpg is truncated or damaged: {len(cut)} bytes cannot be decoded"
        result = outcome(cut)
        assert result == refused if isinstance(result, str) else np.array_equal(result, outcome(content))


def test_a_cut_in_the_pixels_says_how_many_bytes_there_are() -> None:
    content = encoded(NOISE, "JPEG")
    cut = content[: len(content) - 100]
    assert refusal(cut) == f"face.jpg is truncated or damaged: {len(cut)} bytes cannot be decoded"


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (10_000, 12_001, "face.jpg has 10000 x 12001 pixels; the limit is 120000000"),
        (60_000, 60_000, "face.jpg has more than 120000000 pixels, the limit"),
    ],
)
def test_a_bomb_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch, width: int, height: int, expected: str
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the bomb was decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(png_header(width, height)) == expected


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_tiff_of_other_numbers_is_no_damaged_file(mode: str) -> None:
    kind = {"F": "fractions", "I": "32-bit numbers"}[mode]
    expected = f"face.jpg is a TIFF of {kind}; save it with 8 or 16 bits for each channel"
    assert refusal(encoded(Image.new(mode, (9, 9)), "TIFF")) == expected


@pytest.mark.parametrize("content", [b"II*\0", cv2.imencode(".tiff", np.zeros((9, 9, 3), np.float32))[1].tobytes()])
def test_a_tiff_that_pillow_does_not_know_is_refused(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        why = "damaged, or of a kind that ffdi does not read; save it with 8 or 16 bits for each channel"
        assert refusal(content) == f"face.jpg is a TIFF that is {why}"


def test_the_pixel_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 24 * 20)
    assert decode.decode(encoded(NOISE, "PNG"), "face").shape == (24, 20, 3)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_give_pixels_or_a_data_error(kind: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(encoded(NOISE[:8, :8], kind))
    for place, value in changes:
        content[place % len(content)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = outcome(bytes(content))
    assert result.startswith("face.jpg ") if isinstance(result, str) else result.dtype == np.uint8
    greys = greys_or_refusal(bytes(content))
    assert greys == result if isinstance(result, str) else greys.shape == result.shape[:2]


def greys_or_refusal(content: bytes) -> np.ndarray | str:
    """As `outcome`, of the greys alone."""
    try:
        decode.read_header(content, "face.jpg")
        return decode.decode_grey(content, "face.jpg")
    except DataError as error:
        return str(error)


TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
    "JPEG": (Image.fromarray(COLOURS), "JPEG", {"quality": 90}),
    "progressive JPEG": (Image.fromarray(COLOURS), "JPEG", {"progressive": True}),
    "turned JPEG": (Image.fromarray(COLOURS), "JPEG", {"exif": TURNED}),
    "grey JPEG": (Image.fromarray(COLOURS).convert("L"), "JPEG", {}),
    "CMYK JPEG": (Image.fromarray(COLOURS).convert("CMYK"), "JPEG", {}),
    "PNG": (Image.fromarray(COLOURS), "PNG", {}),
    "PNG with alpha": (Image.fromarray(COLOURS).convert("RGBA"), "PNG", {}),
    "palette PNG": (Image.fromarray(COLOURS).convert("P"), "PNG", {}),
    "16 bit PNG": (Image.fromarray(np.arange(1536, dtype=np.uint16).reshape(48, 32) * 40), "PNG", {}),
    "WEBP": (Image.fromarray(COLOURS), "WEBP", {}),
    "BMP": (Image.fromarray(COLOURS), "BMP", {}),
    "TIFF": (Image.fromarray(COLOURS), "TIFF", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_greys_are_those_of_the_pixels(kind: str) -> None:
    picture, format, options = KINDS[kind]
    content = encoded(picture, format, **options)
    pixels, greys = outcome(content), greys_or_refusal(content)
    assert isinstance(pixels, np.ndarray)
    assert isinstance(greys, np.ndarray)
    assert np.abs(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(int) - greys).mean() < 3


@pytest.mark.parametrize("kind", KINDS)
def test_grey_decoding_refuses_the_same_cut_files(kind: str) -> None:
    picture, format, options = KINDS[kind]
    content = encoded(picture, format, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cut in {*range(0, len(content), 37), *range(len(content) - 12, len(content))}:
            result, greys = outcome(content[:cut]), greys_or_refusal(content[:cut])
            assert greys == result if isinstance(result, str) else isinstance(greys, np.ndarray)


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.jpg"
    with pytest.raises(DataError) as caught:
        decode.read_image(path)
    assert str(caught.value) == f"{path} cannot be read: No such file or directory"


def test_a_folder_is_refused_as_an_image(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        decode.read_image(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not a regular file"


@pytest.mark.parametrize("quality", [5, 50, 75, 95])
def test_the_quantization_of_a_jpeg_is_that_of_its_brightness(quality: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        content = file.getvalue()
    with Image.open(io.BytesIO(content)) as opened:
        expected = sum(opened.quantization[0])  # type: ignore[attr-defined]
    assert decode.sum_quantization(content) == expected
    for cut in range(2, 700, 7):
        assert decode.sum_quantization(content[:cut]) in (0, expected)


def test_files_without_quantization_have_none() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for ending in (".png", ".webp", ".bmp"):
        assert decode.sum_quantization(cv2.imencode(ending, image)[1].tobytes()) == 0
    assert decode.sum_quantization(b"") == 0
