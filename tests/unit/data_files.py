"""Small data sets in every format, for the tests of `nolabel.data`."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("cat", "dog")


def pixels(seed: int, height: int = 40, width: int | None = None) -> np.ndarray:
    """A smooth picture that differs for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width or height, height), Image.Resampling.BICUBIC))


def encode(array: np.ndarray, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def jpeg(seed: int, height: int = 40, width: int | None = None) -> bytes:
    return encode(pixels(seed, height, width), quality=90)


def write_folder(root: Path, count: int = 8, classes=CLASSES, height: int = 40) -> Path:
    for i in range(count):
        name = root / classes[i % len(classes)] / f"{i:03}.jpg" if classes else root / f"{i:03}.jpg"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(jpeg(i, height))
    return root


def write_parquet(path: Path, blobs: list, labels: list | None = None, classes=CLASSES, group: int = 4) -> Path:
    columns: dict = {
        "image": pa.array(
            [{"bytes": b, "path": None} for b in blobs], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
    }
    features: dict = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(meta), path, row_group_size=group)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, blob in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))
    return path
