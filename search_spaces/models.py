"""Published weights worth fine-tuning: what they cost, and what they reach on ImageNet.

Figures of timm's results files (August 2026); of models that have no ImageNet classifier, the accuracy is of a similar
one with it. Licences are those that the weights' pages state.
"""

from typing import NamedTuple


class Model(NamedTuple):
    """An architecture with one set of weights."""

    weights: str
    """timm's name with the tag that names the data, which is its repository's name on timm's hub."""
    top1: float
    """On ImageNet-1k, 0 to 100."""
    gmacs: float
    """10^9 multiplications of one image at 224 px."""
    mparams: float
    """Parameters, in 10^6; four bytes each in the file."""


CARD = {
    "resnet18": Model("resnet18.a1_in1k", 71.5, 1.82, 11.7),
    "resnet34": Model("resnet34.a1_in1k", 76.4, 3.67, 21.8),
    "resnet50": Model("resnet50.a1_in1k", 80.4, 4.11, 25.6),
    "resnet101": Model("resnet101.a1h_in1k", 82.0, 7.83, 44.6),
    "resnet152": Model("resnet152.a1h_in1k", 82.8, 11.56, 60.2),
    "vit_small": Model("vit_small_patch16_224.augreg_in21k_ft_in1k", 81.4, 4.61, 22.1),
    "deit_small": Model("deit_small_distilled_patch16_224.fb_in1k", 81.2, 4.63, 22.4),
    "swin_tiny": Model("swin_tiny_patch4_window7_224.ms_in1k", 81.4, 4.51, 28.3),
}
"""Our own eight, by our names."""
OTHERS = {
    model.weights: model
    for model in (
        Model("mobilenetv4_conv_small.e2400_r224_in1k", 73.8, 0.19, 3.8),
        Model("tf_efficientnet_lite0.in1k", 74.8, 0.40, 4.7),
        Model("tf_efficientnet_lite1.in1k", 76.7, 0.54, 5.4),
        Model("mobilenetv4_conv_medium.e500_r224_in1k", 79.1, 0.84, 9.7),
        Model("tiny_vit_5m_224.dist_in22k_ft_in1k", 80.9, 1.27, 5.4),
        Model("tiny_vit_11m_224.dist_in22k_ft_in1k", 83.2, 2.03, 11.0),
        Model("convnext_nano.in12k_ft_in1k", 82.3, 2.46, 15.6),
        Model("convnextv2_nano.fcmae_ft_in22k_in1k", 82.0, 2.46, 15.6),
        Model("caformer_s18.sail_in22k_ft_in1k", 84.1, 4.13, 26.3),
        Model("tiny_vit_21m_224.dist_in22k_ft_in1k", 85.1, 4.27, 21.2),
        Model("eva02_small_patch14_336.mim_in22k_ft_in1k", 84.5, 6.13, 22.0),
        Model("vit_small_patch16_dinov3.lvd1689m", 81.5, 4.6, 21.6),
        Model("vit_small_patch14_dinov2.lvd142m", 81.1, 6.1, 21.6),
        Model("convnextv2_base.fcmae_ft_in22k_in1k", 86.8, 15.38, 88.7),
        Model("vit_base_patch16_dinov3.lvd1689m", 85.0, 17.6, 85.6),
        Model("vit_base_patch14_dinov2.lvd142m", 84.5, 23.1, 85.7),
        Model("vit_base_patch16_siglip_224.v2_webli", 85.0, 17.6, 92.9),
    )
}
MODELS = CARD | OTHERS
"""By the value of `arch`."""
ON_A_CPU_GMACS = 2.0
"""More than that is for a GPU: an epoch of a thousand photos takes minutes on a laptop."""


def on_a_cpu(arch: str) -> bool:
    """Whether fine-tuning it is something for a CPU."""
    return arch in MODELS and MODELS[arch].gmacs <= ON_A_CPU_GMACS
