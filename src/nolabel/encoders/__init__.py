"""Encoders: thin adapters that give every network the same face, whatever it looks at."""

from pathlib import Path
from typing import Any

from torch import nn

from nolabel.core import UserError
from nolabel.encoders import audio, image, points, text, video
from nolabel.encoders.image import ConvEncoder, image_encoder
from nolabel.encoders.pyramid import TinyPyramid
from nolabel.encoders.tiny import TinyConv, tiny_tokens
from nolabel.encoders.vit import ViTEncoder
from nolabel.encoders.weights import load_weights, timm_state_dict

__all__ = [
    "ConvEncoder",
    "TinyConv",
    "TinyPyramid",
    "ViTEncoder",
    "check_modality",
    "image_encoder",
    "load_weights",
    "make",
    "timm_state_dict",
    "tiny_tokens",
]


def make(
    name: str, shape: tuple[int, ...], *, init: str | Path | None = None, vocabulary: int = 0, **options: Any
) -> nn.Module:
    """The encoder `name` for inputs of `shape`, without the batch axis, initialised at random.

    name        one of ours (`OURS` of each file here) or a network of timm, which takes images, and videos frame by frame
    shape       image (C, S, S), video (C, T, S, S), audio (1, mels, frames) or (1, samples), points (P, 3), text (L,)
    init        a file of weights to start from
    vocabulary  number of different tokens, for text
    options     go to the encoder, e.g. `pretrained` for the networks of timm

    Raises UserError for unknown names and for shapes that the encoder cannot take.
    """
    for kind in (video, audio, points, text):
        if name in kind.OURS:
            if options.pop("pretrained", False):
                raise UserError(f"there are no pretrained weights of {name}; give a file as init")
            options.pop("stem", None)
            encoder = kind.OURS[name](shape, **({"vocabulary": vocabulary} if kind is text else {}), **options)
            if init is not None:
                load_weights(encoder, init)
            return encoder
    if len(shape) == 4:
        return video.per_frame(name, shape, init=init, **options)  # type: ignore[arg-type]
    return image_encoder(name, shape[-1], shape[0], init=init, **options)


def check_modality(name: str, modality: str, shape: tuple[int, ...]) -> None:
    """Raise UserError where the encoder `name` does not look at a modality, and name those that do."""
    kinds = {"image": image.OURS, "video": video.OURS, "audio": audio.OURS, "points": points.OURS, "text": text.OURS}
    # videos go through networks of images frame by frame, and spectrograms are pictures, too
    pictures = modality in ("image", "video") or (modality == "audio" and len(shape) == 3)
    others = [kind for kind, ours in kinds.items() if name in ours] or ["image"]
    if modality in kinds and modality not in others and not (pictures and "image" in others):
        known = ", ".join(kinds[modality]) + (" or any timm name" if pictures else "")
        raise UserError(f"the encoder {name} is for {' and '.join(others)}, not for {modality}: take {known}")
