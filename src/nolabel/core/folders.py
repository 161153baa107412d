"""Whether a folder holds a run. Does without torch, so that a slip need not wait for torch."""

from pathlib import Path

from nolabel.core.errors import UserError, nearest


def run_folder(folder: str | Path) -> Path:
    """The folder of a run. Raises `UserError` where there is none, with the nearest name."""
    if not isinstance(folder, str | Path):
        raise UserError(f"{folder!r:.60} is no folder of a run; name one, e.g. 'runs/simclr-toyworld'")
    folder = Path(folder)
    if not (folder / "run.json").exists():
        runs = [p.parent.name for p in folder.parent.glob("*/run.json")]
        raise UserError(f"{folder} holds no run (no run.json){nearest(folder.name, runs)}")
    return folder
