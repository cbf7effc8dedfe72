"""What `analysis.dataset` finds out: facts of every image, the splits, pictures that are in two of them, and warnings.

Files are decoded in threads and forgotten at once: about 250 bytes an image are kept.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import ExifTags, Image
from scipy.spatial import KDTree

from trainable.data.decode import BadImage, read_image
from trainable.data.files import open_image
from trainable.data.layouts import ClassName, Example, Layout
from trainable.data.splits import TEST, TRAIN, VAL, Splits, make_splits
from trainable.errors import UserError

SPLITS = Splits._fields
"""train, select, holdout, test: as the search has them."""
LABELLED = SPLITS[:3]

HASH_SIDE = 4
"""DCT coefficients a side of the perceptual hash. Of 300 JPEGs of tiny-imagenet-20 that are saved again at quality 75,
99.7 % keep all of its 16 bits; of the 64 bits that are the library's default, 89 % do. What 16 bits confuse, thumbnails
tell apart."""
THUMBNAIL_SIDE = 8
TOLERANCE = 0.15
"""RMS difference of two thumbnails of the same picture, at most, as a share of their contrast. In tiny-imagenet-20 a
picture saved again at quality 50 differs by at most 0.15 (300 tried), the closest two of 1,500 by 0.38. Flat pictures
have no contrast and must be equal."""

IMBALANCE = 3.0
"""Largest class ÷ smallest from which on it is worth a warning."""
NAMED = 3
"""Files or pairs that a warning names before it only counts."""
CHUNK = 16
"""Images that a thread decodes at a time."""
SMALL_FILE_BYTES = 8192
"""Below this mean, Python's share is so large that threads only wait for each other: measured for the data cache."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations of images that lie on their side."""
MODES = {
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale with transparency",
    "I;16": "16-bit greyscale",
    "P": "palette",
    "RGBA": "RGB with transparency",
}
"""PIL's modes in words, where they aren't the words already."""

FACTS = np.dtype(
    [
        ("width", "i4"),
        ("height", "i4"),
        ("bytes", "i8"),
        ("mode", "U8"),
        ("animated", "?"),
        ("hash", "u2"),
        ("thumbnail", "u1", (THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3,)),
    ]
)
"""What is kept of an image: sides in pixels as it is seen, size of the file, PIL's mode, whether it has more than one
frame; and the hash and the thumbnail of what training sees of it."""


class Scan(NamedTuple):
    """A data set, looked through."""

    images: pd.DataFrame
    """A row for each readable image, in the order of train, val, test: path (relative to the root), label (-1:
    unlabelled), split, width, height, bytes, mode, animated, hash (the last five and the sides as in FACTS)."""
    thumbnails: NDArray[np.uint8]
    """(images, 8 x 8 x 3); zeros without hashes."""
    broken: dict[str, str]
    """Why a file can't be decoded, by its path."""
    refused: str | None
    """Why the search couldn't split these images; `split` then has the published parts, val as holdout."""


def scan(layout: Layout, image_size: int, seed: int, hashes: bool = True) -> Scan:
    """Decode every file as training does at `image_size` pixels, and split the readable ones as the search with `seed`.

    Raises UserError where not one training image can be decoded.
    """
    examples = [*layout.train, *layout.val, *layout.test]
    parts = np.repeat([TRAIN, VAL, TEST], [len(layout.train), len(layout.val), len(layout.test)])
    facts, broken = look_at_all(layout.root, examples, image_size, hashes)
    good = np.array([example.path not in broken for example in examples])
    if not good[: len(layout.train)].any():
        path, reason = next(iter(broken.items()))
        raise UserError(
            f"{layout.root}: none of {len(layout.train):,} training images can be decoded, the first is {path} "
            f"({reason}); check that the files are images"
        )
    facts, parts = facts[good], parts[good]
    kept = [example for example, is_good in zip(examples, good, strict=True) if is_good]
    images = pd.DataFrame(kept, columns=list(Example._fields))
    images["split"], refused = split_names(images["label"].to_numpy(), parts, layout.classes, seed)
    for name in FACTS.names or ():
        if name != "thumbnail":
            images[name] = facts[name]
    return Scan(images, facts["thumbnail"], broken, refused)


def look_at_all(
    root: Path, examples: Sequence[Example], image_size: int, hashes: bool
) -> tuple[NDArray[np.void], dict[str, str]]:
    """FACTS (examples,), and for the files that can't be decoded the reasons; with a bar on stderr at a terminal."""
    facts = np.zeros(len(examples), FACTS)
    chunks = [range(start, min(start + CHUNK, len(examples))) for start in range(0, len(examples), CHUNK)]

    def look_at_chunk(rows: range) -> dict[str, str]:
        broken = {}
        for row in rows:
            try:
                facts[row] = look_at(root / examples[row].path, image_size, hashes)
            except BadImage as error:
                broken[examples[row].path] = str(error)
        return broken

    pool = ThreadPoolExecutor(choose_threads(root, examples))
    try:
        found = with_progress(pool.map(look_at_chunk, chunks), len(chunks))
        return facts, {path: reason for broken in found for path, reason in broken.items()}
    finally:
        pool.shutdown(cancel_futures=True)


def choose_threads(root: Path, examples: Sequence[Example]) -> int:
    """One for small files, else one a core; the size is that of 32 files."""
    sample = [root / example.path for example in examples[:: max(1, len(examples) // 32)]]
    sizes = [path.stat().st_size for path in sample if path.is_file()]
    return os.cpu_count() or 1 if sizes and np.mean(sizes) >= SMALL_FILE_BYTES else 1


def with_progress(chunks: Iterator[dict[str, str]], total: int) -> Iterator[dict[str, str]]:
    """The chunks, with a bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(chunks, "look at images", total, console=console, transient=True, disable=not console.is_terminal)


def look_at(path: Path, image_size: int, hashes: bool) -> tuple[int, int, int, str, bool, int, NDArray[np.uint8]]:
    """One image's FACTS. Raises BadImage."""
    pixels = read_image(path, image_size)  # the reasons are the search's, and what it sees is hashed
    with open_image(path) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in TURNED:
            width, height = height, width
        about = width, height, path.stat().st_size, image.mode, bool(getattr(image, "is_animated", False))
    return *about, *(fingerprint(pixels) if hashes else (0, np.zeros(FACTS["thumbnail"].shape, np.uint8)))


def fingerprint(pixels: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
    """Perceptual hash of 16 bits, and thumbnail (8 x 8 x 3,), of RGB (S, S, 3)."""
    picture = Image.fromarray(pixels)
    bits = imagehash.phash(picture, hash_size=HASH_SIDE).hash
    thumbnail = picture.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return int(np.packbits(bits).view(">u2")[0]), np.asarray(thumbnail).reshape(-1)


def split_names(
    labels: NDArray[np.int64], published: NDArray[np.int64], classes: Sequence[ClassName], seed: int
) -> tuple[NDArray[np.str_], str | None]:
    """The split of each image, and why the search couldn't make these splits."""
    try:
        rows, refused = make_splits(labels, published, classes, seed, "auto"), None  # as a search does
    except UserError as error:
        train, val, test = (np.flatnonzero(published == part) for part in (TRAIN, VAL, TEST))
        rows, refused = Splits(train, np.array([], np.int64), val, test), str(error)
    names = np.empty(len(labels), dtype="U7")
    for name, its_rows in rows._asdict().items():
        names[its_rows] = name
    return names, refused


def class_counts(images: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Images of each class (rows, by label) in each labelled split that isn't empty (columns)."""
    counts = pd.crosstab(images["label"], images["split"])
    names = [name for name in LABELLED if name in counts]
    return counts.reindex(index=range(classes), columns=names, fill_value=0)


def split_summary(images: pd.DataFrame) -> pd.DataFrame:
    """A row for each split that isn't empty, and `all`: images, classes, shorter side's min, median and max, bytes."""
    present = [name for name in SPLITS if (images["split"] == name).any()]
    parts = {name: images[images["split"] == name] for name in present} | {"all": images}
    return pd.DataFrame([{"split": name} | part_summary(part) for name, part in parts.items()]).set_index("split")


def part_summary(images: pd.DataFrame) -> dict[str, int]:
    """One row of `split_summary`."""
    side = images[["width", "height"]].min(axis=1)
    return {
        "images": len(images),
        "classes": images.loc[images["label"] >= 0, "label"].nunique(),
        "side_min": int(side.min()),
        "side_median": int(side.median()),
        "side_max": int(side.max()),
        "bytes": int(images["bytes"].sum()),
    }


def find_twins(images: pd.DataFrame, thumbnails: NDArray[np.uint8]) -> pd.DataFrame:
    """A row for each image that an earlier split has too: split, path, earlier, earlier_path (the closest of them).

    Twins have the same perceptual hash, and thumbnails that differ by TOLERANCE at most.
    """
    split = pd.Categorical(images["split"], SPLITS).codes
    found: list[tuple[int, int]] = []
    for rows in images.groupby("hash").indices.values():
        for earlier, later in combinations(np.unique(split[rows]), 2):
            found += twins_between(thumbnails, rows[split[rows] == earlier], rows[split[rows] == later])
    first, second = np.array(found, dtype=np.int64).reshape(-1, 2).T
    paths, names = images["path"].to_numpy(), images["split"].to_numpy()
    twins = {"split": names[second], "path": paths[second], "earlier": names[first], "earlier_path": paths[first]}
    return pd.DataFrame(twins).sort_values(list(twins), ignore_index=True)


def twins_between(
    thumbnails: NDArray[np.uint8], earlier: NDArray[np.int64], later: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """(row in `earlier`, row in `later`) for each of `later` that has a twin."""
    distinct = {thumbnails[row].tobytes(): row for row in earlier[::-1]}  # a tree of equal points is a list
    among = np.array(list(distinct.values()))
    wanted = thumbnails[later].astype(np.float32)
    distances, nearest = KDTree(thumbnails[among].astype(np.float32)).query(wanted)
    limits = TOLERANCE * contrast(wanted) * np.sqrt(wanted.shape[1])
    for index in np.flatnonzero(distances <= limits):
        yield int(among[nearest[index]]), int(later[index])


def contrast(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation (images,) over the pixels of each channel, RMS of the three; 0 for flat colours."""
    by_channel = thumbnails.reshape(len(thumbnails), THUMBNAIL_SIDE**2, 3)
    return np.sqrt(by_channel.var(axis=1).mean(axis=1))


def warnings_about(
    scanned: Scan, twins: pd.DataFrame | None, counts: pd.DataFrame, classes: Sequence[ClassName], image_size: int
) -> list[str]:
    """One line for each thing that somebody should know before training; names are as the files say, not escaped."""
    return [
        *broken_warning(scanned),
        *([f"the search refuses: {scanned.refused}"] if scanned.refused else []),
        *(twin_warnings(twins, scanned.images["split"]) if twins is not None else []),
        *balance_warnings(counts, classes),
        *mode_warnings(scanned.images),
        *size_warning(scanned.images, image_size),
    ]


def broken_warning(scanned: Scan) -> Iterator[str]:
    """Files that can't be decoded."""
    if scanned.broken:
        total = len(scanned.broken) + len(scanned.images)
        named = enough([f"{path} ({reason})" for path, reason in scanned.broken.items()])
        yield (
            f"broken: no image in {len(scanned.broken):,} of {total:,} files: {named}; "
            "repair or remove them, or search with --skip-bad-images"
        )


def twin_warnings(twins: pd.DataFrame, splits: pd.Series) -> Iterator[str]:
    """Pictures in two splits, the worst first: where training has seen what is to judge it."""
    for earlier, later in sorted(combinations(SPLITS, 2), key=lambda pair: (-SPLITS.index(pair[1]), pair)):
        pairs = twins[(twins["split"] == later) & (twins["earlier"] == earlier)]
        if len(pairs):
            named = enough(
                [f"{one} = {other}" for one, other in zip(pairs["earlier_path"], pairs["path"], strict=True)]
            )
            total = (splits == later).sum()
            yield f"duplicates: {later} shares {len(pairs):,} of its {total:,} images with {earlier}: {named}"


def balance_warnings(counts: pd.DataFrame, classes: Sequence[ClassName]) -> Iterator[str]:
    """Classes of very different size, and classes that a split lacks."""
    total = counts.sum(axis=1).to_numpy()
    largest, smallest = int(total.argmax()), int(total.argmin())
    if total[largest] >= IMBALANCE * max(1, total[smallest]):
        ratio = f"{total[largest] / total[smallest]:.1f} times" if total[smallest] else "infinitely many times"
        yield (
            f"imbalance: the largest class, {classes[largest].words}, has {total[largest]:,} images, {ratio} the "
            f"{total[smallest]:,} of the smallest, {classes[smallest].words}"
        )
    for split in counts:
        if lacking := [name.words for name, count in zip(classes, counts[split], strict=True) if not count]:
            yield f"absent: no image in {split} of {len(lacking):,} of {len(classes):,} classes: {enough(lacking)}"


def mode_warnings(images: pd.DataFrame) -> Iterator[str]:
    """Images of several colour modes, and of several frames."""
    modes = images["mode"].value_counts()
    if len(modes) > 1:
        named = ", ".join(f"{count:,} {MODES.get(str(mode), mode)}" for mode, count in modes.items())
        yield f"mixed modes: {named}; all become RGB, transparent parts white"
    if images["animated"].any():
        paths = list(images.loc[images["animated"], "path"])
        counted = f"{len(paths):,} of {len(images):,} images"
        yield f"animated: several frames in {counted}, of which the first is taken: {enough(paths)}"


def size_warning(images: pd.DataFrame, image_size: int) -> Iterator[str]:
    """Images that training must enlarge."""
    side = images[["width", "height"]].min(axis=1)
    if len(tiny := images[side < image_size]):
        worst = tiny.loc[side[tiny.index].nsmallest(NAMED).index]
        named = [f"{row.path} ({row.width} x {row.height})" for row in worst.itertuples()]
        counted = f"{len(tiny):,} of {len(images):,} images"
        yield f"tiny: below the {image_size} px of training in {counted}: {enough(named, len(tiny))}"


def enough(names: Sequence[str], total: int | None = None) -> str:
    """The first names, with dots where there are more."""
    return ", ".join(names[:NAMED]) + (", ..." if (total or len(names)) > NAMED else "")
