"""The policies of `augmentation` on a whole batch as tensors, on its device; each image has its own draws.

All of an epoch's random numbers are drawn at once on the CPU, so that they are the same on every device and nothing in
the loop waits for one. An image is interpolated once at most: flip, crop and affine map are one sampling grid, as in
spatial transformers (Jaderberg et al. 2015). Brightness, contrast, saturation and hue are one matrix on its channels;
the hue turns about the grey axis of YIQ, which is linear, where albumentations goes through HSV.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from trainable.config import Policy
from trainable.data.augmentation import (
    AFFINE_P,
    ASPECTS,
    BLUR_P,
    BLUR_SIGMAS,
    COLOUR_P,
    HOLE_P,
    HUE,
    JITTER,
    LARGEST_HOLE,
    PADDING_SHARE,
    ROTATION,
    SHEAR,
    SHIFT,
    SMALLEST_CROP,
    SMALLEST_HOLE,
)

CROP_TRIES = 10
"""As in albumentations: a crop that doesn't fit is drawn again, and in the end the whole image is taken."""
GREY = 0.299, 0.587, 0.114
"""Each channel's part in the grey value (ITU-R BT.601)."""
TO_YIQ = np.array([GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
Array = NDArray[np.float64]


class Draws(NamedTuple):
    """What is done to each of N images; a part is None where nothing of the kind is done to any."""

    crop: torch.Tensor | None = None
    """(N, 4): centre x and y of the part that is shown, half its width (below 0: mirrored), half its height. The whole
    image is from -1 to 1."""
    warp: torch.Tensor | None = None
    """(N, 2, 3): from a place in the output, -1 to 1, to the one in that part; beyond its edge it is reflected."""
    colour: torch.Tensor | None = None
    """(N, 3, 3), on the channels."""
    to_mean: torch.Tensor | None = None
    """(N,): how much of the image's mean grey value is added, which is contrast."""
    hole: torch.Tensor | None = None
    """(N, 4): left, top, right and bottom of the rectangle that is black, as shares of the side."""
    blur: torch.Tensor | None = None
    """(N,): weight of either neighbour in a row or column of three; 0 for an image that stays sharp."""

    def part(self, start: int, stop: int) -> "Draws":
        """Those of the images from `start` to `stop`, without a copy."""
        return Draws(*(None if each is None else each[start:stop] for each in self))

    def on(self, device: torch.device) -> "Draws":
        """The same on a device."""
        return Draws(*(None if each is None else each.to(device) for each in self))


def draw(policy: Policy, strength: float, flip: bool, image_size: int, count: int, rng: np.random.Generator) -> Draws:
    """What happens to `count` images of `image_size` pixels at `strength` in 0..1."""
    if not 0 <= strength <= 1:
        raise ValueError(f"augmentation strength {strength} is outside 0..1")
    if policy == "none" or strength == 0:
        return Draws()
    crop = np.tile([0.0, 0.0, 1.0, 1.0], (count, 1))
    if policy == "full":
        cropped = rng.random(count) < strength
        crop[cropped] = draw_crops(strength, image_size, int(cropped.sum()), rng)
    crop[:, 2] *= np.where(rng.random(count) < 0.5 * strength * flip, -1, 1)
    if policy == "light":
        return _tensors(crop=crop, warp=draw_shifts(strength, image_size, count, rng))
    colour, to_mean = draw_colours(strength, count, rng)
    return _tensors(
        crop=crop,
        warp=draw_warps(strength, image_size, count, rng),
        colour=colour,
        to_mean=to_mean,
        hole=draw_holes(strength, image_size, count, rng),
        blur=draw_blurs(strength, count, rng),
    )


def _tensors(**parts: Array) -> Draws:
    return Draws(**{name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()})


def draw_crops(strength: float, image_size: int, count: int, rng: np.random.Generator) -> Array:
    """(count, 4) as in `Draws.crop`: parts of random area and aspect ratio, in whole pixels."""
    shape = (count, CROP_TRIES)
    area = image_size**2 * rng.uniform(1 - (1 - SMALLEST_CROP) * strength, 1, shape)
    aspect = np.exp(rng.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1]), shape))
    sides = np.round(np.sqrt(np.stack([area * aspect, area / aspect], -1)))
    fits: NDArray[np.bool_] = np.all(sides <= image_size, axis=-1)
    first = sides[np.arange(count), fits.argmax(1)]
    size = np.where(np.any(fits, axis=1, keepdims=True), first, image_size)
    corner = np.floor(rng.random((count, 2)) * (image_size - size + 1))
    return np.concatenate([(2 * corner + size) / image_size - 1, size / image_size], axis=1)


def draw_shifts(strength: float, image_size: int, count: int, rng: np.random.Generator) -> Array:
    """(count, 2, 3) as in `Draws.warp`: moves by whole pixels, the light policy's crop of a padded image."""
    reach = max(1, round(PADDING_SHARE * image_size * strength))
    warp = np.tile(np.eye(2, 3), (count, 1, 1))
    warp[:, :, 2] = 2 / image_size * rng.integers(-reach, reach, (count, 2), endpoint=True)
    return warp


def draw_warps(strength: float, image_size: int, count: int, rng: np.random.Generator) -> Array:
    """(count, 2, 3) as in `Draws.warp`: rotated, sheared and moved, the inverse of what albumentations' Affine does."""
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, count) * strength)
    shear = np.tan(np.deg2rad(rng.uniform(-SHEAR, SHEAR, (2, count)) * strength))
    move = 2 / image_size * np.trunc(image_size * rng.uniform(-SHIFT, SHIFT, (count, 2)) * strength)
    one, cos, sin = np.ones(count), np.cos(angle), np.sin(angle)
    rotated, sheared = np.array([[cos, sin], [-sin, cos]]), np.array([[one, shear[0]], [shear[1], one]])
    back = np.linalg.inv(np.einsum("ijn,jkn->nik", sheared, rotated))
    warp = np.concatenate([back, -(back @ move[:, :, None])], axis=2)
    warp[rng.random(count) >= AFFINE_P * strength] = np.eye(2, 3)
    return warp


def draw_colours(strength: float, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """(count, 3, 3) and (count,) as in `Draws.colour` and `to_mean`; in which order the four come makes no difference
    where they are linear."""
    brightness, contrast, saturation = rng.uniform(1 - JITTER * strength, 1 + JITTER * strength, (3, count, 1, 1))
    angle = 2 * math.pi * rng.uniform(-HUE, HUE, count) * strength
    zero, one, cos, sin = np.zeros(count), np.ones(count), np.cos(angle), np.sin(angle)
    turned = np.array([[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]).transpose(2, 0, 1)
    hue = np.linalg.inv(TO_YIQ) @ turned @ TO_YIQ
    saturated = saturation * np.eye(3) + (1 - saturation) * np.tile(GREY, (3, 1))
    colour, to_mean = brightness * contrast * (hue @ saturated), (brightness * (1 - contrast))[:, 0, 0]
    as_it_is = rng.random(count) >= COLOUR_P * strength
    colour[as_it_is], to_mean[as_it_is] = np.eye(3), 0
    return colour, to_mean


def draw_holes(strength: float, image_size: int, count: int, rng: np.random.Generator) -> Array:
    """(count, 4) as in `Draws.hole`; an empty rectangle where there is none."""
    largest = SMALLEST_HOLE + (LARGEST_HOLE - SMALLEST_HOLE) * strength
    size = np.floor(image_size * rng.uniform(SMALLEST_HOLE, largest, (count, 2)))
    size[rng.random(count) >= HOLE_P * strength] = 0
    corner = np.floor(rng.random((count, 2)) * (image_size - size + 1))
    return np.concatenate([corner, corner + size], axis=1) / image_size


def draw_blurs(strength: float, count: int, rng: np.random.Generator) -> Array:
    """(count,) as in `Draws.blur`, from a Gaussian."""
    neighbour = np.exp(-0.5 / rng.uniform(*BLUR_SIGMAS, count) ** 2)
    return np.where(rng.random(count) < BLUR_P * strength, neighbour / (1 + 2 * neighbour), 0)


def apply_draws(
    draws: Draws, images: torch.Tensor, image_size: int, offset: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Augment and normalise uint8 images (batch, H, W, 3).

    Args:
        draws: Of these images, on their device.
        images: On any device.
        image_size: Side of the result; images of another size are resampled.
        offset: (3,), subtracted from each channel.
        scale: (3,), multiplied with it then.

    Returns:
        floats (batch, 3, image_size, image_size), channels-last in memory.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    if draws.crop is not None or image_size != images.shape[1]:
        pixels = functional.grid_sample(
            pixels,
            sampling_grid(draws, len(images), image_size, images.device),
            padding_mode="border",
            align_corners=False,
        )
    pixels = coloured(draws, pixels, offset, scale)
    black = (-offset * scale)[:, None, None]
    if draws.hole is not None:
        pixels = torch.where(in_hole(draws.hole, image_size), black, pixels)
    if draws.blur is not None:
        # a GPU would have to be waited for, to know which
        some = draws.blur.nonzero()[:, 0] if pixels.device.type == "cpu" else slice(None)
        pixels[some] = blurred(draws.blur[some], pixels[some])
    return pixels.contiguous(memory_format=torch.channels_last)


def sampling_grid(draws: Draws, count: int, image_size: int, device: torch.device) -> torch.Tensor:
    """(count, image_size, image_size, 2): where each pixel of the result lies in the image, x and y in -1..1."""
    line = (torch.arange(image_size, device=device) * 2 + 1) / image_size - 1
    if draws.warp is None:
        places = torch.stack([line.expand(count, image_size, -1), line[:, None].expand(count, -1, image_size)])
    else:
        rows = draws.warp.transpose(0, 1)[..., None, None]  # 2, count, 3, 1, 1
        places = rows[:, :, 0] * line + (rows[:, :, 1] * line[:, None] + rows[:, :, 2])
        edge = 1 - 1 / image_size  # the outermost pixels' centres, as in OpenCV's BORDER_REFLECT_101
        side = places.sign()
        places = places.abs_().sub_(edge).abs_().neg_().add_(edge).mul_(side)
    if draws.crop is not None:
        centre, half = draws.crop.T[:, :, None, None].split(2)
        places = places.mul_(half).add_(centre)
    return places.permute(1, 2, 3, 0)


def coloured(draws: Draws, pixels: torch.Tensor, offset: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Bytes as floats (batch, 3, H, W) with their colours changed, clipped to bytes' range, and normalised."""
    lowest, highest = -offset * scale, (255 - offset) * scale
    if draws.colour is None or draws.to_mean is None:
        return pixels.sub(offset[:, None, None]).mul_(scale[:, None, None])
    flat = pixels.flatten(2)
    red, green, blue = flat.mean(2).unbind(1)
    grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    shift = (draws.to_mean * grey)[:, None] * scale + lowest
    mixed = torch.baddbmm(shift[:, :, None], draws.colour * scale[:, None], flat)
    return mixed.clamp_(lowest[:, None], highest[:, None]).view(pixels.shape)


def in_hole(hole: torch.Tensor, image_size: int) -> torch.Tensor:
    """Boolean (batch, 1, image_size, image_size): which pixels have their centre in the image's hole."""
    centres = (torch.arange(image_size, device=hole.device) + 0.5) / image_size
    left, top, right, bottom = hole.T[:, :, None]
    across, down = (left <= centres) & (centres < right), (top <= centres) & (centres < bottom)
    return (across[:, None, :] & down[:, :, None])[:, None]


def blurred(blur: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Each image (batch, 3, H, W) convolved by its own row and column of three, reflected at the edges."""
    side = blur[:, None, None, None]
    for axes in ((1, 1, 0, 0), (0, 0, 1, 1)):
        padded = functional.pad(pixels, axes, mode="reflect")
        dim = 3 if axes[0] else 2
        size = pixels.shape[dim]
        neighbours = padded.narrow(dim, 0, size) + padded.narrow(dim, 2, size)
        pixels = torch.lerp(pixels, neighbours / 2, 2 * side)
    return pixels
