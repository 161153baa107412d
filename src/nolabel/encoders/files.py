"""Encoders as files: safetensors with a JSON card beside it, timm's state dict, ONNX. Nothing is ever unpickled."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nolabel.core import UserError
from nolabel.encoders.image import image_encoder, timm_state_dict
from nolabel.encoders.wrapped import wrap


def save_encoder(encoder: nn.Module, path: Path, card: dict[str, Any]) -> None:
    """Write the weights (`.safetensors`, or a state dict `.pt`) and beside them `NAME.json`, the card.

    Weights of timm networks carry timm's names, and the card says the calls that load them without nolabel:
    `timm.create_model(**arguments)`, then the line `then` where there is one, then `load_state_dict`.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    if (wrapped := getattr(encoder, "wrapped", None)) is not None:
        card = {**card, "wrapped": wrapped}
    if hasattr(encoder, "pool"):
        card = {**card, "pool": encoder.pool}
    if (theirs := timm_state_dict(encoder)) is not None:
        state = {k: v.cpu() for k, v in theirs[0].items()}
        card = {**card, "timm": {"arguments": theirs[1], "then": getattr(encoder, "timm_note", "")}}
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix == ".safetensors":
            save_file(state, temporary, metadata={"card": json.dumps(card)})
        else:
            torch.save(state, temporary)
    except (SafetensorError, RuntimeError) as error:  # what they make of a full disk
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {str(error).splitlines()[0]}; free some space") from error
    temporary.replace(path)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1))


def load_encoder(path: Path) -> nn.Module:
    """The encoder of a `.safetensors` file written by `save_encoder`, in evaluation mode."""
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        state = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        hint = f"finish the run with 'nolabel resume {path.parent}'"
        raise UserError(f"{path} holds no encoder ({str(error).splitlines()[0]}); {hint}") from error
    try:
        encoder = image_encoder(**{k: card[k] for k in ("name", "size", "channels", "patch", "stem") if k in card})
        if "wrapped" in card:
            encoder = wrap(encoder, **card["wrapped"])
        net: Any = encoder.net if "timm" in card else encoder
        if "pool" in card:  # a method may have chosen it
            encoder.pool = card["pool"]
        net.load_state_dict(state)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path.with_suffix('.json')} does not describe the encoder in {path.name}: {first}") from error
    return encoder.eval()


def to_onnx(encoder: nn.Module, path: Path) -> None:
    """Write an ONNX graph: `image` (B, C, S, S) normalised -> `feature` (B, D), any batch size."""
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise UserError("ONNX export needs two more packages: pip install 'nolabel[onnx]'") from error
    encoder = encoder.eval().cpu().to(memory_format=torch.contiguous_format)
    net: Any = encoder
    example = torch.zeros(2, net.channels, net.size, net.size)
    program = torch.onnx.export(
        encoder, (example,), dynamo=True, verbose=False, input_names=["image"], output_names=["feature"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    temporary = path.with_name(f".{path.name}.tmp")
    program.save(str(temporary))  # type: ignore[union-attr]
    temporary.replace(path)
