"""Published weights worth fine-tuning, and what an image costs: by timm's results files (August 2026), and by the
arithmetic of a vision transformer where these have none at 224 px."""

from typing import NamedTuple


class Model(NamedTuple):
    """An architecture with one set of weights."""

    weights: str
    """timm's name with the tag that names the data, which is its repository's name on timm's hub."""
    gmacs: float
    """10^9 multiplications of one image at 224 px."""


CARD = {
    "resnet18": Model("resnet18.a1_in1k", 1.82),
    "resnet34": Model("resnet34.a1_in1k", 3.67),
    "resnet50": Model("resnet50.a1_in1k", 4.11),
    "resnet101": Model("resnet101.a1h_in1k", 7.83),
    "resnet152": Model("resnet152.a1h_in1k", 11.56),
    "vit_small": Model("vit_small_patch16_224.augreg_in21k_ft_in1k", 4.61),
    "deit_small": Model("deit_small_distilled_patch16_224.fb_in1k", 4.63),
    "swin_tiny": Model("swin_tiny_patch4_window7_224.ms_in1k", 4.51),
}
"""Our own eight, by our names."""
OTHERS = {
    model.weights: model
    for model in (
        Model("mobilenetv4_conv_small.e2400_r224_in1k", 0.19),
        Model("tf_efficientnet_lite0.in1k", 0.40),
        Model("tf_efficientnet_lite1.in1k", 0.54),
        Model("mobilenetv4_conv_medium.e500_r224_in1k", 0.84),
        Model("tiny_vit_5m_224.dist_in22k_ft_in1k", 1.27),
        Model("tiny_vit_11m_224.dist_in22k_ft_in1k", 2.03),
        Model("convnext_nano.in12k_ft_in1k", 2.46),
        Model("convnextv2_nano.fcmae_ft_in22k_in1k", 2.46),
        Model("caformer_s18.sail_in22k_ft_in1k", 4.13),
        Model("tiny_vit_21m_224.dist_in22k_ft_in1k", 4.27),
        Model("eva02_small_patch14_336.mim_in22k_ft_in1k", 6.13),
        Model("vit_small_patch16_dinov3.lvd1689m", 4.6),
        Model("vit_small_patch14_dinov2.lvd142m", 6.1),
        Model("convnextv2_base.fcmae_ft_in22k_in1k", 15.38),
        Model("vit_base_patch16_dinov3.lvd1689m", 17.6),
        Model("vit_base_patch14_dinov2.lvd142m", 23.1),
        Model("vit_base_patch16_siglip_224.v2_webli", 17.6),
    )
}
MODELS = CARD | OTHERS
"""By the value of `arch`."""
ON_A_CPU_GMACS = 2.0
"""More than that is for a GPU: an epoch of a thousand photos takes minutes on a laptop."""


def on_a_cpu(arch: str) -> bool:
    """Whether fine-tuning it is something for a CPU."""
    return arch in MODELS and MODELS[arch].gmacs <= ON_A_CPU_GMACS
