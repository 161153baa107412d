"""Weighted k-NN, 10,000 queries against 50,000 rows of 512 numbers on one core: ours, lightly, faiss-cpu flat.

    OMP_NUM_THREADS=1 python -m bench.knn

lightly's knn_predict is given batches of 512 queries; faiss returns neighbours, to which our vote is added. Each is
timed from raw features to predictions, and all three must predict the same classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.harness import Row, compare, installed
from nolabel.evaluate.knn import KNN


def features(rows: int, dim: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Non-negative features as a ResNet gives them, in overlapping clusters: x (N, D), y (N,)."""
    rng = torch.Generator().manual_seed(0)
    centres = 0.3 * torch.randn(classes, dim, generator=rng)
    rng = torch.Generator().manual_seed(1 + seed)
    y = torch.randint(classes, (rows,), generator=rng)
    return (centres[y] + torch.randn(rows, dim, generator=rng)).relu(), y


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """Queries per second for k = 20 and 200, answers compared first."""
    bank_n, query_n, dim, classes = (20_000, 1024, 256, 10) if quick else (50_000, 10_000, 512, 10)
    bank, y = (t.to(device) for t in features(bank_n, dim, classes, 0))
    queries, _ = (t.to(device) for t in features(query_n, dim, classes, 1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = []
    for k in (20, 200):
        protocol = KNN(k=k)

        def ours(protocol: KNN = protocol) -> Tensor:
            return protocol.votes(bank, y, queries).argmax(1)

        peers = {}
        if installed("lightly"):
            from lightly.utils.benchmarking import knn_predict

            def lightly(k: int = k) -> Tensor:
                columns = F.normalize(bank, dim=1).T.contiguous()
                parts = F.normalize(queries, dim=1).split(512)
                return torch.cat([knn_predict(q, columns, y, classes, k, 0.07)[:, 0] for q in parts])

            peers["lightly knn_predict"] = lightly
        if installed("faiss") and device == "cpu":
            import faiss

            faiss.omp_set_num_threads(1)

            def flat(k: int = k) -> Tensor:
                index = faiss.IndexFlatIP(dim)
                index.add(F.normalize(bank, dim=1).numpy())
                found = index.search(F.normalize(queries, dim=1).numpy(), k)
                s, near = (torch.from_numpy(t) for t in found)
                votes = torch.zeros(query_n, classes, dtype=torch.float64)
                return votes.scatter_add_(1, y[near], (s / 0.07).double().exp()).argmax(1)

            peers["faiss-cpu IndexFlatIP"] = flat
        answer = ours()
        for name, peer in peers.items():
            same = (peer() == answer).double().mean().item()
            # sums of float32 exponentials differ in the last bit, which may turn a near tie
            assert same > 0.9995, f"{name} predicts otherwise in {100 * (1 - same):.2f} % of queries"
        case = f"{bank_n} x {query_n} x {dim}, k {k}, one core"
        result += compare("knn", case, ours, peers, work=query_n, unit="queries", rounds=2 if quick else 3, warmup=0)
    torch.set_num_threads(threads)
    return result


if __name__ == "__main__":
    for row in rows():
        print(row)
