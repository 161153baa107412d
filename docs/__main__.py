"""`python -m docs`: write docs/methods/, a page a method and an index by family, from the headers of the method files.

The table of families in README.md is written, too.
"""

from itertools import groupby
from pathlib import Path

from nolabel import methods

FOLDER = Path(__file__).parent / "methods"
README = Path(__file__).parent.parent / "README.md"


def pages() -> dict[str, str]:
    """Every page by file name."""
    entries = sorted((methods.describe(name) for name in methods.names()), key=lambda e: (e.family, e.name))
    lines = ["# Methods", "", f"{len(entries)} methods, one file each; written by `python -m docs`.", ""]
    for family, members in groupby(entries, key=lambda e: e.family):
        lines += [f"## {family}", "", "| method | takes | what it does | paper |", "|---|---|---|---|"]
        for e in members:
            paper = f"[arXiv:{e.arxiv}](https://arxiv.org/abs/{e.arxiv})" if e.arxiv else e.citation.split(",")[0]
            lines.append(f"| [{e.name}]({e.name}.md) | {' + '.join(e.modalities)} | {e.title} | {paper} |")
        lines.append("")
    return {"README.md": "\n".join(lines), **{f"{e.name}.md": methods.markdown(e.name) for e in entries}}


def readme() -> str:
    """README.md with every method in its table."""
    before, mark, rest = README.read_text().partition("<!-- methods -->\n")
    _, end, after = rest.partition("<!-- /methods -->")
    entries = sorted((methods.describe(name) for name in methods.names()), key=lambda e: (e.family, e.name))
    lines = ["| family | methods |", "|---|---|"]
    for family, members in groupby(entries, key=lambda e: e.family):
        lines.append(f"| {family} | {', '.join(f'[{e.name}](docs/methods/{e.name}.md)' for e in members)} |")
    return before + mark + "\n".join(lines) + "\n" + end + after


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
    README.write_text(readme())
    print(f"{len(made)} pages in {FOLDER}")
