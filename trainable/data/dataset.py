"""A data set as trials see it: decoded images and the four splits."""

from dataclasses import dataclass
from pathlib import Path

from trainable.data.cache import CachedImages, open_layout_cache
from trainable.data.layouts import ClassName, natural_image_size, read_layout
from trainable.data.splits import Splits, make_splits


@dataclass(frozen=True, eq=False)
class Dataset:
    """Decoded images, and which rows of them belong to which split."""

    cache: CachedImages
    splits: Splits

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """In the order of the labels."""
        return self.cache.classes

    @property
    def num_classes(self) -> int:
        """At least 2."""
        return len(self.cache.classes)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.cache.images.shape[1])


def open_dataset(
    root: Path,
    image_size: int | None = None,
    seed: int = 0,
    cache_dir: Path | None = None,
    skip_bad_images: bool = False,
    progress: bool = True,
) -> Dataset:
    """Lists, decodes (once per machine) and splits the data set in `root`.

    `image_size` None takes the size of the images, see `natural_image_size`; `seed` fixes the splits.
    Raises UserError, as `open_cache` and `make_splits` do.
    """
    layout = read_layout(root)
    size = natural_image_size(layout) if image_size is None else image_size
    cache = open_layout_cache(layout, size, cache_dir, skip_bad_images, progress)
    return Dataset(cache, make_splits(cache.labels, cache.published, cache.classes, seed))
