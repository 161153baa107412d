"""The command line: the verbs of `nolabel.api`, their flags read from signatures and fields, errors in one line."""

import contextlib
import dataclasses
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

HELP = """\
nolabel: self-supervised and semi-supervised learning

  nolabel train METHOD [--data DATA] [--minutes M | --epochs E] ...    train, judge, show and export an encoder
  nolabel resume RUN                                                   go on with a run, bit for bit
  nolabel eval RUN [--data DATA]                                       judge its encoder again
  nolabel embed RUN --out FILE.parquet|.npy [--data DATA]              features of a data set
  nolabel export RUN --to FILE.safetensors|.pt|.onnx                   the encoder for timm, torch or ONNX
  nolabel report RUN [--data DATA]                                     write its page again
  nolabel compare METHOD... [--data DATA] [--minutes M] [--seeds N]    several methods on one budget: table and page
  nolabel study NAME ...                                               answer a question again: 'nolabel study' lists them
  nolabel methods [--json]                                             all methods with paper, family, modality
  nolabel explain METHOD                                               its paper, formula, hyper-parameters and code

examples
  nolabel train simclr                                    the embedded toy world, about two and a half minutes
  nolabel train dino --data photos/ --minutes 30          a folder of images, labelled by sub-folder or not at all
  nolabel train mae --data images.parquet --encoder vit_small_patch16_224 --size 64 --epochs 50
  nolabel train avid --data clips/ --encoder video=tiny_video,audio=tiny_mel
  nolabel train simclr --temperature 0.5 --views.strength 0.8 --optim.lr 0.001

'nolabel VERB --help' and 'nolabel train METHOD --help' show every flag. A run leaves runs/NAME/ with report.html.
"""

Run = Annotated[Path, tyro.conf.Positional]


def resume(run: Run, /, quiet: bool = False, table: bool = True, data: str | None = None) -> None:
    """Go on with a run where its newest intact checkpoint stands.

    Args:
        run: the folder of the run
        quiet: no progress on the terminal
        table: print the results at the end
        data: where the data of the run are now, if they were moved

    Example: nolabel resume runs/simclr-toyworld
    """
    api = _api_for(run)
    from nolabel.engine.parallel import own

    own()
    trained = api.resume(run, quiet, data)
    if table:
        _show(trained)


def evaluate(
    run: Run,
    /,
    data: str | None = None,
    protocols: tuple[str, ...] = ("knn", "linear"),
    templates: tuple[str, ...] = (),
) -> None:
    """Judge the encoder of a run again, beside its random initialisation and the raw input.

    Args:
        run: the folder of the run
        data: another labelled data set; default: the run's own
        protocols: knn, linear, low-shot, fine-tune, retrieval, zero-shot, perplexity, segments, propagation
        templates: prompts of zero-shot, {} for the name of a class, e.g. "a painting of a {}" "a {} in oil"

    Example: nolabel eval runs/simclr-photos --data cifar10/ --protocols knn
    """
    if templates and "zero-shot" not in protocols:
        _fail("--templates are the prompts of zero-shot: say --protocols zero-shot, too")
    api = _api_for(run)
    from nolabel.evaluate import ZeroShot

    trained = api.load(run)
    judged: list[Any] = [ZeroShot(templates) if templates and name == "zero-shot" else name for name in protocols]
    trained.judge(data, judged)
    _show(trained)


def embed(run: Run, /, out: Path, data: str | None = None, split: str = "train", modality: str | None = None) -> None:
    """Write the features of a data set: .npy (N, D) float32, or .parquet with one row a sample.

    Args:
        run: the folder of the run
        out: FILE.parquet or FILE.npy
        data: any data set that train takes; default: the run's own
        split: train or test
        modality: which encoder of a run that kept several, e.g. audio

    Example: nolabel embed runs/simclr-photos --data photos/ --out features.parquet
    """
    api = _api_for(run)

    print(api.load(run).embed_to(out, data, split, modality))


def export(run: Run, /, to: Path, modality: str | None = None) -> None:
    """Write the encoder: .safetensors (with a JSON card), .pt (a state dict that timm loads), .onnx.

    Args:
        run: the folder of the run
        to: the file to write; its ending chooses the format
        modality: which encoder of a run that kept several, e.g. audio; default: each, as NAME-MODALITY

    Example: nolabel export runs/simclr-photos --to encoder.onnx
    """
    api = _api_for(run)

    print(*api.load(run).export(to, modality), sep="\n")


def report(run: Run, /, data: str | None = None) -> None:
    """Write report.html of a run again.

    Args:
        run: the folder of the run
        data: what its pictures are of; default: the run's own data

    Example: nolabel report runs/simclr-photos
    """
    api = _api_for(run)

    print(api.load(run).report(data))


def methods(json: bool = False) -> None:
    """List all methods with family, modality and paper.

    Args:
        json: machine-readable

    Example: nolabel methods --json
    """
    from nolabel import methods as files

    entries = [files.describe(name) for name in files.names()]
    if json:
        print(_json.dumps([dataclasses.asdict(e) for e in entries], indent=1))
        return
    family = ""
    for e in sorted(entries, key=lambda e: (e.family, e.name)):
        if e.family != family:
            family = e.family
            print(f"\n{family}")
        print(f"  {e.name:22s} {'+'.join(e.modalities):12s} {e.title}")
        print(f"  {'':22s} {'':12s} {e.citation}")


def explain(method: Annotated[str, tyro.conf.Positional], /, markdown: bool = False) -> None:
    """Print the paper, the formulas, every hyper-parameter and the code of the loss of a method.

    Args:
        method: its name, as 'nolabel methods' lists it
        markdown: as text for a page, without colours

    Example: nolabel explain simclr
    """
    from nolabel import methods as files

    page = files.explain(method)
    if markdown:
        print(files.markdown(method), end="")
        return
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.table import Table

    print(page.header.rstrip() + "\n", flush=True)  # as it is: its formulas are set in columns
    console = Console()
    table = Table("field", "the paper's", "meaning", title="hyper-parameters", title_justify="left")
    for f in page.fields:
        table.add_row(f.name, f.default, f.meaning)
    console.print(table, markup=False)
    console.print(Syntax(page.forward, "python", background_color="default"))
    print(f"\n{page.path}\nnolabel train {method} --help shows every flag")


_json = json
VERBS: dict[str, Callable[..., None]] = {
    "resume": resume, "eval": evaluate, "embed": embed, "export": export, "report": report, "methods": methods,
    "explain": explain,
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Run one command. Exit codes: 0 done, 2 something the user can mend, 130 Ctrl-C, 143 terminated."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if argv[0] in ("-V", "--version"):
        from nolabel import __version__

        print(f"nolabel {__version__}")
        return
    try:
        if argv[0] == "train":
            _train(argv[1:])
        elif argv[0] == "study":
            _study(argv[1:])
        elif argv[0] == "compare":
            _study(argv)
        elif argv[0] in VERBS:
            verb = VERBS[argv[0]]
            _parse(verb, argv[1:], f"nolabel {argv[0]}")
        else:
            import difflib

            close = difflib.get_close_matches(argv[0], ["train", "compare", "study", *VERBS], 1)
            _fail(
                f"unknown command '{argv[0]}'" + (f"; did you mean '{close[0]}'?" if close else "; see nolabel --help")
            )
    except KeyboardInterrupt:
        rest = {"compare": "; the same command goes on from what is finished", "train": " before the first checkpoint"}
        rest |= {"study": rest["compare"], "resume": rest["train"]}
        _fail(f"stopped{rest.get(argv[0], '')}; nothing was lost that had been written", 130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        code = _known(error)
        if type(error).__name__ == "OutOfMemoryError":  # torch's, by name: it may not have been imported
            _fail(
                f"too little memory ({str(error).partition('.')[0]}): end what else uses it, or take a smaller --size"
            )
        if code is None:
            raise
        if not getattr(error, "told", False):
            _fail(str(error), code)
        sys.exit(code)


def _api_for(run: Path) -> Any:
    """`nolabel.api`, once the folder is known to hold a run."""
    from nolabel.core.folders import run_folder

    run_folder(run)
    from nolabel import api

    return api


def _train(argv: list[str]) -> None:
    """`nolabel train METHOD ...`: the options of every run and the fields of the method are its flags."""
    if not argv or argv[0].startswith("-"):
        if any(a in ("-h", "--help") for a in argv):
            print(
                "nolabel train METHOD [flags]\n\n'nolabel methods' lists the methods, 'nolabel train METHOD --help' all "
                "flags of one.\n\nexample\n  nolabel train simclr --data photos/ --minutes 10"
            )
            return
        _fail("name a method: 'nolabel methods' lists them, e.g. nolabel train simclr")
    parsed = train_parser(argv[0], argv[1:])
    options, changes = given_fields(argv[0], parsed, argv[1:])
    from nolabel import api
    from nolabel.engine.parallel import own

    own()
    _show(api.train_with(argv[0], options, changes))


def _study(argv: list[str]) -> None:
    """`nolabel study NAME ...`: the flags are the signature of the study's function."""
    from nolabel import studies

    if not argv or argv[0].startswith("-"):
        print("nolabel study NAME [flags]\n\n'nolabel study NAME --help' shows every flag.\n")
        for name in studies.names():
            print(f"  {name:20s} {studies.title(name)}")
        return
    _parse(studies.load(argv[0]), argv[1:], "nolabel compare" if argv[0] == "compare" else f"nolabel study {argv[0]}")


def train_parser(name: str, argv: list[str]) -> Any:
    """Parse the flags of `train`: an object with `options` and `method`, whose defaults are the paper's."""
    from nolabel import methods as files

    kind = files.load(name)
    from nolabel.options import Options

    @dataclasses.dataclass(frozen=True)
    class Train:
        options: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)
        method: Annotated[kind, tyro.conf.arg(name="")] = dataclasses.field(default_factory=kind)  # type: ignore[valid-type]

    about = files.describe(name)
    words = f"{about.title}\n\n{about.citation}\n\nDefaults of the method are the paper's; the recipe overrides some."
    return _parse(Train, argv, f"nolabel train {name}", words)


def given_fields(name: str, parsed: Any, argv: list[str]) -> tuple[Any, dict[str, Any]]:
    """The options, and those fields of the method that stand among the flags: they win over the recipe's."""
    return parsed.options, {path: _reach(parsed.method, path) for path in _given(argv) if _has(parsed.method, path)}


def _given(argv: list[str]) -> list[str]:
    """The field paths among the flags: --views.strength 0.5 -> views.strength, --no-report -> report."""
    flags = [a[2:].split("=")[0].replace("-", "_") for a in argv if a.startswith("--")]
    parts = [".".join(p for p in f.split(".")) for f in flags]
    return [re.sub(r"(^|\.)no_(\w+)$", r"\1\2", f) if f.split(".")[-1].startswith("no_") else f for f in parts]


def _has(value: Any, path: str) -> bool:
    head, _, rest = path.partition(".")
    names = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    return head in names and (not rest or _has(getattr(value, head), rest))


def _reach(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _parse(what: Any, argv: list[str], prog: str, description: str | None = None) -> Any:
    """tyro, with its boxed error messages put into one line."""
    out, err = io.StringIO(), io.StringIO()
    try:
        if any(a in ("-h", "--help") for a in argv):
            return tyro.cli(what, args=argv, prog=prog, description=description)
        parsed = _quiet_cli(what, argv, prog, description, out, err)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        _fail(_one_line(err.getvalue() or out.getvalue(), prog))
    return parsed() if callable(parsed) else parsed  # not above: what a verb exits with is its own affair


def _quiet_cli(
    what: Any, argv: list[str], prog: str, description: str | None, out: io.StringIO, err: io.StringIO
) -> Any:
    """Parse with output caught; of a function, the call that is still to be made, with its own output."""
    if dataclasses.is_dataclass(what):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return tyro.cli(what, args=argv, prog=prog, description=description)
    call: dict[str, Any] = {}

    import functools

    @functools.wraps(what)
    def later(*args: Any, **kwargs: Any) -> None:
        call.update(args=args, kwargs=kwargs)

    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        tyro.cli(later, args=argv, prog=prog)
    return functools.partial(what, *call["args"], **call["kwargs"])


def _one_line(text: str, prog: str) -> str:
    """The words of tyro's error box, without frame, rulers and the hint to --help; for a typo the nearest flag."""
    lines = [re.sub(r"[─━│┃╭╮╰╯┏┓┗┛╞╡═]", " ", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line.strip("- ") and not line.startswith("For full helptext")]
    words = re.sub(r"\s+", " ", " ".join(lines))
    words = re.sub(r"^(Parsing error|Required options|Invalid \w+)\s+", "", words)
    if typo := re.search(r"Unrecognized options: (\S+)", words):
        near = re.findall(r"--[\w.-]+", words[typo.end() :])
        words = f"unknown flag {typo[1].rstrip(',')}" + (f"; did you mean {near[0]}?" if near else "")
    return f"{words} ('{prog} --help' shows all flags)"


def _known(error: Exception) -> int | None:
    """The exit code of an error that is told in one line; None for a bug of ours."""
    from nolabel.core.errors import UserError

    if isinstance(error, UserError):
        return 2
    from nolabel.api import Stopped
    from nolabel.engine import Interrupted

    return error.code if isinstance(error, Interrupted | Stopped) else None


def _fail(line: str, code: int = 2) -> None:
    if os.environ.get("RANK", "0") != "0":  # every rank meets the same slip; the first one says so
        sys.exit(code)
    print(f"nolabel: {line}" if code == 2 else line, file=sys.stderr)
    sys.exit(code)


def _show(trained: Any) -> None:
    """The results table, with random initialisation and raw input beside every value."""
    if os.environ.get("RANK", "0") != "0":  # the process group is gone by now
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    results = trained.results
    table = Table(title=f"{trained.plan.method} on {trained.plan.title}", title_justify="left")
    several = len({r.get("modality", "image") for r in results}) > 1
    places = {(r["data"], r.get("place")) for r in results}
    alike = len({name for name, _ in places}) < len(places)  # folders of one name: say where they are
    words = ["encoder"] * several + ["data"] * (len(places) > 1) + ["protocol", "metric"]
    for column in (*words, "value", "random init", "raw input"):
        table.add_column(column, justify="left" if column in words else "right", overflow="fold")

    def number(x: Any) -> str:
        return "-" if x is None else f"{x:.1f}"

    for r in results:
        name = [r.get("modality", "image")] if several else []
        if len(places) > 1:
            name.append(str(r.get("place") or r["data"]) if alike else r["data"])
        numbers = (number(r[k]) for k in ("value", "random_init", "raw_input"))
        table.add_row(*map(escape, name), r["protocol"], r["metric"], *numbers)
    if results:
        Console().print(table)
    here = sorted(p.name for p in trained.folder.glob("encoder*.safetensors"))
    here += [name for name in ("results.json", "report.html") if (trained.folder / name).exists()]
    print(f"{trained.folder}/  " + "  ".join(here))


if __name__ == "__main__":  # how ranks that cannot be forked start, see `engine.parallel.launch`
    main()
