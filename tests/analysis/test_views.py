"""Views of an image: what they show, and that a member's logits are the mean over all of them."""

import torch
from torch import nn

from analysis.views import COUNTS, CROPS, MIRRORED, VIEWS, WHOLE, mean_logits


def test_a_mirrored_view_exchanges_left_and_right_and_nothing_else() -> None:
    images = torch.rand(2, 3, 4, 4)
    (view,) = VIEWS[MIRRORED](images)
    assert torch.equal(view, torch.flip(images, dims=[-1]))


def test_crops_are_the_centre_and_the_corners_at_the_images_own_size() -> None:
    images = torch.zeros(1, 3, 16, 16)
    images[:, :, 0, 0] = 1
    views = VIEWS[CROPS](images)
    assert [view.shape for view in views] == [images.shape] * 5
    assert [float(view[0, 0, 0, 0]) for view in views] == [0, 1, 0, 0, 0]


def test_each_view_makes_as_many_images_as_it_says() -> None:
    for name, make in VIEWS.items():
        assert len(make(torch.zeros(1, 3, 8, 8))) == COUNTS[name]


def test_logits_are_the_mean_over_every_image_of_every_view() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    images = torch.rand(4, 3, 8, 8)
    alone = [model(image) for name in (WHOLE, MIRRORED, CROPS) for image in VIEWS[name](images)]
    assert len(alone) == 7
    torch.testing.assert_close(mean_logits(model, images, (WHOLE, MIRRORED, CROPS)), torch.stack(alone).mean(dim=0))
