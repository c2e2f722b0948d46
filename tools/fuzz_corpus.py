"""Makes the images of the fuzz corpus: `fuzz_corpus.py FOLDER`. Needs Pillow; see `make fuzz-corpus`.

One small image for each way in which the formats store pixels and metadata. They are made of gradients, so that their
bytes depend on nothing but the version of Pillow.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image


def gradient(mode: str, size: tuple[int, int] = (24, 16)) -> Image.Image:
    width, height = size
    rgb = Image.new("RGB", size)
    rgb.putdata([(x * 10 % 256, y * 15 % 256, (x * y) % 256) for y in range(height) for x in range(width)])
    if mode in ("RGBA", "LA"):
        rgb.putalpha(Image.linear_gradient("L").resize(size))
    return rgb.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation]) + bytes(7)


def with_sampling(jpeg: bytes, component: int, factors: int) -> bytes:
    """Changes the sampling factors of a component in the header of a progressive frame."""
    at = jpeg.index(b"\xff\xc2") + 10 + 3 * component + 1
    return jpeg[:at] + bytes([factors]) + jpeg[at + 1 :]


def jpegs() -> dict[str, bytes]:
    rgb = gradient("RGB")
    return {
        "baseline": encoded(rgb, "JPEG", quality=60),
        "full-chroma": encoded(rgb, "JPEG", quality=60, subsampling=0),
        "half-chroma": encoded(rgb, "JPEG", quality=60, subsampling=1),
        "progressive": encoded(rgb, "JPEG", quality=60, progressive=True),
        "grey": encoded(gradient("L"), "JPEG", quality=60),
        "grey-progressive": encoded(gradient("L"), "JPEG", quality=60, progressive=True),
        "cmyk": encoded(gradient("CMYK"), "JPEG", quality=60),
        "restart-markers": encoded(rgb, "JPEG", quality=60, restart_marker_blocks=1),
        "optimised": encoded(rgb, "JPEG", quality=10, optimize=True),
        "orientation": encoded(rgb, "JPEG", quality=60, exif=exif(6)),
        "comment": encoded(rgb, "JPEG", quality=60, comment=b"a comment", dpi=(72, 72)),
        "one-pixel": encoded(gradient("RGB", (1, 1)), "JPEG"),
        # The decoder panics: more samples of colour than of brightness, in an image of a few columns.
        "narrow-fine-chroma": with_sampling(
            encoded(gradient("RGB", (7, 16)), "JPEG", quality=60, subsampling=0, progressive=True), 1, 0x22
        ),
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, colour: int, interlace: int, rows: bytes, size: tuple[int, int], *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace)
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pngs() -> dict[str, bytes]:
    plain = encoded(gradient("RGB"), "PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"text" * 20))
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(500)))
    international = chunk(b"iTXt", b"Title\0\x01\0en\0Titre\0" + zlib.compress(b"text" * 20))
    frames = [gradient("RGB"), gradient("RGB").rotate(180)]
    # Adam7 of 8 x 8 pixels: passes of these widths and heights, each row with its filter.
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    interlaced = b"".join((b"\0" + bytes(range(3 * width))) * height for width, height in passes)
    return {
        "rgb": plain,
        "rgba": encoded(gradient("RGBA"), "PNG"),
        "grey": encoded(gradient("L"), "PNG"),
        "grey-alpha": encoded(gradient("LA"), "PNG"),
        "bits": encoded(gradient("1"), "PNG"),
        "palette": encoded(gradient("P"), "PNG"),
        "palette-transparent": encoded(gradient("P"), "PNG", transparency=3),
        "grey-16-bits": encoded(gradient("I;16"), "PNG"),
        "rgb-16-bits": png(16, 2, 0, (b"\0" + bytes(range(48))) * 8, (8, 8)),
        "interlaced": png(8, 2, 1, interlaced, (8, 8)),
        "metadata": plain[:33] + profile + text + international + chunk(b"eXIf", exif(8)[6:]) + plain[33:],
        "animated": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "palette-with-half-a-colour": png(8, 3, 0, bytes(9 * 8), (8, 8), chunk(b"PLTE", bytes(4))),
        "two-data-chunks": png(8, 0, 0, bytes(9 * 8), (8, 8), chunk(b"gAMA", struct.pack(">I", 45455))),
    }


def webps() -> dict[str, bytes]:
    rgb, rgba = gradient("RGB"), gradient("RGBA")
    frames = [rgb, gradient("RGB").rotate(180)]
    return {
        "lossy": encoded(rgb, "WEBP", quality=50),
        "lossy-large": encoded(gradient("RGB", (40, 40)), "WEBP", quality=90, method=6),
        "lossy-alpha": encoded(rgba, "WEBP", quality=50),
        "lossless": encoded(rgb, "WEBP", lossless=True),
        "lossless-alpha": encoded(rgba, "WEBP", lossless=True, exact=True),
        "lossless-palette": encoded(gradient("P").convert("RGB"), "WEBP", lossless=True, method=6),
        "metadata": encoded(rgb, "WEBP", quality=50, exif=exif(3)[6:], icc_profile=bytes(200), xmp=b"<x/>"),
        "animated": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, quality=50),
        "animated-lossless": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
    }


def others(jpeg: bytes, png_: bytes, webp: bytes) -> dict[str, bytes]:
    return {
        "jpeg": jpeg,
        "png": png_,
        "webp": webp,
        "gif": encoded(gradient("P"), "GIF"),
        "bmp": encoded(gradient("RGB", (4, 4)), "BMP"),
        "tiff": encoded(gradient("RGB", (4, 4)), "TIFF"),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "pdf": b"%PDF-1.7\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


def main(folder: Path) -> None:
    sets = {"jpeg": jpegs(), "png": pngs(), "webp": webps()}
    sets["image"] = others(sets["jpeg"]["baseline"], sets["png"]["rgb"], sets["webp"]["lossy"])
    for target, files in sets.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / target / name).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
