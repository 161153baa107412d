"""What `cpu_executor` runs for each view, compiled by numba and kept on disk.

Inner loops go over contiguous memory without branches, so that LLVM vectorises them. It cannot do so for the horizontal
half of resampling, which reads from anywhere in a row: there four channels make one vector, and two small pieces of
LLVM code, `_widen` and `_filter`, move a pixel an instruction.

Legend: B images, N views, C channels, H x W pixels of the image, S x S of the view, K taps of a resampling filter.
Pixels are floats in [0, 255] and channels are separate planes, until the last step writes normalised channels side by
side.
"""

import math

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nolabel.views.draw import BRIGHTNESS, CONTRAST, HUE, SATURATION

_inner = nb.njit(nogil=True, fastmath=True)

# numba widens float32 to float64 beside a literal, so the constants are typed
_0, _HALF, _1, _2, _3, _4, _6, _255 = (np.float32(x) for x in (0, 0.5, 1, 2, 3, 4, 6, 255))
_FLOAT, _FLOATS, _BYTES = ir.FloatType(), ir.VectorType(ir.FloatType(), 4), ir.VectorType(ir.IntType(8), 4)


@nb.njit(nogil=True, fastmath=True, cache=True)
def render(bytes_, shape, start, stop, box, flip, order, jitter, gray, sigma, solarize, cubic, scale_C, shift_C, out):
    """Views number `start` to `stop` into out (N, S, S, C) float32.

    `bytes_` are the images, flat, and `shape` their (B, H, W, C); `box` to `solarize` are the columns of `Draws`;
    a channel's pixels become scale * pixel + shift.
    """
    count, height, width, channels = shape
    size = out.shape[1]
    lanes = -(-channels // 4) * 4
    most = math.ceil(4.0 * max(1.0, max(height, width) / size))  # taps of the bicubic filter
    first_x, first_y = np.empty(size, np.int64), np.empty(size, np.int64)
    weight_x, weight_y = np.empty((size, most), np.float32), np.empty((size, most), np.float32)
    # zeros: a tap beyond the box has weight 0, and what it reads must be finite
    line = np.zeros(4 * (width + most), np.float32)
    rows = np.zeros((lanes, max(height + most, size), size), np.float32)
    planes = np.empty((channels, size * size), np.float32)
    kernel, padded = np.empty(size + 1, np.float32), np.zeros(3 * size + 1, np.float32)
    for n in range(start, stop):
        top, left, h, w = box[n]
        taps_y = _taps(h, size, False, cubic, first_y, weight_y)
        taps_x = _taps(w, size, flip[n], cubic, first_x, weight_x)
        corner = ((n % count * height + top) * width + left) * channels
        for lane in range(0, lanes, 4):
            _filter_rows(
                bytes_,
                corner + lane,
                width * channels,
                w,
                h,
                channels,
                min(4, channels - lane),
                line,
                first_x,
                weight_x.reshape(-1),
                taps_x,
                rows[lane].reshape(-1),
                rows[0].size,
            )
        for c in range(channels):
            _filter_columns(rows[c], first_y, weight_y, taps_y, planes[c])
        every = planes.reshape(-1)
        if cubic:
            _scale(every, _1, _0)
        _jitter(planes, order[n], jitter[n])
        if channels == 3 and gray[n]:
            _to_gray(planes[0], planes[1], planes[2])
        if sigma[n] > 0:
            for c in range(channels):
                _blur(planes[c].reshape(size, size), sigma[n], kernel, padded, rows[0])
        if solarize[n]:
            _solarize(every)
        _write(planes, scale_C, shift_C, out[n].reshape(-1))


# ---- resampling


@_inner
def _taps(length, size, flip, cubic, first_S, weight_SK):
    """Pillow's antialiased resampling of `length` pixels to S; returns the number of taps.

    Pixel o of the view is the sum over t of weight[o, t] times pixel first[o] + t of the box.
    """
    scale = np.float32(length) / np.float32(size)
    stretch = max(scale, _1)
    support = (_2 if cubic else _1) * stretch
    shrink = _1 / stretch
    taps = math.ceil(_2 * support)
    for o in range(size):
        center = (np.float32(o) + _HALF) * scale
        first = max(0, int(center - support + _HALF))
        last = min(length, int(center + support + _HALF))
        column = size - 1 - o if flip else o
        total = _0
        for k in range(taps):
            x = abs((np.float32(first + k) + _HALF - center) * shrink)
            if cubic:  # Keys' kernel with a = -1/2
                near = (np.float32(1.5) * x - np.float32(2.5)) * x * x + _1
                far = ((np.float32(2.5) - _HALF * x) * x - _4) * x + _2
                weight = near if x < _1 else (far if x < _2 else _0)
            else:
                weight = max(_0, _1 - x)
            weight = weight if first + k < last else _0
            weight_SK[column, k] = weight
            total += weight
        for k in range(taps):
            weight_SK[column, k] /= total
        first_S[column] = first
    return taps


def _pointer(context, builder, array_type, array, index, kind):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@intrinsic
def _widen(typing, source, i, target, j):
    """target[j : j + 4] = source[i : i + 4], bytes to floats."""

    def codegen(context, builder, signature, args):
        source, i, target, j = args
        pixel = builder.load(_pointer(context, builder, signature.args[0], source, i, _BYTES), align=1)
        place = _pointer(context, builder, signature.args[2], target, j, _FLOATS)
        builder.store(builder.uitofp(pixel, _FLOATS), place, align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), codegen


@intrinsic
def _filter(typing, source, i, weights, k, taps, target, j, plane):
    """target[j + c * plane] = sum over t < taps of weights[k + t] * source[i + 4 t + c], for c < 4."""

    def codegen(context, builder, signature, args):
        source, i, weights, k, taps, target, j, plane = args
        of_source, _, of_weights, _, _, of_target, _, _ = signature.args
        undefined, zeros = ir.Constant(_FLOATS, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
        total = cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, [0.0] * 4))
        with cgutils.for_range(builder, taps) as loop:
            at = builder.add(i, builder.shl(loop.index, ir.Constant(i.type, 2)))
            pixel = builder.load(_pointer(context, builder, of_source, source, at, _FLOATS), align=4)
            weight = builder.load(_pointer(context, builder, of_weights, weights, builder.add(k, loop.index), _FLOAT))
            weight = builder.insert_element(undefined, weight, ir.Constant(ir.IntType(32), 0))
            weight = builder.shuffle_vector(weight, undefined, zeros)
            product = builder.fmul(pixel, weight, flags=("fast",))
            builder.store(builder.fadd(builder.load(total), product, flags=("fast",)), total)
        pixel = builder.load(total)
        for c in range(4):
            lane = builder.extract_element(pixel, ir.Constant(ir.IntType(32), c))
            builder.store(lane, _pointer(context, builder, of_target, target, j, _FLOAT))
            j = builder.add(j, plane)
        return context.get_dummy_value()

    return types.void(source, types.intp, weights, types.intp, types.intp, target, types.intp, types.intp), codegen


@_inner
def _filter_rows(bytes_, start, stride, w, h, channels, lanes, line, first_S, weights, taps, target, plane):
    """Resample h rows of w pixels, up to four channels, into rows of length S of the planes of `target`."""
    size = first_S.size
    most = weights.size // size
    whole = max(0, w - (3 if channels == 1 else 1))  # pixels from which four bytes do not lead beyond the images
    for y in range(h):
        begin = start + y * stride
        for x in range(whole):
            _widen(bytes_, begin + x * channels, line, 4 * x)
        for x in range(whole, w):
            for c in range(lanes):
                line[4 * x + c] = bytes_[begin + x * channels + c]
        if taps == 2:  # constants for the common numbers of taps, so that their loops unroll
            for o in range(size):
                _filter(line, 4 * first_S[o], weights, o * most, 2, target, y * size + o, plane)
        elif taps == 3:
            for o in range(size):
                _filter(line, 4 * first_S[o], weights, o * most, 3, target, y * size + o, plane)
        elif taps == 4:
            for o in range(size):
                _filter(line, 4 * first_S[o], weights, o * most, 4, target, y * size + o, plane)
        else:
            for o in range(size):
                _filter(line, 4 * first_S[o], weights, o * most, taps, target, y * size + o, plane)


@_inner
def _filter_columns(rows_YS, first_S, weight_SK, taps, plane):
    """The same down the columns."""
    size = first_S.size
    for o in range(size):
        target = plane[o * size : (o + 1) * size]
        w0, w1, row0, row1 = weight_SK[o, 0], weight_SK[o, 1], rows_YS[first_S[o]], rows_YS[first_S[o] + 1]
        for x in range(size):
            target[x] = w0 * row0[x] + w1 * row1[x]
        for k in range(2, taps):
            w0, row0 = weight_SK[o, k], rows_YS[first_S[o] + k]
            for x in range(size):
                target[x] += w0 * row0[x]


# ---- colour


@_inner
def _clamp(x):
    return min(max(x, _0), _255)


@_inner
def _unit(x):
    return min(max(x, _0), _1)


@_inner
def _luma(r, g, b):
    return np.float32(0.2989) * r + np.float32(0.587) * g + np.float32(0.114) * b


@_inner
def _mean_luma(r, g, b):
    total = _0
    for i in range(r.size):
        total += _luma(r[i], g[i], b[i])
    return total / np.float32(r.size)


@_inner
def _scale(plane, factor, offset):
    for i in range(plane.size):
        plane[i] = _clamp(factor * plane[i] + offset)


@_inner
def _saturate(r, g, b, factor):
    for i in range(r.size):
        gray = (_1 - factor) * _luma(r[i], g[i], b[i])
        r[i], g[i], b[i] = _clamp(factor * r[i] + gray), _clamp(factor * g[i] + gray), _clamp(factor * b[i] + gray)


@_inner
def _turn_hue(r, g, b, shift):
    """Turn the hue of HSV by `shift` turns in [-1/2, 1/2]; hue counts sixths of a turn from red."""
    for i in range(r.size):
        red, green, blue = r[i], g[i], b[i]
        high, low = max(max(red, green), blue), min(min(red, green), blue)
        chroma = high - low
        inverse = _1 / max(chroma, np.float32(1e-12))  # without chroma the numerators are 0 as well
        from_red = (green - blue) * inverse
        from_green = (blue - red) * inverse + _2
        from_blue = (red - green) * inverse + _4
        hue = (from_red if high == red else (from_green if high == green else from_blue)) + _6 * shift
        hue = hue + _6 if hue < _0 else hue
        hue = hue - _6 if hue >= _6 else hue
        r[i] = low + chroma * _unit(abs(hue - _3) - _1)
        g[i] = low + chroma * _unit(_2 - abs(hue - _2))
        b[i] = low + chroma * _unit(_2 - abs(hue - _4))


@_inner
def _jitter(planes, order, factors):
    """torchvision's ColorJitter; without RGB only brightness and contrast."""
    rgb = len(planes) == 3
    for op in order:
        f = factors[op]
        if op == BRIGHTNESS and f != _1:
            _scale(planes.reshape(-1), f, _0)
        elif op == CONTRAST and f != _1:
            mean = _mean_luma(planes[0], planes[1], planes[2]) if rgb else planes.sum() / np.float32(planes.size)
            _scale(planes.reshape(-1), f, (_1 - f) * mean)
        elif rgb and op == SATURATION and f != _1:
            _saturate(planes[0], planes[1], planes[2], f)
        elif rgb and op == HUE and f != _0:
            _turn_hue(planes[0], planes[1], planes[2], f)


@_inner
def _to_gray(r, g, b):
    for i in range(r.size):
        r[i] = g[i] = b[i] = _luma(r[i], g[i], b[i])


@_inner
def _solarize(plane):
    for i in range(plane.size):
        plane[i] = _255 - plane[i] if plane[i] >= np.float32(127.5) else plane[i]


# ---- the rest


@_inner
def _blur(plane_YX, sigma, kernel, padded, across_YX):
    """Gaussian blur with reflected borders: columns into `across`, then its rows back; two neighbours a pass."""
    size = len(plane_YX)
    last = size - 1
    radius = min(math.ceil(_3 * sigma), last)
    total = _0
    for q in range(radius + 1):
        kernel[q] = math.exp(-_HALF * (np.float32(q) / sigma) ** 2)
        total += kernel[q] if q == 0 else _2 * kernel[q]
    for q in range(radius + 1):
        kernel[q] /= total
    kernel[radius + 1] = _0
    for y in range(size):
        for x in range(size):
            across_YX[y, x] = kernel[0] * plane_YX[y, x]
        for q in range(1, radius + 1, 2):
            w, v, r = kernel[q], kernel[q + 1], min(q + 1, last)
            a, b, c, d = abs(y - q), last - abs(last - y - q), abs(y - r), last - abs(last - y - r)
            for x in range(size):
                across_YX[y, x] += w * (plane_YX[a, x] + plane_YX[b, x]) + v * (plane_YX[c, x] + plane_YX[d, x])
    for y in range(size):
        for x in range(size):
            padded[size + x] = across_YX[y, x]
        for q in range(1, radius + 1):
            padded[size - q] = across_YX[y, q]
            padded[size + last + q] = across_YX[y, last - q]
        for x in range(size):
            plane_YX[y, x] = kernel[0] * across_YX[y, x]
        for q in range(1, radius + 1, 2):
            w, v = kernel[q], kernel[q + 1]
            a, b, c, d = padded[size - q :], padded[size + q :], padded[size - q - 1 :], padded[size + q + 1 :]
            for x in range(size):
                plane_YX[y, x] += w * (a[x] + b[x]) + v * (c[x] + d[x])


@_inner
def _write(planes, scale_C, shift_C, out):
    channels, pixels = planes.shape
    if channels == 3:  # known strides vectorise
        r, g, b = planes[0], planes[1], planes[2]
        for i in range(pixels):
            out[3 * i] = r[i] * scale_C[0] + shift_C[0]
            out[3 * i + 1] = g[i] * scale_C[1] + shift_C[1]
            out[3 * i + 2] = b[i] * scale_C[2] + shift_C[2]
    else:
        for c in range(channels):
            for i in range(pixels):
                out[channels * i + c] = planes[c, i] * scale_C[c] + shift_C[c]
