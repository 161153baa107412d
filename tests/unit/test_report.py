"""The report is one valid, self-contained, escaped page, and a broken run still gets one."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from nolabel.report import Gallery, token_pictures, write_comparison, write_report
from nolabel.report.charts import line_chart, smoothed
from nolabel.report.embedding import nearest, neighbour_agreement, project, spread_queries, unit_rows
from nolabel.report.markup import Markup, h, number, write_atomically
from nolabel.report.pictures import attention_overlay, data_uri, grid, pca_colours, picture, thumbnail_map
from nolabel.report.record import read_metrics, scores

HOSTILE = '<script>alert("x")</script>'
RESULT = {"protocol": "knn", "data": "toy", "split": "test", "metric": "accuracy", "value": 0.8125,
          "random_init": 0.4375, "raw_input": 0.625, "seed": 0}  # fmt: skip


class Page(HTMLParser):
    """Parses strictly: every element is closed in order, and what it refers to and says is kept."""

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.references, self.text, self.ids = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "xlink:href")]
        self.ids += [v for k, v in attrs if k == "id"]
        assert not [k for k, _ in attrs if k.startswith("on")], attrs
        if tag == "img":
            assert dict(attrs).get("alt"), "a picture without alt text"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def check(path):
    raw = path.read_text(encoding="utf-8")
    page = Page(raw)
    assert all(r.startswith(("data:image/", "#")) for r in page.references), page.references
    assert not re.search(r"url\(|@import|https?://[^\s<]*\.(?:js|css|woff)", raw)
    assert page.tags.count("script") == 1, "only the page's own script"
    assert len(set(page.ids)) == len(page.ids)
    assert {r[1:] for r in page.references if r[0] == "#"} <= set(page.ids)
    assert not list(path.parent.glob(".*")), "a temporary file was left"
    return " ".join(page.text), raw


def run_folder(folder, lines=60, **settings):
    settings = {"method": "simclr", "data": "toyworld", "encoder": "resnet18", "fields": {"optim": {"lr": 0.3}},
                "command": "nolabel train simclr", "versions": {"torch": "2.11"}, **settings}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(settings))
    fixed = {"stage": 0, "lr": 0.1, "feature_std": 0.9, "wait": 0.05}
    rows = [{"step": 10 * i, "epoch": i / 4, "loss": 3 / (i + 1), **fixed} for i in range(lines)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "results.json").write_text(json.dumps([RESULT]))
    return folder


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = (np.eye(16)[labels] * 3 + rng.normal(size=(60, 16))).astype(np.float32)
    return {"images": rng.integers(0, 256, (60, 16, 16, 3), np.uint8), "features": features, "labels": labels}


def test_full_report(tmp_path, samples):
    gallery = Gallery("Reconstruction", "What the decoder sees", [("input", list(samples["images"][:4]))])
    path = write_report(run_folder(tmp_path), **samples, classes=("a", "b", "c"), galleries=[gallery], notes=["a note"])
    assert path == tmp_path / "report.html"
    text, raw = check(path)
    for shown in ("0.812", "0.438", "0.625", "simclr", "resnet18", "optim.lr", "nolabel train simclr", "a note"):
        assert shown in text
    for title in ("Results", "Curves", "Embedding", "Neighbours", "Reconstruction", "Settings"):
        assert title in text
    assert "Warning" not in text
    assert raw.count("<svg") == 5
    assert len(raw) < 2_000_000


def test_hostile_strings_are_escaped(tmp_path, samples):
    run_folder(tmp_path, method=HOSTILE, data=HOSTILE, command=[HOSTILE], fields={HOSTILE: {HOSTILE: HOSTILE}})
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 9999, "stage": HOSTILE, HOSTILE: 1.0, "loss": HOSTILE}) + "\n")
    (tmp_path / "results.json").write_text(json.dumps([RESULT | dict.fromkeys(("protocol", "data", "split"), HOSTILE)]))
    galleries = [Gallery(HOSTILE, HOSTILE, [(HOSTILE, list(samples["images"][:2]))])]
    write_report(tmp_path, **samples, classes=(HOSTILE, '" onload="x', "'"), galleries=galleries, notes=[HOSTILE])
    text, raw = check(tmp_path / "report.html")
    assert HOSTILE in text
    assert HOSTILE not in raw


def test_an_empty_folder_gets_a_page(tmp_path):
    text, _ = check(write_report(tmp_path))
    for sentence in ("No evaluation", "No metrics", "No features", "no run.json"):
        assert sentence in text


@pytest.mark.parametrize("without", ["images", "features", "labels"])
def test_missing_pieces_are_said(tmp_path, samples, without):
    text, _ = check(write_report(run_folder(tmp_path), **{k: v for k, v in samples.items() if k != without}))
    assert {"images": "Without pictures", "features": "No features", "labels": "no labels"}[without] in text


@pytest.mark.parametrize("count", [0, 1, 2, 5, 13])
def test_few_samples(tmp_path, samples, count):
    check(write_report(run_folder(tmp_path, lines=count), **{k: v[:count] for k, v in samples.items()}))


def test_collapsed_and_broken_features(tmp_path, samples):
    samples["features"][:] = 1
    assert "collapsed" in check(write_report(run_folder(tmp_path), **samples))[0]
    samples["features"][:] = np.nan
    assert "0 of 60 features are finite" in check(write_report(tmp_path, **samples))[0]
    samples["features"] = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    samples["features"][7, 2] = np.inf
    samples["labels"][:] = -1
    assert "no label" in check(write_report(tmp_path, **samples))[0]


def test_grey_pictures_and_many_classes(tmp_path, samples):
    samples["labels"] = np.arange(60) % 30
    text, _ = check(write_report(tmp_path, **samples | {"images": samples["images"][..., :1]}, classes=("first",)))
    assert "18 other classes" in text
    assert "first" in text
    assert "class 7" in text


def test_samples_of_different_length_raise(tmp_path, samples):
    with pytest.raises(ValueError, match="different samples"):
        write_report(tmp_path, images=samples["images"][:3], features=samples["features"])


def test_torn_and_strange_metrics(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 0, "loss": 1.0}\n{"step": 1, "loss": NaN}\n{"step": 2, "loss": null, "note": "text", "ok": true}\n'
        b'[]\n"x"\n\n\xff\xfe\n{"loss": 3}\n{"step": 3, "loss": Infinity}\n{"step": 4, "lo'
    )
    (tmp_path / "run.json").write_text('{"method": "sim')
    (tmp_path / "results.json").write_text('[{"value": null}, 3, {"protocol": "knn", "value": NaN}]')
    text, _ = check(write_report(tmp_path))
    assert "not finite in 3 of 4" in text
    assert "run.json could not be read" in text
    assert "not finite" in text


def test_a_curve_that_was_never_finite(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": NaN}\n' * 3)
    assert "never finite" in check(write_report(tmp_path))[0]


def test_findings_warn(tmp_path):
    run_folder(tmp_path, started="2025-01-01T10:00:00", finished="2025-01-01T12:05:00")
    (tmp_path / "results.json").write_text(json.dumps([RESULT | {"raw_input": 0.9}]))
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.writelines(json.dumps({"step": 1000 + i, "feature_std": 0.02, "wait": 0.6}) + "\n" for i in range(100))
    text, _ = check(write_report(tmp_path))
    assert "no better than the raw input (0.900)" in text
    assert "ends at 0.02" in text
    assert "waited for data 60% of the time" in text
    assert "2 h 05 min" in text


def test_resumed_lines_replace_and_stages_follow_each_other(tmp_path):
    log = tmp_path / "metrics.jsonl"
    rows = [(0, 0, 1), (0, 10, 2), (0, 20, 3), (0, 10, 4), (0, 20, 5), (1, 0, 6), (1, 10, 7)]
    log.write_text("".join(json.dumps({"stage": g, "step": s, "loss": v}) + "\n" for g, s, v in rows))
    assert [(r["x"], r["loss"]) for r in read_metrics(log)] == [(0, 1), (10, 2), (10, 4), (20, 5), (20, 6), (30, 7)]


def test_scores_over_seeds():
    low = {"protocol": "depth", "metric": "rmse", "value": 2.0, "random_init": 3.0}
    one, two = scores([RESULT, RESULT | {"value": 0.9125, "seed": 1, "random_init": None}, low])
    assert one.mean == pytest.approx(0.8625)
    assert one.std == pytest.approx(0.05 * 2**0.5)
    assert one.random_init == 0.4375
    assert two.std is None
    assert two.raw_input is None
    assert two.beats(3.0) and not two.beats(1.0) and two.beats(None)


def test_comparison_is_sorted_and_escaped(tmp_path):
    rows = [RESULT | {"method": m, "value": v + 0.01 * s, "seed": s, "report": f"{m}/report.html"}
            for m, v in (("worst", 0.3), ("best", 0.9), (HOSTILE, 0.5)) for s in range(3)]  # fmt: skip
    path = write_comparison(rows, tmp_path / "deep" / "compare.html", f"Study {HOSTILE}")
    raw = path.read_text()
    text = " ".join(Page(raw).text)
    assert text.index("best") < text.index(HOSTILE, text.index("best")) < text.index("worst")
    assert "0.910 ± 0.010" in re.sub(r"\s+", " ", text)
    assert HOSTILE not in raw
    check(write_comparison([], tmp_path / "none.html", "Nothing"))


def test_smoothing_has_no_lag_and_ignores_spikes():
    x = np.linspace(0, 1, 600)
    y = x + np.random.default_rng(0).normal(0, 0.05, 600)
    y[300], y[100] = 50, np.nan
    error = np.abs(smoothed(y) - x)
    assert np.nanmax(error[20:-20]) < 0.06
    assert (smoothed(x) == x).all(), "a schedule is not noise"
    chart = line_chart("loss", np.arange(600.0), y)
    assert "peak 50" in chart


def test_nearest_and_agreement():
    unit = unit_rows(np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0, 0]], np.float32))
    assert nearest(unit, [0, 2], k=1).tolist() == [[1], [3]]
    assert nearest(unit, [0], k=99).shape == (1, 4)
    assert neighbour_agreement(unit, np.array([0, 0, 1, 1, -1]), k=1) == 1.0
    assert sorted(spread_queries(unit, np.array([0, 0, 1, 1, -1]), count=2)) in ([0, 2], [0, 3], [1, 2], [1, 3])


def test_map_is_deterministic_and_in_range(samples):
    unit = unit_rows(samples["features"])
    (a, name), (b, _) = project(unit), project(unit)
    assert name == "t-SNE"
    assert (a == b).all()
    assert a.min() == 0 and a.max() == 1
    assert project(unit[:5])[1] == "PCA"
    sheet, shown = thumbnail_map(samples["images"], a, ["#ff0000"] * 60)
    assert 0 < shown <= 60
    assert sheet.mode == "RGBA"


def test_pictures():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert grid([image, image[:4], image[..., 0]])[:4] == b"\x89PNG"
    assert data_uri(image).startswith("data:image/png;base64,")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    assert data_uri(noise, limit=20_000).startswith("data:image/webp;base64,")
    assert attention_overlay(image, np.eye(4)).shape == (8, 8, 3)
    assert attention_overlay(image[..., :1], np.ones((2, 2))).dtype == np.uint8
    with pytest.raises(ValueError, match="uint8"):
        picture(image.astype(np.float32))
    with pytest.raises(ValueError, match="at least one"):
        grid([])


def test_pca_colours_are_shared_by_the_batch():
    tokens = np.zeros((2, 4, 5))
    tokens[:, 1], tokens[1, 2] = [3, 0, 0, 0, 0], [0, 2, 0, 0, 0]
    colours = pca_colours(tokens, (2, 2))
    assert colours.shape == (2, 2, 2, 3)
    assert (colours[0, 0, 1] == colours[1, 0, 1]).all()
    assert (colours[0, 0, 0] != colours[0, 0, 1]).any()
    assert (pca_colours(np.ones((1, 4, 2)), (2, 2)) == 128).all()
    with pytest.raises(ValueError, match="do not fill"):
        pca_colours(tokens, (3, 3))


def test_markup_escapes_unless_told():
    made = h("p", "<", Markup("<b></b>"), None, ["&"], class_='"', title=None)
    assert made == '<p class="&quot;">&lt;<b></b>&amp;</p>'
    assert [number(v) for v in (0.12345, 1234.5, 3.0, 1e-5, float("nan"))] == [
        "0.1235", "1,234", "3", "1e-5", "not finite"]  # fmt: skip


def test_a_failed_write_keeps_the_old_page(tmp_path):
    path = write_atomically(tmp_path / "report.html", "old")
    with pytest.raises(TypeError):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_log_stays_a_small_page(tmp_path):
    rng = np.random.default_rng(0)
    rows = ({"step": i, "loss": float(v)} for i, v in enumerate(rng.normal(size=20_000)))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert len(check(write_report(tmp_path))[1]) < 80_000


def test_settings_as_the_engine_nests_them(tmp_path):
    about = {"command": "nolabel train mae", "machine": {"gpu": "H200", "threads": 4}, "versions": {"torch": "2.11"}}
    nested = {"method": "mae", "encoder": {"name": "vit", "size": 32}, "settings": {"batch": 512}, "about": about}
    (tmp_path / "run.json").write_text(json.dumps(nested))
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "knn": 14.2, "seconds": 90}\n')
    geometry = {"protocol": "geometry", "metric": "rankme", "value": 3.0, "random_init": 9.0, "raw_input": None}
    (tmp_path / "results.json").write_text(json.dumps([geometry, RESULT | {"metric": "top1", "value": 81.25}]))
    text, raw = check(write_report(tmp_path))
    for shown in ("vit", "512", "H200", "nolabel train mae", "1.5 min", "14.2 %", "81.2", "encoder.size"):
        assert shown in text
    assert "Warning" not in text, "a rank is neither better nor worse"
    assert raw.count('class="bar"') == 1


def test_token_pictures():
    class Tokens(torch.nn.Module):
        grid = (4, 4)

        def embed(self, x):
            return x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 16, -1)

        def encode(self, tokens):
            return torch.cat((tokens.mean(1, keepdim=True), tokens), 1)

    images = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    encoder = Tokens()

    x, shown = images.permute(0, 3, 1, 2) / 255, list(images.numpy())
    assert [g.title for g in token_pictures(encoder, x, shown)] == ["Patch features"]
    encoder.attention = lambda x: torch.rand(len(x), 2, 16)
    seen, features = token_pictures(encoder, x, shown)
    assert [len(row) for _, row in seen.rows + features.rows] == [3, 3, 3, 3]
    encoder.grid = (16,)
    assert token_pictures(encoder, x, shown) == []
