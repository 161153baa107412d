"""Geometry of the features: a map in the plane and nearest neighbours."""

import numpy as np

MAP_POINTS = 1500
"""Points of a map: t-SNE of more takes long and shows no more"""
QUERIES = 1000
"""Samples whose neighbours are counted"""


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length 1: cosine is what the k-NN protocol compares by. A zero row stays zero."""
    x = np.asarray(features, np.float32).reshape(len(features), -1)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def draw(rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """At most `count` of the rows at random, in their order; every n-th would miss classes that alternate."""
    return np.sort(np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False))


def project(unit_ND: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Places (N, 2) in [0, 1] and the name of what made them: t-SNE of 50 principal components, PCA below 12 points.

    Half the usual iterations and a coarser angle: the picture stays the same at a third of the time.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, d = unit_ND.shape
    centred = unit_ND - unit_ND.mean(0)
    if n < 3 or np.abs(centred).max() < 1e-6:
        return np.full((n, 2), 0.5), "one point"
    x = PCA(min(50, n - 1, d), svd_solver="randomized", random_state=seed).fit_transform(centred)
    name = "PCA"
    if n >= 12 and x.shape[1] >= 2:
        tsne = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", max_iter=500, angle=0.7, random_state=seed)
        with threadpool_limits(1):  # on a busy machine its threads spin for each other: 4 s become 40
            x = tsne.fit_transform(x)
        name = "t-SNE"
    x = np.pad(x, ((0, 0), (0, max(0, 2 - x.shape[1]))))[:, :2]
    low, high = x.min(0), x.max(0)
    return np.where(high > low, (x - low) / np.maximum(high - low, 1e-12), 0.5), name


def spread_queries(unit_ND: np.ndarray, labels: np.ndarray | None, count: int = 8, seed: int = 0) -> list[int]:
    """One random row from each of `count` classes, evenly spread; from k-means clusters where there are no labels."""
    rng = np.random.default_rng(seed)
    if labels is None or len(np.unique(labels[labels >= 0])) < 2:
        from sklearn.cluster import KMeans

        some = draw(np.arange(len(unit_ND)), MAP_POINTS)
        distinct = len(np.unique(unit_ND[some].round(5), axis=0))
        labels = np.full(len(unit_ND), -1)
        labels[some] = KMeans(min(count, distinct), n_init=1, random_state=seed).fit_predict(unit_ND[some])
    present = np.unique(labels[labels >= 0])
    chosen = present[np.unique(np.linspace(0, len(present) - 1, min(count, len(present))).round().astype(int))]
    first = [int(rng.choice(np.flatnonzero(labels == c))) for c in chosen]
    rest = [int(i) for i in rng.permutation(len(labels)) if i not in first]
    return first + rest[: count - len(first)]


def nearest(unit_ND: np.ndarray, queries: np.ndarray | list[int], k: int = 8) -> np.ndarray:
    """Rows (Q, k) with the highest cosine to each query row, best first, the query itself left out."""
    rows, k = np.asarray(queries, int), min(k, len(unit_ND) - 1)
    out = []
    for part in np.array_split(rows, max(1, len(rows) // 256)):
        similarity = unit_ND[part] @ unit_ND.T
        similarity[np.arange(len(part)), part] = -np.inf
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similarity, best, 1), axis=1, kind="stable")
        out.append(np.take_along_axis(best, order, 1))
    return np.concatenate(out)


def neighbour_agreement(unit_ND: np.ndarray, labels: np.ndarray, k: int = 8, sample: int = QUERIES) -> float:
    """Share of the k nearest neighbours with the label of their query, over at most `sample` random queries."""
    rows = draw(np.flatnonzero(labels >= 0), sample)
    return float((labels[nearest(unit_ND, rows, k)] == labels[rows, None]).mean())
