"""How does accuracy fall with the labels? Semi-supervised methods beside labels alone, over their number (FixMatch)."""

from dataclasses import replace

from nolabel import methods as files
from nolabel.core import UserError
from nolabel.studies._findings import Table, inequality
from nolabel.studies._pictures import lines
from nolabel.studies._variants import DEFAULT, Told, Variant, study

ALONE = "supervised"
ABOUT = (
    "What the classifier of each method reaches over the number of labels, of all classes alike (the numbers are those of "
    "FixMatch: Sohn et al. 2020, table 2). `supervised` sees the labelled samples alone, the others all the rest without labels, "
    "too: without this control no gain can be credited to them (Oliver et al. 2018)."
)


def few_labels(
    labels: tuple[int, ...] = (40, 250, 1000, 4000), methods: tuple[str, ...] = (ALONE, "fixmatch"), how: Told = DEFAULT
) -> None:
    """Train semi-supervised methods and labels alone with fewer and fewer labels, and draw what they reach.

    Args:
        labels: numbers of labelled samples in all
        methods: of those that learn from labels; `supervised` is the control
        how: what every study can be told; its protocol is classify if none is named

    Example: nolabel study few_labels --data cifar10/ --labels 40 250 --methods supervised fixmatch uda
    """
    numbers, names = sorted(set(labels)), list(dict.fromkeys(methods))
    if len(numbers) < 2 or numbers[0] < 1:
        raise UserError("name at least two numbers of labels from 1 on, e.g. --labels 40 250")
    for name in names:
        if not files.load(name).labelled:
            raise UserError(f"{name} learns from no labels; the family semi does, e.g. --methods supervised fixmatch")
    series = {name: [(number, f"{name}, {number:,} labels") for number in numbers] for name in names}
    variants = [
        Variant(variant, name, {"labels": str(number)}) for name, line in series.items() for number, variant in line
    ]
    judged = how.protocols if how.protocols != DEFAULT.protocols else ("classify",)

    def findings(table: Table) -> list[str]:
        return [
            inequality(f"{name} above labels alone at {number:,}", table, {own: 1, control: -1})
            for name in names
            for (number, own), (_, control) in zip(series[name], series.get(ALONE, []))
            if name != ALONE
        ]

    study(
        "few_labels", ABOUT, variants, replace(how, protocols=judged), findings,
        lambda table, axis: lines(table, series, axis, "labels"), labels=numbers, methods=names,
    )  # fmt: skip
