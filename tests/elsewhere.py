"""A device that is not the CPU, for machines that have no other: `install` adds it to torch, for good in this process.

A tensor on it wraps one of the host, which computes for it. As on a GPU it cannot meet a tensor of the host in an
operation, unless that is a single number, nor be drawn by a generator of the host, nor be read as an array. `waits` says
where the host would have waited for a GPU: where it reads a value, makes a shape that depends on one, or copies from one
device to the other without `non_blocking`.
"""

import sys
from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("cpu")
"""the device, once it is installed"""
waits: Counter[str] = Counter()
"""how often the host would have waited, by what it waited for and the lines of the package that made it"""

_NAME = "elsewhere"
_HostGenerator = torch.Generator
_drawing: dict[int, torch.Generator] = {}
"""the generators of the device, which live as long as the process: C++ hands them around without their Python type"""
_library: list[torch.library.Library] = []
aten = torch.ops.aten
_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
_MIXED = {aten._to_copy, aten.copy_, *_INDEXED}
_READS = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_consecutive, aten.unique_dim,
    aten.equal, aten.is_nonzero,
}  # fmt: skip


LOWER = """addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d convolution einsum gru_cell linalg_multi_dot linear lstm_cell matmul mm mv prelu rnn_relu_cell rnn_tanh_cell
    scaled_dot_product_attention _thnn_fused_gru_cell _thnn_fused_lstm_cell"""
FULL = """acos asin binary_cross_entropy_with_logits cdist cosh cosine_embedding_loss cosine_similarity cross_entropy_loss cumprod
    cumsum dist erfinv exp expm1 frobenius_norm group_norm hinge_embedding_loss huber_loss kl_div l1_loss layer_norm
    linalg_matrix_norm linalg_vector_norm log log10 log1p log2 log_softmax logsumexp margin_ranking_loss mse_loss
    multi_margin_loss multilabel_margin_loss native_layer_norm nll_loss nll_loss2d norm nuclear_norm pdist poisson_nll_loss pow
    prod reciprocal renorm rsqrt sinh smooth_l1_loss soft_margin_loss softmax softplus sum tan triplet_margin_loss"""
WIDEST = "addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_put scatter_add stack tensordot vdot"
"""what autocast does on CUDA (torch.amp, "Autocast Op Reference"): in bfloat16, in float32, in the widest type it meets"""


class There(torch.Tensor):
    """A tensor on the device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, *args, **(kwargs or {}))

    def __repr__(self, **unused):
        return f"{_NAME}: {self.inner}"

    def __reduce_ex__(self, protocol):
        """A file holds what a map to the CPU would make of it."""
        return self.inner.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copy = There(self.inner.detach().clone())
            parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = (
                nn.Parameter(copy, self.requires_grad) if parameter else copy.requires_grad_(self.requires_grad)
            )
        return memo[id(self)]

    def tolist(self):
        _wait("tolist")
        return self.inner.detach().tolist()

    def numpy(self, **unused):
        raise TypeError(f"a tensor {_NAME} is no array; use Tensor.cpu() first")

    def __array__(self, *unused):
        return self.numpy()


class _Generator(torch.Generator):
    """A generator of either device."""

    def __new__(cls, device="cpu"):
        made = _HostGenerator()
        if torch.device(device).type != _NAME:
            return made
        made = _HostGenerator.__new__(_GeneratorThere)
        _drawing[made._cdata] = made
        return made


class _GeneratorThere(torch.Generator):
    @property
    def device(self):
        return DEVICE


def install() -> None:
    """Add the device to torch."""
    global DEVICE
    backend_registration._setup_privateuseone_for_python_backend(_NAME)
    DEVICE = torch.device(_NAME, 0)
    type(getattr(torch, _NAME)).get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])
    _library.append(torch.library.Library("_", "IMPL"))
    _library[0].fallback(_compute, dispatch_key="PrivateUse1")
    _library[0].fallback(torch.library.fallthrough_kernel, dispatch_key="AutocastPrivateUse1")
    _library.append(torch.library.Library("aten", "IMPL"))
    for made in (aten.arange, aten.eye):  # C++ would make them empty and enlarge them, which a wrapper cannot see
        for overload in (getattr(made, name) for name in made.overloads() if "out" not in name):
            _library[1].impl(overload, partial(_compute, overload), "PrivateUse1")
    for names, choose in ((LOWER, lambda found: torch.get_autocast_dtype(_NAME)), (FULL, lambda found: torch.float32),
                          (WIDEST, lambda found: torch.float32 if torch.float32 in found else torch.bfloat16)):  # fmt: skip
        for packet in (getattr(aten, name) for name in names.split()):
            for overload in (getattr(packet, name) for name in packet.overloads() if "out" not in name):
                _library[1].impl(overload, partial(_cast, overload, choose), "AutocastPrivateUse1")
    _library[1].impl(aten.binary_cross_entropy.default, _refused, "AutocastPrivateUse1")
    torch.Generator = _Generator  # type: ignore[misc]
    torch.tensor, torch.as_tensor = _in_two_steps(torch.tensor), _in_two_steps(torch.as_tensor)
    Tensor.new_tensor = _like
    Tensor.pin_memory = lambda self, *unused: self  # type: ignore[method-assign]


def _cast(func, choose, *args, **kwargs):
    """An operation under autocast, with its tensors in the type that is chosen from theirs."""
    flat, spec = tree_flatten((args, kwargs))
    dtype = choose({x.dtype for x in flat if isinstance(x, Tensor)})
    halves = (torch.float32, torch.bfloat16)
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
        flat = [x.to(dtype) if isinstance(x, There) and x.dtype in halves else x for x in flat]
        args, kwargs = tree_unflatten(flat, spec)
        return func(*args, **kwargs)


def _refused(*unused):
    raise RuntimeError("binary_cross_entropy is unsafe to autocast: take binary_cross_entropy_with_logits")


def _like(self, data, dtype=None, device=None, **more):
    """`Tensor.new_tensor`."""
    return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device, **more)


def _in_two_steps(make):
    """Tensors of numbers are made on the host and then copied; C++ would do that where Python cannot see it."""

    def made(data: Any, dtype=None, device=None, **more):
        if device is None or torch.device(device).type != _NAME:
            return make(data, dtype=dtype, device=device, **more)
        return (data if isinstance(data, There) else make(data, dtype=dtype, **more)).to(device, dtype)

    return made


def _compute(func, *args, **kwargs):
    """An operation on the host, with the manners of the device."""
    packet = func.overloadpacket
    flat, spec = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, There)]
    asked = kwargs.get("device")
    ends_there = bool(there) if asked is None else torch.device(asked).type == _NAME
    _check(func, packet, args, kwargs, tensors, there, ends_there)

    args, kwargs = tree_unflatten([_inner(x) for x in flat], spec)
    if asked is not None:
        kwargs["device"] = "cpu"
    kwargs.pop("pin_memory", None)
    out = _OWN.get(packet, func)(*args, **kwargs)
    if torch.Tag.inplace_view in func.tags and there:
        _reshape(func, *tree_unflatten(flat, spec))
    if packet is aten._to_copy:  # a copy, if both are one device, too
        shared = any(isinstance(a, Tensor) and a.data_ptr() == out.data_ptr() for a in args)
        out = out.clone() if shared else out
    known = {id(x.inner): x for x in there} | {id(x): x for x in tensors}
    return tree_map(lambda x: known.get(id(x), There(x) if ends_there else x) if isinstance(x, Tensor) else x, out)


def _reshape(func, args, kwargs):
    """What a tensor is turned into in place is to be said of its wrapper, too."""
    before = torch._C._meta_in_tls_dispatch_include()
    with no_dispatch():
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            func(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


def _check(func, packet, args, kwargs, tensors, there, ends_there):
    """Raise what a GPU would, and note waits."""
    shapes = [tuple(x.shape) for x in tensors]
    if packet not in _MIXED and there and any(not isinstance(x, There) and x.ndim for x in tensors):
        raise RuntimeError(f"{func}: tensors of two devices, {shapes}")
    drawn_by = kwargs.get("generator")
    if drawn_by is not None and (drawn_by._cdata in _drawing) != ends_there:
        raise RuntimeError(f"{func}: the generator is of another device than {shapes}")
    if packet in _READS and there:
        _wait(str(packet))
    elif packet is aten._to_copy and bool(there) != ends_there and not kwargs.get("non_blocking"):
        _wait(f"copy of {shapes[0]}")
    elif packet is aten.copy_ and len(there) == 1 and not (len(args) > 2 and args[2]):
        _wait(f"copy of {shapes[1]}")
    elif packet in _INDEXED:
        indices = [i for i in args[1] if i is not None]
        if not isinstance(args[0], There) and any(isinstance(i, There) for i in indices):
            raise RuntimeError(f"{func}: an index of another device than {shapes}")
        if there and any((i.ndim and not isinstance(i, There)) or i.dtype == torch.bool for i in indices):
            _wait("index of the host, or of a mask")


def _gru_cell(input_B3, hidden_B3, h_BD, bias=None, hidden_bias=None):
    """GPUs have a kernel for a whole cell (Cho et al., EMNLP 2014) -> new state, and what its backward needs."""
    parts = [(x if b is None else x + b).chunk(3, 1) for x, b in ((input_B3, bias), (hidden_B3, hidden_bias))]
    reset, keep = (torch.sigmoid(a + b) for a, b in zip(parts[0][:2], parts[1][:2]))
    new = torch.tanh(parts[0][2] + reset * parts[1][2])
    return new + keep * (h_BD - new), torch.cat((reset, keep, new, h_BD, parts[1][2]), 1)


def _gru_cell_backward(grad_BD, kept, biased):
    if grad_BD is None:
        return None, None, None, None, None
    reset, keep, new, h_BD, hidden_new = kept.chunk(5, 1)
    by_keep = grad_BD * (h_BD - new) * keep * (1 - keep)
    by_new = grad_BD * (1 - keep) * (1 - new.square())
    by_reset = by_new * hidden_new * reset * (1 - reset)
    gates = torch.cat((by_reset, by_keep, by_new), 1), torch.cat((by_reset, by_keep, by_new * reset), 1)
    return *gates, grad_BD * keep, *(g.sum(0) if biased else None for g in gates)


_OWN = {aten._thnn_fused_gru_cell: _gru_cell, aten._thnn_fused_gru_cell_backward: _gru_cell_backward}
"""what the CPU has no kernel for"""


def _inner(x):
    if isinstance(x, There):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == _NAME else x


def _wait(what: str) -> None:
    frame, lines = sys._getframe(1), []
    while frame and len(lines) < 3:
        package, _, file = frame.f_code.co_filename.rpartition("/nolabel/")
        lines += [f"{file}:{frame.f_lineno}"] if package else []
        frame = frame.f_back
    waits[" < ".join([what, *lines])] += 1
