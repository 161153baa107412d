"""Image encoders by name: every network of timm, and two tiny ones for CPUs.

Shapes: B batch, C channels, S side of the image in pixels, D features.
"""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import timm
from timm.layers import PatchEmbed
from timm.models import ResNet, get_pretrained_cfg, is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.encoders.dense import Dense
from nolabel.encoders.pyramid import TinyPyramid
from nolabel.encoders.sizes import divided
from nolabel.encoders.tiny import TinyConv, tiny_hybrid, tiny_tokens
from nolabel.encoders.vit import ViTEncoder
from nolabel.encoders.weights import load_weights, timm_state_dict
from nolabel.networks.inside import quick_on_small_maps

__all__ = ["ConvEncoder", "image_encoder", "timm_state_dict"]

_DROP: dict[str, Any] = {"layer_scale": 0.1, "drop_path": 0.1}
DINOV2 = {"drop": _DROP, "swiglu": {**_DROP, "swiglu": True}, "ninth": {**_DROP, "swiglu": True, "grid": 9}}
"""`tiny_hybrid` as DINOv2 changes the encoder, step by step (Oquab et al. 2024, table 1): LayerScale and stochastic depth, at
what two blocks bear; then SwiGLU; then patches of a ninth of the side, as 14 px of 224 are where 16 were before"""

OURS: dict[str, Callable[..., nn.Module]] = {
    "tiny": TinyConv,
    "tiny_fine": partial(TinyConv, widths=(32, 64, 64), strides=(2, 1, 1)),  # its map has half the side: for trackers
    "tiny_tokens": tiny_tokens,
    "tiny_tokens_coarse": partial(tiny_tokens, grid=4),  # a quarter of the tokens: for methods that see many views
    "tiny_hybrid": tiny_hybrid,
    # as wide as ViT-Tiny, half as deep: for small images on a GPU
    "small_hybrid": partial(tiny_hybrid, width=192, depth=6),
    **{f"tiny_hybrid_{name}": partial(tiny_hybrid, **options) for name, options in DINOV2.items()},
    "tiny_pyramid": TinyPyramid,
    "dense": Dense,
}

Pool = Literal["cls", "mean"]
Stem = Literal["auto", "imagenet", "small"]


class ConvEncoder(nn.Module):
    """Any network of timm that gives one vector an image: (B, C, S, S) -> (B, D). Convolutional nets and hybrids."""

    def __init__(self, net: Any, size: int, channels: int = 3):
        super().__init__()
        self.net, self.size, self.channels = net, size, channels
        # nets such as MobileNetV3 have a layer between pooling and classifier
        self.dim: int = getattr(net, "head_hidden_size", None) or net.num_features
        self.timm_arguments: dict[str, Any] | None = None
        """with which `timm.create_model` builds `net`"""
        self.timm_note = ""
        """what was changed in it after that, as Python text"""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    @property
    def map_dims(self) -> tuple[int, ...]:
        """Channels of each of `maps`."""
        if not hasattr(self.net, "forward_intermediates"):
            raise UserError(f"{type(self.net).__name__} gives no feature maps; take a ResNet, a ViT or tiny")
        return tuple(info["num_chs"] for info in self.net.feature_info)

    def maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, D) and maps (B, map_dims[k], h, w) after the stem and each stage, fine to coarse."""
        last, found = self.net.forward_intermediates(x)
        return self.net.forward_head(last, pre_logits=True), found


def image_encoder(
    name: str,
    size: int = 224,
    channels: int = 3,
    pretrained: bool = False,
    init: str | Path | None = None,
    *,
    patch: int | None = None,
    pool: Pool = "cls",
    stem: Stem = "auto",
    **options: Any,
) -> nn.Module:
    """The encoder `name` for images (B, channels, size, size) -> (B, encoder.dim), initialised at random.

    name        tiny, tiny_fine, tiny_tokens (and _coarse), tiny_hybrid (and _drop, _swiglu, _ninth), small_hybrid, tiny_pyramid,
                dense or a network of timm; a ViT is a `ViTEncoder`, a TokenEncoder
    pretrained  load timm's weights, from its cache or the network
    init        a file of weights to start from, safetensors or torch state dict; see `load_weights`
    patch       side of a ViT's patches in px; by default its own, and size / 8 for images of up to 64 px
    pool        what a ViT gives as features: its class token or the mean of its patches, both after the last norm
    stem        small: a ResNet starts with one 3x3 convolution of stride 1 without pooling, as is the custom for
                CIFAR; auto takes it for up to 64 px unless `pretrained`. Other families keep the stem they have
    options     go to `timm.create_model`, e.g. `drop_path_rate=0.1`

    Raises UserError for unknown names, with the nearest known ones, and for what timm cannot build or load.
    """
    if name in OURS:
        if pretrained:
            raise UserError(f"there are no pretrained weights of {name}; give a file as init")
        encoder = OURS[name](size, channels, **options)
    elif timm.is_model(name):
        arguments = {"model_name": name, "num_classes": 0, "in_chans": channels, **options}
        # not every ViT of these two files of timm works on patches alone: `_vit` looks at what it got
        if is_model_in_modules(name.split(".")[0], ["vision_transformer", "deit"]):
            encoder = _vit(arguments, size, pretrained, patch, pool)
        else:
            encoder = _conv(arguments, size, pretrained, stem)
    else:
        near = difflib.get_close_matches(name, [*OURS, *timm.list_models()], n=3, cutoff=0.4)
        raise UserError(f"unknown encoder '{name}' (near it: {', '.join(near) or 'none'}; timm.list_models() has all)")
    if init is not None:
        load_weights(encoder, init)
    if isinstance(encoder, ViTEncoder):
        encoder.started = pretrained or init is not None
    return encoder


def _vit(arguments: dict[str, Any], size: int, pretrained: bool, patch: int | None, pool: Pool) -> nn.Module:
    arguments |= {"img_size": size, "dynamic_img_size": True}
    if patch is None and size <= 64:
        patch = divided(arguments["model_name"], size, 8)
    if patch is not None:
        arguments["patch_size"] = patch
    if pool == "mean":
        arguments |= {"global_pool": "avg", "fc_norm": False}
    net = _create(arguments, pretrained)
    encoder: ViTEncoder | ConvEncoder
    if type(net) is VisionTransformer and type(net.patch_embed) is PatchEmbed:
        side = net.patch_embed.patch_size[0]
        divided(arguments["model_name"], size, side)
        encoder = ViTEncoder(net, size, pool)
    else:  # convolutions in front, or a distillation token
        encoder = ConvEncoder(net, size, arguments["in_chans"])
    encoder.timm_arguments = arguments
    return encoder


def _conv(arguments: dict[str, Any], size: int, pretrained: bool, stem: Stem) -> nn.Module:
    name = arguments["model_name"]
    if getattr(get_pretrained_cfg(name), "fixed_input_size", False):
        arguments["img_size"] = size
    net = _create(arguments, pretrained)
    if stem == "small" and not isinstance(net, ResNet):
        raise UserError(f"{name} has no stem of a ResNet that could be made small; leave stem at auto")
    encoder = ConvEncoder(net, size, arguments["in_chans"])
    encoder.timm_arguments = arguments
    if isinstance(net, ResNet) and (stem == "small" or (stem == "auto" and size <= 64 and not pretrained)):
        encoder.timm_note = _small_stem(net)
    quick_on_small_maps(net)
    return encoder


def _small_stem(net: Any) -> str:
    """Make the first convolution 3x3 with stride 1 and drop the pooling, in place. Says so as Python text."""
    net.maxpool = nn.Identity()
    if isinstance(net.conv1, nn.Conv2d):
        wide_in, wide = net.conv1.in_channels, net.conv1.out_channels
        net.conv1 = nn.Conv2d(wide_in, wide, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm starts it
        change = f"net.conv1 = torch.nn.Conv2d({wide_in}, {wide}, 3, padding=1, bias=False)"
    else:  # the deep stem of ResNet-D is 3x3 already
        net.conv1[0].stride = (1, 1)
        change = "net.conv1[0].stride = (1, 1)"
    return f"{change}; net.maxpool = torch.nn.Identity()"


def _create(arguments: dict[str, Any], pretrained: bool) -> nn.Module:
    try:
        return timm.create_model(**arguments, pretrained=pretrained)
    except Exception as error:  # timm and the hub raise every kind; the user can mend name, size, options or network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "; without network give a file of weights as init" if pretrained else ""
        raise UserError(f"timm cannot build {arguments['model_name']}: {reason}{hint}") from error
