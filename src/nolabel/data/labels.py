"""Which labels training may use: all that the data has, a few of them, or those of a file.

The labels of the data stay in the column "label", for evaluation; what training may see is the column "given".
"""

import csv
import re
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.errors import nearest
from nolabel.core.random import fold, generator
from nolabel.data.columns import ArrayColumn
from nolabel.data.pieces import recording_of
from nolabel.data.split import Data, Split, printable

_FEW = 0xFE3
"""purpose of the seed"""


def given(split: Split) -> Tensor | None:
    """The labels that training may use (N,) int64, -1 for none; None where there are none at all."""
    column = split.columns.get("given", split.columns.get("label"))
    return None if column is None else column.take(torch.arange(len(split))).long()


def give(data: Data, wanted: str | None, seed: int = 0) -> None:
    """Say which labels training may use, in the column "given" of the training split.

    wanted: a number of labels in all, shared out equally among the classes and chosen by `seed`; or a CSV file with one
        `file,label` a line, of which those for testing are not used; or None for every label that the data has.

    Raises UserError where there are not as many labels, or the file does not fit the data.
    """
    split = data.splits["train"]
    if wanted is None:
        truth = split.columns["label"].take(torch.arange(len(split))).long() if "label" in split.columns else None
        if truth is None or not bool((truth >= 0).any()):
            raise UserError(f"{data.name} has no labels to learn from; give a file of them: --labels FILE.csv")
        split.columns["given"] = ArrayColumn(truth)
        _note(data, f"training sees all {int((truth >= 0).sum()):,} labels; --labels 40 would leave it 40")
    elif re.fullmatch("[0-9]{1,18}", wanted):
        if "label" not in split.columns:
            raise UserError(
                f"{data.name} has no labels to choose {wanted} from; give a file of them: --labels FILE.csv"
            )
        truth = split.columns["label"].take(torch.arange(len(split))).long()
        chosen = torch.full_like(truth, -1)
        rows = few(truth, int(wanted), seed)
        chosen[rows] = truth[rows]
        split.columns["given"] = ArrayColumn(chosen)
        _note(data, f"training sees {wanted} of {int((truth >= 0).sum()):,} labels, chosen by seed {seed}")
    else:
        split.columns["given"] = ArrayColumn(_from_file(Path(wanted), data))


def _note(data: Data, line: str) -> None:
    if line not in data.notes:
        data.notes.append(line)


def few(label_N: Tensor, total: int, seed: int) -> Tensor:
    """Rows (M,) ascending of `total` labelled samples, equally many of each class; what is left over goes to classes
    by chance. A smaller choice lies in a larger one of the same seed, up to what is left over.

    Raises UserError where there are fewer labels, or fewer wanted than classes.
    """
    classes, sizes = label_N[label_N >= 0].unique(return_counts=True)
    if not len(classes) <= total <= int(sizes.sum()):
        raise UserError(
            f"--labels {total}: choose at least one for each of {len(classes)} classes, at most all {int(sizes.sum())}"
        )
    count = torch.zeros_like(sizes)
    lucky = torch.randperm(len(classes), generator=generator(fold(seed, _FEW)))
    while (left := total - int(count.sum())) > 0:  # small classes give all they have, the others share the rest
        open_ = lucky[(count < sizes)[lucky]]
        if left < len(open_):
            count[open_[:left]] += 1
        else:
            count[open_] = torch.minimum(sizes[open_], count[open_] + left // len(open_))
    rows = []
    for c, n in zip(classes.tolist(), count.tolist()):
        own = (label_N == c).nonzero()[:, 0]
        rows.append(own[torch.randperm(len(own), generator=generator(fold(seed, _FEW, c)))[:n]])
    return torch.cat(rows).sort().values


def _from_file(path: Path, data: Data) -> Tensor:
    """Labels (N,) of a CSV file. Names are those of the data, or their last part where that is unique; that of a long
    recording is for all of its pieces, with "at 5 s" for one of them.

    Labels of files that are for testing or could not be read are not used.
    """
    split, said = data.splits["train"], f"--labels {printable(str(path))[:200]}"
    if split.names is None:
        raise UserError(f"{data.name} has no file names that {path} could speak of; give a number: --labels 40")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(map(str.strip, line))]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{said}: cannot be read as a CSV file of file,label ({error})") from error
    if lines and [cell.lower() for cell in lines[0]] == ["file", "label"]:
        lines = lines[1:]
    if not lines or any(len(line) != 2 for line in lines):
        raise UserError(f"{said}: every line must be file,label")
    rows_of = _rows_by_name(data)
    classes = split.classes or next((s.classes for s in data.splits.values() if s.classes), ())
    classes = classes or tuple(sorted({label for _, label in lines}))
    labels = torch.full((len(split),), -1)
    unused = 0
    for name, label in lines:
        short, word = printable(name)[:100], printable(label)[:100]
        if name not in rows_of:
            raise UserError(f"{said}: {data.name} has no file '{short}'{nearest(short, rows_of)}")
        if label not in classes:
            raise UserError(f"{said}: '{short}' is of no known class '{word}'{nearest(word, classes)}")
        rows = rows_of[name]
        if not rows:
            unused += 1
            continue
        if any(labels[row] not in (-1, classes.index(label)) for row in rows):
            raise UserError(f"{said}: '{short}' has two labels")
        labels[rows] = classes.index(label)
    if unused:
        _note(data, f"{unused:,} labels of {path.name} are not used: their files are for testing, or cannot be read")
    split.classes = classes
    return labels


def _rows_by_name(data: Data) -> dict[str, list[int]]:
    """The training rows of every file, none of those that are for testing or were skipped, by name and short name."""
    rows_of: dict[str, list[int]] = {}
    for name, split in reversed(data.splits.items()):  # training last: it wins where two files are called alike
        rows_of |= {skipped: [] for skipped, _ in split.skipped}
        found: dict[str, list[int]] = {}
        for row in range(len(split)):
            for called in {split.name_of(row), recording_of(split.name_of(row))}:
                found.setdefault(called, []).extend([row] if name == "train" else [])
        rows_of |= found
    counts = Counter(name.rpartition("/")[2] for name in rows_of)
    short = {last: rows for name, rows in rows_of.items() if counts[last := name.rpartition("/")[2]] == 1}
    return {**short, **rows_of}
