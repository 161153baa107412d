"""Video views: frames of a stored clip, taken by count and stride from a random start, each clip with one draw.

Crop, flip and colours are those of `views.image`; what was drawn for a clip holds for all of its frames. Contrast turns
around the mean of each frame, as torchvision has it for a clip of images.

Strides and gaps count stored frames, 8 a second where nothing else is said (`data.settle.FPS`). Papers mostly count those of
a recording at 30: their every fourth frame is every frame here.

Legend: B samples, T frames as stored, F frames of a view, C channels, S side in pixels.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.types import Batch, UserError
from nolabel.views.color import rgb_to_lab
from nolabel.views.draw import Draws, Pair, draw
from nolabel.views.image import OneView, execute
from nolabel.views.image import plain as plain_images


@dataclass(frozen=True)
class OneClip(OneView):
    """One clip a sample, under the key `x`. Its defaults crop and flip only, as VideoMAE does."""

    reads: ClassVar[tuple[str, ...]] = ("video",)
    frames: int = 16
    """F"""
    stride: int = 1
    """stored frames from one frame of the view to the next; less where the stored clip is too short for it"""

    @property
    def stored(self) -> int:
        """Stored frames that it wants of a sample."""
        return self.frames * self.stride

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, C) -> `x` float32 (B, C, F, size, size), channels last in memory."""
        return {**_others(batch), "x": self.clip(batch["video"], rng)}

    def plain(self, batch: Batch) -> Batch:
        """`video` uint8 (B, T, H, W, C) -> `video` float32 (B, C, F, size, size), the frames in the middle."""
        return {"video": self.middle(batch["video"])}

    def clip(self, video_BTHWC: Tensor, rng: torch.Generator, start_B: Tensor | None = None) -> Tensor:
        """A clip from a random start, or from the share `start` in [0, 1) of all starts: (B, C, F, size, size)."""
        index_BF = self.when(video_BTHWC, random_start(video_BTHWC, rng) if start_B is None else start_B)
        return self.render(take_frames(video_BTHWC, index_BF), rng)

    def when(self, video_BTHWC: Tensor, start_B: Tensor) -> Tensor:
        """The numbers of the stored frames (B, F) of clips that begin at the share `start` of all starts."""
        return frame_numbers(video_BTHWC.shape[1], self.frames, self.stride, start_B, self.lasting(video_BTHWC))

    def lasting(self, video_BTHWC: Tensor) -> Tensor | None:
        """How many of the stored frames of each sample may be taken (B,); None for all."""
        return None

    def render(self, video_BFHWC: Tensor, rng: torch.Generator) -> Tensor:
        """Augmented frames, one draw a clip: uint8 (B, F, H, W, C) -> float32 (B, C, F, size, size)."""
        count, frames, height, width, _ = video_BFHWC.shape
        drawn = draw([self], count, height, width, rng, video_BFHWC.device)
        each = Draws(*(row.repeat_interleave(frames, 0) for row in drawn))
        return execute(video_BFHWC.flatten(0, 1), [self], each).unflatten(0, (count, frames)).transpose(1, 2)

    def middle(self, video_BTHWC: Tensor, frames: int | None = None) -> Tensor:
        """The clip, or any number of frames, in the middle without augmentation: (B, C, F, size, size)."""
        half_B = torch.full((len(video_BTHWC),), 0.5, device=video_BTHWC.device)
        lasting_B = self.lasting(video_BTHWC)
        index_BF = frame_numbers(video_BTHWC.shape[1], frames or self.frames, self.stride, half_B, lasting_B)
        clip = take_frames(video_BTHWC, index_BF)
        x = plain_images(clip.flatten(0, 1), self.test_size or self.size, self.mean, self.std)
        return x.unflatten(0, index_BF.shape).transpose(1, 2)

    def middle_image(self, video_BTHWC: Tensor) -> Tensor:
        """The frame in the middle without augmentation (B, C, size, size), for encoders of images."""
        return self.middle(video_BTHWC, frames=1)[:, :, 0]


@dataclass(frozen=True)
class Clips(OneClip):
    """Several clips a sample, each from a start and with a draw of its own, under `clips`.

    The defaults are those of the large-scale study (Feichtenhofer et al. 2021, appendix B).
    """

    scale: Pair = (0.2, 0.766)
    jitter: tuple[float, float, float, float] = (0.6, 0.6, 0.6, 0.15)
    gray: float = 0.2
    blur: float = 0.5
    frames: int = 8
    stride: int = 2
    clips: int = 2
    """R"""
    together: bool = False
    """all clips of a sample begin at one time: they differ in augmentation only (rho = 1 of the study)"""

    @property
    def stored(self) -> int:
        """Four times the length of a clip where they are to be of different times: then every second pair does not overlap."""
        return self.frames * self.stride * (1 if self.together or self.clips == 1 else 4)

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, C) -> `clips` float32 (R, B, C, F, size, size)."""
        video = batch["video"]
        first = random_start(video, rng)
        starts = [first, *(first if self.together else random_start(video, rng) for _ in range(self.clips - 1))]
        return {**_others(batch), "clips": torch.stack([self.clip(video, rng, start_B) for start_B in starts])}

    def lasting(self, video_BTHWC: Tensor) -> Tensor:
        """Those before the copies of the last frame that fill up short recordings: much is stored, and clips are short."""
        moves_BT = changes(video_BTHWC) > 0
        return (moves_BT * torch.arange(2, video_BTHWC.shape[1] + 1, device=moves_BT.device)).amax(1)


@dataclass(frozen=True)
class TwoDirections(OneClip):
    """One clip as it was under `a` and the same clip with its frames in reverse under `b`.

    With `motion` the channels are gray, its change since the frame before, and the size of this change, computed after
    the reversal: a reversed list of changes is not the list of changes of the reversed clip.
    """

    motion: bool = True
    """see the frames as gray and changes of gray instead of colours"""

    @property
    def stored(self) -> int:
        """The clip, and a frame before it of which the first change is told."""
        return self._longer().frames * self.stride

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, C) -> `a`, `b` float32 (B, C, F, size, size), C = 3 with `motion`."""
        x = self._longer().clip(batch["video"], rng)
        return {**_others(batch), "a": self._seen(x), "b": self._seen(x.flip(2))}

    def plain(self, batch: Batch) -> Batch:
        """`video` uint8 (B, T, H, W, C) -> `video` float32 (B, C, F, size, size), forwards."""
        return {"video": self._seen(self._longer().middle(batch["video"]))}

    def _longer(self) -> OneClip:
        return replace(self, frames=self.frames + self.motion)  # the first frame has no change

    def _seen(self, x_BCFSS: Tensor) -> Tensor:
        if not self.motion:
            return x_BCFSS
        gray_BFSS = x_BCFSS.mean(1)
        change_BFSS = gray_BFSS.diff(dim=1)
        return torch.stack((gray_BFSS[:, 1:], change_BFSS, change_BFSS.abs()), 1)


@dataclass(frozen=True)
class FiveFrames(OneClip):
    """Five frames a < b < c < d < e of a moving part of the clip, under `frames` (Misra et al. 2016, section 3)."""

    frames: int = 5
    """of the plain view"""
    stride: int = 5
    """of the plain view"""
    gap: tuple[int, int] = (2, 8)
    """least and largest number of stored frames from one to the next, at most a quarter of the clip; the paper's b and d are
    half a second to two seconds apart"""
    busy: bool = True
    """choose the window with a probability in proportion to how much its pixels change"""

    @property
    def stored(self) -> int:
        """Four of the largest gaps."""
        return max(4 * self.gap[1] + 1, self.frames * self.stride)

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, C) -> `frames` float32 (B, C, 5, size, size)."""
        video = batch["video"]
        index_B5 = self.choose(video, rng)
        return {**_others(batch), "frames": self.render(take_frames(video, index_B5), rng)}

    def choose(self, video_BTHWC: Tensor, rng: torch.Generator) -> Tensor:
        """The numbers of the five frames (B, 5)."""
        count, stored = video_BTHWC.shape[:2]
        if stored < 5:
            raise UserError(f"five frames are needed of every clip, and the stored clips have {stored}")
        most = min(self.gap[1], (stored - 1) // 4)
        least = min(self.gap[0], most)
        u = torch.rand(5, count, generator=rng, device=rng.device).to(video_BTHWC.device, non_blocking=True)
        gap_4B = least + (u[:4] * (most - least + 1)).long()
        offset_5B = F.pad(gap_4B.cumsum(0), (0, 0, 1, 0))
        span_B1 = offset_5B[-1][:, None]
        start_S = torch.arange(stored - 4 * least, device=u.device)
        end_BS = (start_S + span_B1).clamp(max=stored - 1)
        weight_BS = torch.ones_like(end_BS, dtype=torch.float32)
        if self.busy:
            upto_BT = F.pad(changes(video_BTHWC).cumsum(1), (1, 0))
            weight_BS = upto_BT.gather(1, end_BS) - upto_BT[:, : len(start_S)] + 1e-3
        weight_BS = weight_BS * (start_S + span_B1 < stored)
        share_BS = weight_BS.cumsum(1)
        first_B = (share_BS <= u[4, :, None] * share_BS[:, -1:]).sum(1).clamp(max=len(start_S) - 1)
        first_B = torch.minimum(first_B, stored - 1 - span_B1[:, 0])  # rounding must not lead out of the clip
        return (first_B + offset_5B).T


@dataclass(frozen=True)
class PatchGraph(OneClip):
    """Overlapping patches of every frame as the nodes of a graph, under `nodes` (Jabri et al. 2020, section 3.1).

    Each node is cropped anew, apart for every frame: else what is cut at its border would tell where it is.
    """

    size: int = 256
    scale: Pair = (0.5, 1.0)
    frames: int = 4
    patch: int = 64
    """p, side of a node in pixels"""
    step: int = 32
    """pixels from one node to the next"""
    area: Pair = (0.7, 0.9)
    """range of the share of a node's area that its own crop keeps"""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, C) -> `nodes` float32 (B, F, N, C, p, p), nodes row by row."""
        x_BCFSS = self.clip(batch["video"], rng)
        return {**_others(batch), "nodes": self.nodes(x_BCFSS, rng)}

    def plain(self, batch: Batch) -> Batch:
        """`video` uint8 (B, T, H, W, C) -> `image` float32 (B, C, size, size), the frame in the middle."""
        return {"image": self.middle_image(batch["video"])}

    def nodes(self, x_BCFSS: Tensor, rng: torch.Generator) -> Tensor:
        """Frames (B, C, F, S, S) -> nodes (B, F, N, C, p, p)."""
        count, _, frames, side = x_BCFSS.shape[:4]
        row = torch.arange(0, side - self.patch + 1, self.step, device=x_BCFSS.device)
        corner_N2 = torch.cartesian_prod(row, row)
        u = torch.rand(4, count * frames, len(corner_N2), generator=rng, device=rng.device)
        u_area, u_shape, u_y, u_x = u.to(x_BCFSS.device, non_blocking=True)
        area = self.area[0] + (self.area[1] - self.area[0]) * u_area
        shape = torch.exp((2 * u_shape - 1) * math.log(4 / 3))
        h, w = (self.patch * (area * shape).sqrt()), (self.patch * (area / shape).sqrt())
        h, w = h.clamp(max=self.patch), w.clamp(max=self.patch)
        top = corner_N2[:, 0] + u_y * (self.patch - h)
        left = corner_N2[:, 1] + u_x * (self.patch - w)
        at = (torch.arange(self.patch, device=u_y.device) + 0.5) / self.patch
        y = (top[..., None] + at * h[..., None]) * (2 / side) - 1
        x = (left[..., None] + at * w[..., None]) * (2 / side) - 1
        where = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., None]), -1)
        images = x_BCFSS.transpose(1, 2).flatten(0, 1)
        seen = F.grid_sample(images, where.flatten(1, 2), padding_mode="border", align_corners=False)
        seen = seen.unflatten(2, (len(corner_N2), self.patch)).transpose(1, 2)
        return seen.unflatten(0, (count, frames))


@dataclass(frozen=True)
class LightAndColorClip(OneClip):
    """The light of a clip, and its colours apart from it, of CIE Lab (Vondrick et al. 2018, section 3.2)."""

    size: int = 256
    scale: Pair = (0.5, 1.0)
    frames: int = 4

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, 3) -> `light` float32 (B, 1, F, size, size) in [-1, 1], `ab` (B, 2, F, ...)."""
        light, ab = _light_and_ab(self._unnormalised().clip(batch["video"], rng))
        return {**_others(batch), "light": light, "ab": ab}

    def plain(self, batch: Batch) -> Batch:
        """`video` uint8 (B, T, H, W, 3) -> `image` float32 (B, 1, size, size), the light of the frame in the middle."""
        return {"image": _light_and_ab(self._unnormalised().middle(batch["video"], frames=1))[0][:, :, 0]}

    def _unnormalised(self) -> "LightAndColorClip":
        return replace(self, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _light_and_ab(x_BCFSS: Tensor) -> tuple[Tensor, Tensor]:
    lab_BCFSS = rgb_to_lab(x_BCFSS.transpose(1, 2)).transpose(1, 2)
    return (lab_BCFSS[:, :1] - 50) / 50, lab_BCFSS[:, 1:]


def frame_numbers(stored: int, frames: int, stride: int, start_B: Tensor, lasting_B: Tensor | None = None) -> Tensor:
    """Numbers (B, F) of `frames` out of `stored` frames, `stride` apart or as far as fits, from shares of all starts.

    start    (B,) in [0, 1): 0 is the first possible start, the largest value below 1 the last; all are equally likely
    lasting  (B,) how many of the stored frames count, by default all; where they are too few it is the first start
    """
    if frames > stored:
        raise UserError(f"a view of {frames} frames does not fit into stored clips of {stored} frames")
    stride = min(stride, (stored - 1) // (frames - 1)) if frames > 1 else 1
    starts_B = (torch.full_like(start_B, stored).long() if lasting_B is None else lasting_B) - (frames - 1) * stride
    starts_B = starts_B.clamp(min=1)
    first_B = torch.minimum((start_B * starts_B).long(), starts_B - 1)
    return first_B[:, None] + stride * torch.arange(frames, device=start_B.device)


def random_start(video_BTHWC: Tensor, rng: torch.Generator) -> Tensor:
    """A uniform share (B,) of all possible starts, made where the generator lives."""
    return torch.rand(len(video_BTHWC), generator=rng, device=rng.device).to(video_BTHWC.device, non_blocking=True)


def take_frames(video_BTHWC: Tensor, index_BF: Tensor) -> Tensor:
    """Frames by number, apart for each sample: (B, F, H, W, C)."""
    return video_BTHWC[torch.arange(len(index_BF), device=index_BF.device)[:, None], index_BF]


def changes(video_BTHWC: Tensor, every: int = 4) -> Tensor:
    """Mean absolute change from each frame to the next, on every fourth row and column: (B, T - 1), 0 to 255."""
    thin = video_BTHWC[:, :, ::every, ::every].float()
    return thin.diff(dim=1).abs().mean((2, 3, 4))


def _others(batch: Batch) -> Batch:
    return {key: value for key, value in batch.items() if key != "video"}
