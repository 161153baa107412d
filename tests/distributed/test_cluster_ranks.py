"""Clusterings of three processes are those of one, though the rows do not divide by three."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from nolabel.core.dist import join_rows, own_rows
from nolabel.losses.cluster import kmeans, pca_whitening, sinkhorn, usage
from tests.processes import ranks

N = 61


def look() -> dict[str, Tensor]:
    """What each rank finds, of its own part of the rows; the parts put together."""
    x = torch.randn(N, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    part = x[own_rows(N)]
    torch.manual_seed(0)
    centroids, cluster = kmeans(part, 9, 20)
    far = torch.cat((x[:4], x.new_full((5, 5), 1e4)))
    refilled, again = kmeans(part, 9, 20, spherical=True, start_KD=far)
    mean, matrix = pca_whitening(part, 3)
    codes = sinkhorn(part.log_softmax(1), 0.1, 1000, tolerance=1e-9)
    return {
        "rows": join_rows(part, N),
        "kmeans": centroids,
        "cluster": join_rows(cluster, N),
        "refilled": refilled,
        "refilled_cluster": join_rows(again, N),
        "whitening": matrix @ matrix.T,
        "mean": mean,
        "sinkhorn": join_rows(codes, N),
        "usage": usage(x[:60][own_rows(60)].softmax(1)),
    }


def work(process: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=process, world_size=world)
    try:
        torch.save(look(), f"{folder}/{process}.pt")
    finally:
        dist.destroy_process_group()


def test_ranks_are_one(tmp_path: Path) -> None:
    world = 3
    ranks(work, world, world, str(tmp_path))
    found = [torch.load(tmp_path / f"{process}.pt", weights_only=True) for process in range(world)]
    for key, expected in look().items():
        for one in found:
            torch.testing.assert_close(one[key], expected, msg=lambda text, key=key: f"{key}: {text}")
            assert torch.equal(one[key], found[0][key]), f"{key} differs between ranks"
