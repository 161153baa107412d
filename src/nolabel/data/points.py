"""Point clouds and meshes to clouds of one form: P points in the unit ball around their middle.

Of a larger cloud a random part is taken, of a smaller one points are taken again, on a mesh points are drawn by area; each
the same every time. Reads .ply (text and binary), .off, .npy and .npz. Never unpickled.
"""

import io
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

NAMES = ("points", "xyz", "pos", "positions", "pointcloud", "cloud", "vertices", "x", "data")
"""of arrays that hold coordinates"""
_PLY = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
        "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
        "double": "f8", "float64": "f8"}  # fmt: skip


@dataclass(frozen=True)
class Cloud:
    """The decoder of clouds."""

    points: int
    dtype: ClassVar[type] = np.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, 3)."""
        return (self.points, 3)

    def __call__(self, blob: bytes | memoryview | NDArray, out: NDArray[np.float32]) -> None:
        """Write a cloud into `out` (P, 3). Raises ValueError on damaged and on empty ones."""
        vertices, faces = (blob, None) if isinstance(blob, np.ndarray) else read(bytes(blob))
        if vertices.ndim != 2 or vertices.shape[1] < 3 or len(vertices) == 0:
            raise ValueError(f"an array of shape {vertices.shape} is no cloud of points (P, 3)")
        xyz = np.asarray(vertices[:, :3], np.float64)
        if not np.isfinite(xyz).all():
            raise ValueError("coordinates are not finite")
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(xyz).tobytes()))
        if faces is not None and len(faces):
            xyz = on_surface(xyz, faces, self.points, rng)
        elif len(xyz) > self.points:
            xyz = xyz[np.sort(rng.permutation(len(xyz))[: self.points])]
        elif len(xyz) < self.points:
            xyz = xyz[np.concatenate((np.arange(len(xyz)), rng.integers(len(xyz), size=self.points - len(xyz))))]
        xyz = xyz - xyz.mean(0)
        out[:] = xyz / max(np.linalg.norm(xyz, axis=1).max(), 1e-12)


def on_surface(vertices: NDArray, faces: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """Points (count, 3) drawn uniformly on triangles (F, 3) of vertices (V, 3)."""
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError("a face names a vertex that is not there")
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if area.sum() <= 0:
        raise ValueError("the mesh has no surface")
    face = np.searchsorted(np.cumsum(area) / area.sum(), rng.random(count)).clip(max=len(faces) - 1)
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))
    return a[face] + u * (b - a)[face] + v * (c - a)[face]  # type: ignore[no-any-return]


def read(blob: bytes) -> tuple[NDArray, NDArray | None]:
    """Vertices (V, 3 or more) and, of a mesh, triangles (F, 3) of a file. Raises ValueError on what it does not know."""
    if blob[:3] == b"ply":
        return _ply(blob)
    if blob[:3].upper() == b"OFF":
        return _off(blob)
    if blob[:6] == b"\x93NUMPY":
        return np.load(io.BytesIO(blob), allow_pickle=False), None
    if blob[:2] == b"PK":
        with np.load(io.BytesIO(blob), allow_pickle=False) as found:
            name = next((n for n in NAMES if n in found.files), None) or next(
                (n for n in found.files if found[n].ndim == 2 and found[n].shape[1] >= 3), None
            )
            if name is None:
                raise ValueError(f"no cloud among {', '.join(found.files)}; name it points")
            return found[name], None
    raise ValueError("not a cloud of a known format")


def _ply(blob: bytes) -> tuple[NDArray, NDArray | None]:
    head, mark, body = blob.partition(b"end_header")
    if not mark:
        raise ValueError("damaged: no end of the header")
    body = body[body.index(b"\n") + 1 :]
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    kind = next((line[1] for line in lines if line[:1] == ["format"]), "")
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"] and elements:
            elements[-1][2].append(line[1:])
    if kind == "ascii":
        return _ply_text(elements, body)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(kind)
    if order is None:
        raise ValueError(f"PLY of format {kind or 'none'}")
    return _ply_binary(elements, body, order)


Elements = list[tuple[str, int, list[list[str]]]]


def _ply_text(elements: Elements, body: bytes) -> tuple[NDArray, NDArray | None]:
    rows = [line.split() for line in body.decode("ascii", "replace").splitlines() if line.strip()]
    at, vertices, faces = 0, None, None
    for name, count, properties in elements:
        part, at = rows[at : at + count], at + count
        if len(part) < count:
            raise ValueError(f"damaged: {len(part)} of {count} lines of {name}")
        if name == "vertex":
            columns = [[p[-1] for p in properties].index(axis) for axis in "xyz"]
            vertices = np.array([[float(row[c]) for c in columns] for row in part]).reshape(-1, 3)
        elif name == "face":
            faces = triangles([[int(v) for v in row[1 : 1 + int(row[0])]] for row in part])
    if vertices is None:
        raise ValueError("no vertices")
    return vertices, faces


def _ply_binary(elements: Elements, body: bytes, order: str) -> tuple[NDArray, NDArray | None]:
    at, vertices, faces = 0, None, None
    for name, count, properties in elements:
        if all(p[0] != "list" for p in properties):
            kind = np.dtype([(p[-1], order + _PLY[p[0]]) for p in properties])
            if at + kind.itemsize * count > len(body):
                raise ValueError(f"damaged: the file ends inside {name}")
            rows = np.frombuffer(body, kind, count, at)
            at += kind.itemsize * count
            if name == "vertex":
                vertices = np.stack([rows[axis] for axis in "xyz"], 1)
            continue
        if name != "face" or len(properties) != 1:
            break  # nothing of interest may follow
        number, index = (np.dtype(order + _PLY[p]) for p in properties[0][1:3])
        polygons = []
        for _ in range(count):
            size = int(np.frombuffer(body, number, 1, at)[0])
            polygons.append(np.frombuffer(body, index, size, at + number.itemsize).tolist())
            at += number.itemsize + size * index.itemsize
        faces = triangles(polygons)
    if vertices is None:
        raise ValueError("no vertices")
    return vertices, faces


def _off(blob: bytes) -> tuple[NDArray, NDArray | None]:
    text = blob.decode("ascii", "replace")
    lines = [line.partition("#")[0] for line in text[3:].splitlines()]  # "OFF490 518 0" in one line occurs, too
    rows = [line.split() for line in lines if line.strip()]
    if not rows or len(rows[0]) < 2:
        raise ValueError("damaged: no counts")
    count, more = int(rows[0][0]), int(rows[0][1])
    if len(rows) < 1 + count + more:
        raise ValueError(f"damaged: {len(rows) - 1} lines of {count + more}")
    vertices = np.array([[float(x) for x in row[:3]] for row in rows[1 : 1 + count]]).reshape(-1, 3)
    polygons = [[int(v) for v in row[1 : 1 + int(row[0])]] for row in rows[1 + count : 1 + count + more]]
    return vertices, triangles(polygons)


def triangles(polygons: Any) -> NDArray | None:
    """Polygons of any number of corners as fans of triangles (F, 3); None without any."""
    fans = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    return np.array(fans, np.int64) if fans else None
