"""From image files to uint8 batches in random order on one core: ours from Parquet, tar and the cache, and the peers.

    OMP_NUM_THREADS=1 python -m bench.decode

All read the same JPEG files: crops of two photographs that scikit-learn brings. torchvision reads them as a folder with
Pillow through DataLoader(0 workers), webdataset streams the tar in order, datasets reads the Parquet files at random.
"""

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from bench.harness import Row, compare, installed
from nolabel.data import Data, Source, open_data
from nolabel.engine.precision import keep_freed_memory


def photos(count: int, height: int, width: int) -> list[bytes]:
    """JPEG files of quality 90: crops of photographs, no two alike."""
    from sklearn.datasets import load_sample_images

    pictures = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    files = []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        scale = rng.uniform(0.5, 1) * min(picture.width / width, picture.height / height)
        w, h = width * scale, height * scale
        left, top = rng.uniform(0, picture.width - w), rng.uniform(0, picture.height - h)
        crop = picture.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + w, top + h))
        file = io.BytesIO()
        crop.save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def write(root: Path, files: list[bytes]) -> None:
    """The same images as a folder with two classes, a Parquet file and a tar shard."""
    with tarfile.open(root / "set.tar", "w") as tar:
        for i, blob in enumerate(files):
            path = root / "folder" / f"class{i % 2}" / f"{i:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
            member = tarfile.TarInfo(f"{i:06}.jpg")
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": blob, "path": None} for blob in files], kind)
    pq.write_table(pa.table({"image": column}), root / "set.parquet", compression="zstd", row_group_size=500)


def epoch(data: Data, batch: int) -> Callable[[], None]:
    source = Source(data.splits["train"], batch)
    seed = iter(range(1_000_000))

    def run() -> None:
        order = next(seed)
        for step in range(source.epoch_steps):
            source.at(order, step)

    return run


def folder_loader(root: Path, batch: int, size: int, resize: bool) -> Callable[[], None]:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    crop = [transforms.Resize(size), transforms.CenterCrop(size)] if resize else []
    data = ImageFolder(str(root / "folder"), transforms.Compose([*crop, transforms.PILToTensor()]))
    loader = DataLoader(data, batch, shuffle=True, num_workers=0, drop_last=True)

    def run() -> None:
        for _ in loader:
            pass

    return run


def webdataset_loader(root: Path, batch: int) -> Callable[[], None]:
    import webdataset as wds

    shard = wds.WebDataset(str(root / "set.tar"), shardshuffle=False, empty_check=False)
    data = shard.decode("rgb8").to_tuple("jpg").batched(batch, partial=False)

    def run() -> None:
        for (images,) in data:
            torch.as_tensor(np.stack(images) if isinstance(images, list) else images)

    return run


def hub_loader(root: Path, batch: int) -> Callable[[], None]:
    import datasets

    datasets.disable_progress_bars()
    cache = str(root / "datasets")
    data = datasets.load_dataset("parquet", data_files=str(root / "set.parquet"), split="train", cache_dir=cache)
    data = data.cast_column("image", datasets.Image())

    def run() -> None:
        rows = torch.randperm(len(data)).tolist()
        for first in range(0, len(rows) - batch + 1, batch):
            images = data[rows[first : first + batch]]["image"]
            torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))

    return run


@contextmanager
def private_cache() -> Iterator[Path]:
    """A temporary folder that also holds our cache."""
    before = os.environ.get("NOLABEL_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NOLABEL_CACHE"] = f"{folder}/cache"
        try:
            yield Path(folder)
        finally:
            os.environ.pop("NOLABEL_CACHE")
            if before is not None:
                os.environ["NOLABEL_CACHE"] = before


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """Images per second at 256 px, at 500 x 375 scaled to 256, and at 32 px. The device plays no part."""
    keep_freed_memory()  # as every run does; the peers gain by it too
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rounds, result = (3 if quick else 5), []
    cases = {"256 px": (256, 256, 256, 256), "500x375 to 256 px": (375, 500, 256, 128), "32 px": (32, 32, 32, 256)}
    for case, (height, width, size, batch) in cases.items():
        count = batch * (1 if quick else 2) * (8 if size == 32 else 1)
        with private_cache() as root:
            write(root, photos(count, height, width))
            # 224 is stored with room for crops: 256
            wanted = 224 if size == 256 else size

            def ours(name: str, cache: str, root: Path = root, wanted: int = wanted, batch: int = batch) -> Callable:
                return epoch(open_data(root / name, size=wanted, cache=cache, workers=1, test_fraction=0), batch)

            folder = folder_loader(root, batch, size, min(height, width) != size)
            peers = {"torchvision ImageFolder + Pillow + DataLoader": folder}
            streams = dict(peers)
            if installed("webdataset") and min(height, width) == size:
                streams["webdataset"] = webdataset_loader(root, batch)
            if installed("datasets") and min(height, width) == size:
                streams["datasets"] = hub_loader(root, batch)
            for name, path, cache, others in (
                ("Parquet", "set.parquet", "never", streams),
                ("tar", "set.tar", "never", peers),
                ("folder", "folder", "never", peers),
                ("cache", "set.parquet", "always", peers),
            ):
                result += compare(
                    "decode", f"{case}, {name}", ours(path, cache), others, work=count, unit="images", rounds=rounds
                )

            def build(root: Path = root, wanted: int = wanted) -> None:
                shutil.rmtree(root / "cache", ignore_errors=True)
                open_data(root / "set.parquet", size=wanted, cache="always", workers=1)

            result += compare(
                "decode", f"{case}, building the cache", build, peers, work=count, unit="images", rounds=rounds
            )
    torch.set_num_threads(threads)
    return result


if __name__ == "__main__":
    for row in rows():
        print(row)
