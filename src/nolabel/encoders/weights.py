"""Weights of encoders: read from a file, and handed on to timm."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from nolabel.core import UserError

PREFIXES = ("encoder.", "backbone.", "module.", "model.", "net.", "encoder_q.", "base_encoder.")
"""what frameworks put before the names of an encoder's weights, in any nesting"""
CONTAINERS = ("state_dict", "model", "encoder", "teacher")
"""where training scripts keep the weights in a checkpoint"""


def timm_state_dict(encoder: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Weights under timm's names, and the arguments of `timm.create_model` for a net that loads them strictly.

    A ResNet with the small stem needs one line between the two calls, because timm has no argument for it; that line
    is `encoder.timm_note`, empty elsewhere. None for encoders that timm does not have.
    """
    arguments = getattr(encoder, "timm_arguments", None)
    if arguments is None:
        return None
    net: Any = encoder.net
    if getattr(encoder, "pool", "cls") == "mean":  # chosen after it was built, by a method
        arguments = {**arguments, "global_pool": "avg", "fc_norm": False}
    return {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}, dict(arguments)


def load_weights(encoder: nn.Module, path: str | Path) -> None:
    """Read a safetensors or torch state-dict file into an encoder in place. Never unpickles code.

    Names may carry the prefixes of other frameworks; positions of a ViT are interpolated to its grid. Weights that
    the file lacks or has in another shape keep their values, with a warning; UserError where fewer than half fit.
    """
    net: Any = getattr(encoder, "net", encoder)
    state = _strip(_read(Path(path)))
    if isinstance(net, VisionTransformer):
        state = checkpoint_filter_fn(state, net)
    own = net.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and tensor.shape == own[name].shape}
    missing, unexpected = [k for k in own if k not in fitting], [k for k in state if k not in fitting]
    fit = f"{len(fitting)} of {len(own)} weights fit; missing {_some(missing)}; unknown {_some(unexpected)}"
    if 2 * len(fitting) < len(own):
        raise UserError(f"{path}: these are not the weights of this encoder: {fit}")
    if missing:
        warnings.warn(f"{path}: {fit}", stacklevel=2)
    net.load_state_dict(fitting, strict=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a .safetensors file or a torch state dict") from None
    except pickle.UnpicklingError:
        raise UserError(f"{path}: holds other things than tensors; save only the state dict") from None
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    while isinstance(state, dict) and (inner := next((c for c in CONTAINERS if isinstance(state.get(c), dict)), None)):
        state = state[inner]
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}, not a state dict")
    return state


def _strip(state: dict[str, Any]) -> dict[str, Tensor]:
    stripped: dict[str, Tensor] = {}
    for name, tensor in state.items():
        while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
            name = name.removeprefix(prefix)
        if isinstance(tensor, Tensor):
            stripped.setdefault(name, tensor)
    return stripped


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "none"
