"""Encoders as files: safetensors with a JSON card beside it, timm's state dict, ONNX. Nothing is ever unpickled."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nolabel.core import UserError
from nolabel.encoders import make, timm_state_dict
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
    temporary, beside = (path.with_name(f".{path.name}{end}.tmp") for end in ("", ".json"))
    try:
        beside.write_text(json.dumps(card, indent=1))
        if path.suffix == ".safetensors":
            save_file(state, temporary, metadata={"card": json.dumps(card)})
        else:
            torch.save(state, temporary)
        shutil.copymode(beside, temporary)  # safetensors makes files that nobody else may read
        temporary.replace(path)
        beside.replace(path.with_suffix(".json"))
    except (OSError, SafetensorError, RuntimeError) as error:  # the latter are what they make of a full disk
        for file in (temporary, beside):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def encoder_files(folder: Path) -> list[Path]:
    """The encoders of a run: encoder.safetensors, or encoder-MODALITY.safetensors for each of several."""
    alone = folder / "encoder.safetensors"
    return [alone] if alone.exists() else sorted(folder.glob("encoder-*.safetensors"))


def encoder_file(folder: Path, modality: str) -> Path:
    """The file of one modality."""
    alone = folder / "encoder.safetensors"
    return alone if alone.exists() else folder / f"encoder-{modality}.safetensors"


def read_card(path: Path) -> dict[str, Any]:
    """The JSON card beside an encoder's weights."""
    try:
        card = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError) as error:
        raise _no_encoder(path, error) from error
    if not isinstance(card, dict) or not {"name", "modality"} & set(card):
        raise UserError(f"{path.with_suffix('.json')} does not describe the encoder in {path.name}")
    return card


def load_encoder(path: str | Path) -> nn.Module:
    """The encoder of a `.safetensors` file written by `save_encoder`, in evaluation mode.

    Raises UserError where the card names no encoder: then the weights are of a network that the method itself builds.
    """
    path = Path(path)
    card = read_card(path)
    if "name" not in card:
        raise UserError(f"{path} is a network of the method {card.get('method')}: load its run instead")
    try:
        shape = tuple(card["shape"]) if "shape" in card else (card["channels"], card["size"], card["size"])
        encoder = make(card["name"], shape, **{k: card[k] for k in ("patch", "stem", "vocabulary") if k in card})
        if "wrapped" in card:
            encoder = wrap(encoder, **card["wrapped"])
        if "pool" in card:  # a method may have chosen it
            encoder.pool = card["pool"]
        load_into(encoder, path)
    except (TypeError, ValueError, AttributeError, RuntimeError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path.with_suffix('.json')} does not describe the encoder in {path.name}: {first}") from error
    return encoder.eval()


def load_into(encoder: nn.Module, path: Path) -> None:
    """Read the weights of a `.safetensors` file written by `save_encoder` into a network of the same kind."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _no_encoder(path, error) from error
    net: Any = encoder.net if "timm" in read_card(path) else encoder
    net.load_state_dict(state)


def _no_encoder(path: Path, error: Exception) -> UserError:
    hint = f"finish the run with 'nolabel resume {path.parent}'"
    return UserError(f"{path} holds no encoder ({str(error).splitlines()[0]}); {hint}")


def to_onnx(encoder: nn.Module, path: Path, modality: str, shape: tuple[int, ...]) -> None:
    """Write an ONNX graph: what the plain view makes of a modality (B, *shape) -> `feature` (B, D), any batch size."""
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise UserError("ONNX export needs two more packages: pip install 'nolabel[onnx]'") from error
    encoder = encoder.eval().cpu()._apply(torch.Tensor.contiguous)
    example = torch.zeros(2, *shape, dtype=torch.int64 if modality == "text" else torch.float32)
    program = torch.onnx.export(
        encoder, (example,), dynamo=True, verbose=False, input_names=[modality], output_names=["feature"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        program.save(str(temporary))  # type: ignore[union-attr]
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return UserError(f"cannot write {path}: {reason}; free some space or choose another place")
