"""Draws scenes of the toy world: an array of objects and one of backgrounds in, pixels and instance ids out.

The caller says where things are, so one drawing routine serves still images and the frames of a video. Lengths are in
units of the image side, x to the right and y down, the image being 0 .. 1; angles are in radians, colours in 0 .. 1.

An object is a row of `OBJECT` fields; row 0 is nearest to the viewer and is painted last. A scene is a row of `SCENE`
fields. Edges are smooth without supersampling: the coverage of a pixel is its signed distance to the outline.
All compiled code lives in this file, because numba's cache does not notice changes in other files.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

OBJECT = ("x", "y", "radius", "angle", "shape", "material", "id", "frequency", "phase_u", "phase_v", "r", "g", "b",
          "dr", "dg", "db")  # fmt: skip
"""radius <= 0: absent; material: number of the texture; d*: amplitude of the texture; id: written where it is seen"""
SCENE = ("pattern", "frequency", "angle", "phase_u", "phase_v", "r", "g", "b", "dr", "dg", "db", "gain", "gain_x",
         "gain_y", "x", "y")  # fmt: skip
"""pattern: number of the background texture; gain_x, gain_y: change of the lighting gain across the image, which stays
where it is; x, y: shift of the background"""
BAR = 8
"""number of the shape that only occluders have, after those of `factors.SHAPES`"""
EXTENT = 1.2
"""no shape reaches farther from its centre than this many radii"""

_jit = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def distance(shape: int, x: float, y: float) -> float:
    """Distance to the outline of a shape of radius 1, negative inside; a lower bound of it near outer corners."""
    if shape == 0:  # disc
        return math.sqrt(x * x + y * y) - 0.85
    if shape == 1:  # square
        return max(abs(x), abs(y)) - 0.75
    if shape == 2:  # triangle, one corner up
        return max(y, 0.8660254037844386 * abs(x) - 0.5 * y) - 0.575
    if shape == 3:  # star: fold into half of one of the five arms, which has one edge
        x = abs(x)
        y = -y
        fold = 2 * max(0.8090169943749475 * x - 0.5877852522924731 * y, 0.0)
        x -= 0.8090169943749475 * fold
        y += 0.5877852522924731 * fold
        fold = 2 * max(-0.8090169943749475 * x - 0.5877852522924731 * y, 0.0)
        x = abs(x + 0.8090169943749475 * fold)
        y += 0.5877852522924731 * fold
        # The edge from the tip (0, 1.15) to the notch 0.5 (sin 36, cos 36).
        return 0.9316539616 * x + 0.3633274545 * (y - 1.15)
    if shape == 4:  # cross
        x = abs(x)
        y = abs(y)
        return min(max(x - 0.95, y - 0.33), max(x - 0.33, y - 0.95))
    if shape == 5:  # ring
        return abs(math.sqrt(x * x + y * y) - 0.775) - 0.225
    if shape == 6:  # ell: a square without one corner
        return max(max(abs(x), abs(y)) - 0.85, min(x, -y) + 0.15)
    if shape == 7:  # hexagon
        return max(abs(y), 0.8660254037844386 * abs(x) + 0.5 * abs(y)) - 0.82
    return max(abs(x) - EXTENT, abs(y) - 0.15)  # bar


@_jit
def _wave(x: float) -> float:
    """A triangle wave of period 1 with its tips cut off, -1 .. 1: between a sine and a square wave."""
    return min(max(2 * (4 * abs(x - math.floor(x) - 0.5) - 1), -1.0), 1.0)


@_jit
def _lattice(i: int, j: int) -> float:
    """A fixed pseudo-random value -1 .. 1 at a lattice point."""
    h = np.uint32(i) * np.uint32(374761393) + np.uint32(j) * np.uint32(668265263)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return np.float64((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFF)) / 32767.5 - 1


@_jit
def _noise(u: float, v: float) -> float:
    """Value noise -1 .. 1: random values on a lattice with a smooth step between."""
    i, j = math.floor(u), math.floor(v)
    u -= i
    v -= j
    u *= u * (3 - 2 * u)
    v *= v * (3 - 2 * v)
    i, j = int(i), int(j)
    top = (1 - u) * _lattice(i, j) + u * _lattice(i + 1, j)
    bottom = (1 - u) * _lattice(i, j + 1) + u * _lattice(i + 1, j + 1)
    return (1 - v) * top + v * bottom


@_jit
def pattern(family: int, u: float, v: float) -> float:
    """A texture -1 .. 1 at (u, v), of period about 1: plain, stripes, checker, noise, dots, slope."""
    if family == 1:
        return _wave(u)
    if family == 2:
        return _wave(u) * _wave(v)
    if family == 3:
        return _noise(u, v)
    if family == 4:
        x = u - math.floor(u) - 0.5
        y = v - math.floor(v) - 0.5
        return min(max(1 - 16 * (x * x + y * y), -0.5), 1.0)
    if family == 5:
        return u
    return 0.0


@_jit
def _background(canvas, scene):
    """Fill canvas (S, S, 3) with a pattern around a colour."""
    size = canvas.shape[0]
    family, frequency, phase_u, phase_v = int(scene[0]), scene[1], scene[3], scene[4]
    if family == 5:
        frequency, phase_u, phase_v = 2.0, 0.0, 0.0  # one slope from edge to edge
    c, s = frequency * math.cos(scene[2]), frequency * math.sin(scene[2])
    left, step_u, step_v = 0.5 / size - 0.5 - scene[14], c / size, -s / size
    # In float32, and written out, this loop is half as long.
    r, g, b = np.float32(scene[5]), np.float32(scene[6]), np.float32(scene[7])
    dr, dg, db = np.float32(scene[8]), np.float32(scene[9]), np.float32(scene[10])
    for i in range(size):
        y = (i + 0.5) / size - 0.5 - scene[15]
        u, v = phase_u + s * y + c * left, phase_v + c * y - s * left
        for j in range(size):
            value = np.float32(pattern(family, u + j * step_u, v + j * step_v))
            canvas[i, j, 0] = r + dr * value
            canvas[i, j, 1] = g + dg * value
            canvas[i, j, 2] = b + db * value


@_jit
def _paint(canvas, ids, thing):
    """Paint one object over canvas (S, S, 3) and write its id into ids (S, S), inside its window only."""
    size = canvas.shape[0]
    radius = thing[2]
    c, s = math.cos(thing[3]) / radius, math.sin(thing[3]) / radius
    shape, family = int(thing[4]), int(thing[5])
    frequency, phase_u, phase_v = thing[7], thing[8], thing[9]
    if family == 5:
        frequency, phase_u, phase_v = 1.0, 0.0, 0.0  # sheen: light from one side
    reach = EXTENT * radius + 1 / size
    top, bottom = max(0, int((thing[1] - reach) * size)), min(size, int((thing[1] + reach) * size) + 1)
    left, right = max(0, int((thing[0] - reach) * size)), min(size, int((thing[0] + reach) * size) + 1)
    for i in range(top, bottom):
        y = (i + 0.5) / size - thing[1]
        for j in range(left, right):
            x = (j + 0.5) / size - thing[0]
            u, v = c * x + s * y, c * y - s * x
            cover = min(0.5 - distance(shape, u, v) * radius * size, 1.0)
            if cover <= 0:
                continue
            value = pattern(family, frequency * u + phase_u, frequency * v + phase_v)
            for k in range(3):
                colour = thing[10 + k] + thing[13 + k] * value
                canvas[i, j, k] += cover * (colour - canvas[i, j, k])
            if cover >= 0.5:
                ids[i, j] = int(thing[6])


@_jit
def _light(canvas, scene, image):
    """Multiply canvas (S, S, 3) by the lighting gain and write it as bytes into image (S, S, 3)."""
    size = canvas.shape[0]
    gain = np.empty(3 * size, np.float32)
    for i in range(size):
        middle = scene[11] + scene[13] * ((i + 0.5) / size - 0.5)
        for j in range(size):
            here = np.float32(255 * (middle + scene[12] * ((j + 0.5) / size - 0.5)))
            gain[3 * j], gain[3 * j + 1], gain[3 * j + 2] = here, here, here
        # A flat loop over one row, which the compiler turns into vector instructions.
        source, target = canvas[i].reshape(-1), image[i].reshape(-1)
        for j in range(3 * size):
            target[j] = np.uint8(min(max(gain[j] * source[j] + np.float32(0.5), np.float32(0)), np.float32(255)))


@_jit
def _draw(objects, scenes, images, ids):
    size = images.shape[1]
    canvas = np.empty((size, size, 3), np.float32)
    for b in range(len(images)):
        scene = scenes[b]
        _background(canvas, scene)
        for k in range(objects.shape[1] - 1, -1, -1):
            if objects[b, k, 2] > 0:
                _paint(canvas, ids[b], objects[b, k])
        _light(canvas, scene, images[b])


def draw(objects: NDArray[np.float64], scenes: NDArray[np.float64], size: int) -> tuple[NDArray, NDArray]:
    """Objects (B, K, 16) on scenes (B, 16) -> images uint8 (B, size, size, 3), instance ids uint8 (B, size, size)."""
    images = np.empty((len(objects), size, size, 3), np.uint8)
    ids = np.zeros((len(objects), size, size), np.uint8)
    _draw(np.ascontiguousarray(objects, np.float64), np.ascontiguousarray(scenes, np.float64), images, ids)
    return images, ids


@_jit
def _flow(objects, scenes, later_objects, later_scenes, ids, flow):
    size, zero = ids.shape[1], np.float32(0)
    motion = np.zeros((256, 4))  # of each id: the flow at pixel (j, i) is (a j - b i + c, b j + a i + d)
    for n in range(len(ids)):
        motion[0, 2] = size * (later_scenes[n, 14] - scenes[n, 14])
        motion[0, 3] = size * (later_scenes[n, 15] - scenes[n, 15])
        for k in range(objects.shape[1]):
            now, later = objects[n, k], later_objects[n, k]
            if now[2] > 0:
                a = later[2] / now[2] * math.cos(later[3] - now[3])
                b = later[2] / now[2] * math.sin(later[3] - now[3])
                x, y = 0.5 - now[0] * size, 0.5 - now[1] * size  # of pixel (0, 0), from the centre of the object
                c, d = later[0] * size - 0.5 + a * x - b * y, later[1] * size - 0.5 + b * x + a * y
                motion[int(now[6]), :] = np.array((a - 1, b, c, d))
        for i in range(size):
            last, scale, turn, x, y = -1, zero, zero, zero, zero
            row, where = flow[n, i], ids[n, i]
            for j in range(size):
                k = where[j]
                if k != last:  # runs of one id are long
                    last = k
                    scale, turn = np.float32(motion[k, 0]), np.float32(motion[k, 1])
                    x = np.float32(motion[k, 2] - motion[k, 1] * i)
                    y = np.float32(motion[k, 3] + motion[k, 0] * i)
                row[j, 0] = scale * np.float32(j) + x
                row[j, 1] = turn * np.float32(j) + y


def flow_between(
    objects: NDArray[np.float64],
    scenes: NDArray[np.float64],
    later_objects: NDArray[np.float64],
    later_scenes: NDArray[np.float64],
    ids: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """Where what a pixel shows goes: float32 (B, S, S, 2), pixels to the right and down, of `ids` (B, S, S) as drawn.

    Exact: rigid motion of the objects, parallax of the background. What is hidden later has its flow too.
    """
    flow = np.empty((*ids.shape, 2), np.float32)
    _flow(objects, scenes, later_objects, later_scenes, ids, flow)
    return flow
