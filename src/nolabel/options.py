"""What every run can be told, by flags and keywords alike."""

from dataclasses import dataclass
from pathlib import Path

PROTOCOLS = (
    "knn", "linear", "low-shot", "fine-tune", "classify", "retrieval", "zero-shot", "perplexity", "segments", "propagation"
)  # fmt: skip
"""names of evaluations"""


@dataclass(frozen=True)
class Options:
    """What every run can be told. Everything left out follows from the data, the recipe and the machine."""

    data: str = "toyworld"
    """toyworld[:easy|std|hard|upright|busy|textured] (alone: the one that suits the method), a folder of files of the method's
    kind, Parquet files, tar shards, .npz/.npy, .jsonl or .txt, a torchvision name, hf:owner/name"""
    labels: str | None = None
    """what methods that learn from labels may see: a number of them in all, or a CSV file of file,label; default: all"""
    encoder: str | None = None
    """tiny, tiny_tokens, any timm name (resnet18, vit_small_patch16_224, ...) or one of ours for other kinds of data;
    where a method takes several: video=NAME,audio=NAME"""
    size: int | None = None
    """side of images and frames that the encoder sees, in pixels; by default that of small ones (the toy world's are
    32), else the paper's in its recipe (imagenet), 224 in the one for a GPU (cifar10), 64 in tiny; patches and small crops go
    with it"""
    frames: int | None = None
    """frames of a stored clip of video; by default what the views or the recipe want, from 16 to 64"""
    fps: float | None = None
    """frames a second of a stored clip; by default 8, or what the recipe says"""
    sample_rate: int | None = None
    """samples a second of stored sound; by default the commonest of the files, at most 16,000"""
    seconds: float | None = None
    """length of stored sound; by default that of the clip beside it, or what holds nine of ten files, at most 5"""
    points: int | None = None
    """points of a stored cloud; by default at most 1,024, or what the views want"""
    words: int | None = None
    """tokens of a stored text; by default what holds nine of ten texts, at most 128"""
    vocabulary: int | None = None
    """most different tokens of the tokenizer that is trained on the data; by default 4,096"""
    recipe: str = "auto"
    """tiny, cifar10, imagenet (the paper); auto chooses by encoder, size and device, and tiny for the toy world"""
    epochs: float | None = None
    minutes: float | None = None
    """wall time of training; all schedules end with it"""
    steps: int | None = None
    batch: int | None = None
    """samples per optimiser step, over all processes; by default the recipe's, or as many as fit into the memory of the GPU"""
    accumulate: int = 1
    """forward-backward passes per optimiser step"""
    seed: int = 0
    dir: Path | None = None
    """the run folder; by default runs/METHOD-DATA"""
    init: Path | None = None
    """weights (.safetensors or a state dict) that the encoder starts from; of one of several: audio=FILE"""
    pretrained: bool = False
    """start from timm's pretrained weights"""
    precision: str = "auto"
    """auto (bfloat16 where the device is fast at it), bf16, fp32"""
    compile: bool = False
    """torch.compile the networks"""
    device: str = "auto"
    """auto, cpu, cuda"""
    processes: int | None = None
    """processes on this machine that share the batch; by default one, and one a CPU core for the tiny encoders"""
    shard: bool = False
    """deal weights, gradients and optimiser state out over the processes (FSDP2)"""
    cache: str = "auto"
    """decode the samples once into memory-mapped files: auto (when they fit), always, never"""
    log_every: int = 50
    """steps between log lines, or fewer where they take over 10 s"""
    checkpoint_minutes: float = 5.0
    keep: int = 2
    """checkpoints that stay"""
    nonfinite: str = "stop"
    """stop at, or skip, steps whose loss or gradient is not finite"""
    evaluate: tuple[str, ...] = ("knn", "linear")
    """protocols run at the end, of knn, linear, low-shot, fine-tune; empty for none. What only some methods allow (classify,
    retrieval, zero-shot, perplexity, segments, propagation) is judged wherever it suits method and data"""
    report: bool = True
    """write report.html at the end"""
    quiet: bool = False
