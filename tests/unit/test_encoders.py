"""Image encoders: names, shapes, stems, tokens, weights in and out, batch norm statistics."""

import math

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from nolabel.core import Encoder, TokenEncoder, UserError
from nolabel.encoders import ConvEncoder, ViTEncoder, image_encoder, load_weights, timm_state_dict
from nolabel.encoders.vit import fixed_positions
from nolabel.networks.batchnorm import calibrate_batchnorm
from nolabel.networks.transformer import sincos_positions


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def vit():
    return image_encoder("vit_tiny_patch16_224", 32, depth=2).eval()


# shapes and names


@pytest.mark.parametrize("name", ["tiny", "tiny_tokens", "tiny_hybrid"])
@pytest.mark.parametrize(("size", "channels"), [(16, 3), (32, 1), (32, 4), (96, 3), (224, 3)])
def test_tiny_encoders_take_any_size_and_channels(name, size, channels):
    encoder = image_encoder(name, size, channels)
    y = encoder(torch.randn(2, channels, size, size))
    assert y.shape == (2, encoder.dim) and (encoder.size, encoder.channels) == (size, channels)
    y.square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert isinstance(encoder, Encoder) and timm_state_dict(encoder) is None
    assert 0.25e6 < sum(p.numel() for p in image_encoder(name).parameters()) < 0.9e6


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "regnetx_002", "swin_s3_tiny_224"])
def test_dim_is_the_width_of_the_output(name):
    size = 224 if name.startswith("swin") else 64
    encoder = image_encoder(name, size).eval()
    assert isinstance(encoder, ConvEncoder)
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, size, size)).shape == (1, encoder.dim)


def test_unknown_names_get_suggestions():
    with pytest.raises(UserError, match="resnet50"):
        image_encoder("resnet_50")
    with pytest.raises(UserError, match="tiny_tokens"):
        image_encoder("tiny_token")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "tiny", "size": 8}, "at least 16 px"),
        ({"name": "tiny", "pretrained": True}, "no pretrained weights"),
        ({"name": "tiny_tokens", "size": 36}, "multiple of 8"),
        ({"name": "vit_tiny_patch16_224", "size": 36}, "multiple of 8"),
        ({"name": "vit_tiny_patch16_224", "size": 100, "depth": 1}, "take --size 96 or --size 112"),
        ({"name": "mobilenetv3_small_050", "size": 32, "stem": "small"}, "no stem of a ResNet"),
        ({"name": "resnet10t", "size": 32, "nonsense": 1}, "nonsense"),
    ],
)
def test_what_the_user_can_mend_is_said_in_a_line(arguments, says):
    with pytest.raises(UserError, match=says) as caught:
        image_encoder(**arguments)
    assert "\n" not in str(caught.value)


def test_pretrained_without_network_is_said_in_a_line(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match="no route to host; without network give a file of weights as init"):
        image_encoder("resnet18", 64, pretrained=True)


# stems


@pytest.mark.parametrize("name", ["resnet10t", "resnet18"])
def test_small_stem_keeps_the_resolution(name):
    def side(encoder, size):
        return encoder.net.forward_features(torch.zeros(1, 3, size, size)).shape[-1]

    with torch.no_grad():
        assert side(image_encoder(name, 32).eval(), 32) == 4
        assert side(image_encoder(name, 32, stem="imagenet").eval(), 32) == 1
        assert side(image_encoder(name, 128).eval(), 128) == 4
        assert side(image_encoder(name, 128, stem="small").eval(), 128) == 16


# tokens


def test_vits_are_token_encoders(vit):
    assert isinstance(vit, ViTEncoder) and isinstance(vit, TokenEncoder) and isinstance(vit, Encoder)
    assert (vit.patch, vit.grid, vit.length, vit.patch_dim, vit.dim) == (4, (8, 8), 64, 48, 192)
    assert image_encoder("vit_tiny_patch16_224", 64, patch=16, depth=1).grid == (4, 4)
    assert image_encoder("vit_tiny_patch16_224", 96, depth=1).grid == (6, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_patchify_is_a_naive_loop_and_has_an_inverse(channels):
    encoder = image_encoder("tiny_tokens", 16, channels)
    x = torch.randn(2, channels, 16, 16)
    patches = encoder.patchify(x)
    assert patches.shape == (2, encoder.length, encoder.patch_dim)
    p = encoder.patch
    for row in range(8):
        for column in range(8):
            naive = [
                x[:, c, row * p + py, column * p + px] for py in range(p) for px in range(p) for c in range(channels)
            ]
            assert torch.equal(patches[:, 8 * row + column], torch.stack(naive, 1))
    assert torch.equal(encoder.unpatchify(patches), x)
    with pytest.raises(UserError, match="views of 8 px for an encoder of 16 px"):
        encoder.patchify(x[..., :8, :8])


VARIANTS = {
    "vit_tiny_patch16_224": {},
    "vit_small_patch14_reg4_dinov2": {"init_values": 0.5},  # registers, no position of the class token, LayerScale
    "vit_base_patch16_clip_224": {"embed_dim": 192, "num_heads": 3},  # norm before the blocks
    "vit_base_patch16_gap_224": {"embed_dim": 192, "num_heads": 3},  # no class token, norm after pooling
    "vit_base_patch16_siglip_224": {"embed_dim": 192, "num_heads": 3},  # no class token, attention pooling
}


@pytest.mark.parametrize("name", VARIANTS)
def test_both_halves_make_timms_forward(name):
    encoder = image_encoder(name, 32, depth=2, **VARIANTS[name]).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), encoder.net(x))
        h = encoder.encode(encoder.embed(x))
        assert h.shape == (2, 1 + encoder.length, encoder.dim)
        if encoder.net.has_class_token:
            features = encoder.net.forward_features(x)
            torch.testing.assert_close(h[:, 0], features[:, 0])
            torch.testing.assert_close(h[:, 1:], features[:, encoder.net.num_prefix_tokens :])
        assert encoder.encode(encoder.embed(x)[:, :5]).shape == (2, 6, encoder.dim)


def test_a_hidden_patch_does_not_reach_the_kept_tokens(vit):
    x, keep = torch.randn(2, 3, 32, 32), torch.arange(0, 64, 4)
    other = x.clone()
    other[:, :, :4, 4:8] += 1.0  # patch 1 is not kept
    with torch.no_grad():
        h, again = (vit.encode(vit.embed(image)[:, keep]) for image in (x, other))
        assert torch.equal(h, again)
        other[:, :, :4, :4] += 1.0  # patch 0 is
        assert not torch.equal(h, vit.encode(vit.embed(other)[:, keep]))


def test_positions_travel_with_their_tokens(vit):
    tokens, order = vit.embed(torch.randn(2, 3, 32, 32)), torch.randperm(64)
    with torch.no_grad():
        h, again = vit.encode(tokens), vit.encode(tokens[:, order])
    torch.testing.assert_close(again[:, 1:], h[:, 1:][:, order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again[:, 0], h[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "tiny_tokens"])
def test_crops_of_other_sizes(name, vit):
    encoder = vit if name.startswith("vit") else image_encoder(name, 32).eval()
    with torch.no_grad():
        for size in (16, 32, 48):
            x = torch.randn(2, 3, size, size)
            tokens = encoder.embed(x)
            assert tokens.shape == (2, (size // 4) ** 2, encoder.dim)
            torch.testing.assert_close(encoder(x), encoder.net(x))
            assert encoder.attention(x).shape == (2, encoder.net.blocks[0].attn.num_heads, (size // 4) ** 2)


def test_pool_mean(vit):
    mean = image_encoder("vit_tiny_patch16_224", 32, depth=2, pool="mean").eval()
    mean.load_state_dict(vit.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(mean(x), vit.encode(vit.embed(x))[:, 1:].mean(1))
        torch.testing.assert_close(mean(x), mean.net(x))


def test_attention_is_of_the_last_block(vit):
    x = torch.randn(2, 3, 32, 32)
    seen = []
    attn = vit.net.blocks[-1].attn
    hook = attn.register_forward_pre_hook(lambda attn, args: seen.append(args[0]))
    with torch.no_grad():
        vit(x)
        hook.remove()
        q, k, _ = attn.qkv(seen[0]).unflatten(-1, (3, 3, 64)).permute(2, 0, 3, 1, 4)
        expected = (q @ k.mT / 8).softmax(-1)[:, :, 0, 1:]
    torch.testing.assert_close(vit.attention(x), expected)
    assert image_encoder("vit_base_patch16_gap_224", 32, depth=1, embed_dim=96, num_heads=3).attention(x).shape == (
        2,
        3,
        64,
    )


def test_tiny_tokens_positions_are_fixed():
    encoder = image_encoder("tiny_tokens", 32)
    assert "net.pos_embed" in encoder.state_dict()
    assert "net.pos_embed" not in dict(encoder.named_parameters())
    assert not encoder.net.pos_embed[0, 0].any() and len(encoder.net.pos_embed[0].unique(dim=0)) == 65


@pytest.mark.parametrize("size", [8, 24, 32, 56])
def test_a_hybrid_has_one_token_a_patch_and_their_mean(size):
    encoder = image_encoder("tiny_hybrid", size).eval()
    assert isinstance(encoder, TokenEncoder) and encoder.patch == size // 8
    x = torch.randn(2, 3, size, size)
    h = encoder.encode(encoder.embed(x))
    assert h.shape == (2, 65, 96)
    torch.testing.assert_close(encoder(x), h[:, 1:].mean(1))
    if size > 8:  # crops smaller than what it was built for
        assert encoder.embed(x[..., : size // 2, : size // 2]).shape == (2, 16, 96)


# weights in and out


@pytest.mark.parametrize(
    ("name", "size", "channels", "options"),
    [
        ("vit_tiny_patch16_224", 32, 4, {"depth": 2}),
        ("vit_tiny_patch16_224", 32, 3, {"depth": 2, "pool": "mean"}),
        ("resnet10t", 32, 3, {}),
        ("resnet18", 32, 1, {}),
        ("resnet10t", 128, 3, {}),
    ],
)
def test_timm_loads_what_we_export(name, size, channels, options):
    encoder = image_encoder(name, size, channels, **options).eval()
    state, arguments = timm_state_dict(encoder)
    net = timm.create_model(**arguments).eval()
    exec(getattr(encoder, "timm_note", ""), {"net": net, "torch": torch})
    net.load_state_dict(state, strict=True)
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        assert torch.equal(net(x), encoder(x))
    assert all(
        tensor.is_contiguous() for tensor in timm_state_dict(encoder.to(memory_format=torch.channels_last))[0].values()
    )


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.backbone.", "model.encoder.net."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_init_from_a_file(tmp_path, prefix, suffix):
    donor, path = image_encoder("tiny", 32), tmp_path / f"weights{suffix}"
    state = {prefix + name: tensor.contiguous() for name, tensor in donor.state_dict().items()} | {
        "projector.0.weight": torch.zeros(2)
    }
    save_file(state, path) if suffix == ".safetensors" else torch.save({"epoch": 3, "state_dict": state}, path)
    encoder = image_encoder("tiny", 32, init=path)
    assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), donor.state_dict().values()))


def test_init_moves_positions_to_another_grid(tmp_path, vit):
    torch.save(vit.state_dict(), tmp_path / "vit.pt")
    larger = image_encoder("vit_tiny_patch16_224", 48, patch=4, depth=2, init=tmp_path / "vit.pt").eval()
    assert larger.grid == (12, 12)
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(larger(x), vit(x))  # which interpolates as it runs


def test_init_says_what_does_not_fit(tmp_path):
    donor = image_encoder("tiny", 32)
    path = tmp_path / "weights.pt"
    torch.save({**donor.state_dict(), "stem.weight": torch.zeros(16, 3, 7, 7)}, path)
    with pytest.warns(UserWarning, match=r"missing stem\.weight"):
        load_weights(image_encoder("tiny", 32), path)
    with pytest.raises(UserError, match=r"0 of .* fit; missing conv1") as caught:
        image_encoder("resnet10t", 32, init=path)
    assert "stages" in str(caught.value) and "\n" not in str(caught.value)


def test_init_never_unpickles_and_survives_broken_files(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    torch.save([1], tmp_path / "list.pt")
    for name, says in [
        ("module.pt", "tensors"),
        ("torn.pt", "torn.pt"),
        ("torn.safetensors", "read"),
        ("list.pt", "list"),
        ("no.pt", "no such"),
    ]:
        with pytest.raises(UserError, match=says):
            image_encoder("tiny", 32, init=tmp_path / name)


# batch norm


def test_calibration_is_the_mean_of_the_batches_statistics():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    batches = [torch.randn(8, 3, 4, 4) * scale + scale for scale in (1.0, 2.0, 5.0)]
    net[0](batches[0])  # statistics of before are forgotten
    net.eval()
    calibrate_batchnorm(net, batches)
    torch.testing.assert_close(net[0].running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    torch.testing.assert_close(net[0].running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0))
    assert net[0].momentum == 0.1 and not net.training and not net[0].training


def test_calibration_makes_eval_agree_with_train():
    encoder, x = image_encoder("tiny", 32), torch.randn(64, 3, 32, 32) * 2 + 1
    with torch.no_grad():
        in_training = encoder.train()(x)
        calibrate_batchnorm(encoder, [x])
        assert encoder.training
        torch.testing.assert_close(encoder.eval()(x), in_training, atol=0.02, rtol=0.05)
    tokens = image_encoder("tiny_tokens", 32)
    before = {name: tensor.clone() for name, tensor in tokens.state_dict().items()}
    calibrate_batchnorm(tokens, iter([x]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokens.state_dict().items())


def test_fixed_positions_start_a_vit_as_mae_does():
    """Sines and cosines in a buffer, so that they do not train and timm still finds them; loaded weights stay."""
    vit = image_encoder("vit_tiny_patch16_224", 32)
    fixed_positions(vit)
    table = vit.net.pos_embed
    assert "net.pos_embed" in vit.state_dict() and "net.pos_embed" not in dict(vit.named_parameters())
    assert torch.equal(table[0, 1:], sincos_positions(192, (8, 8))) and not table[0, 0].any()
    bound = math.sqrt(6 / (192 + 768))
    assert 0.99 * bound < vit.net.blocks[0].mlp.fc1.weight.abs().max() <= bound
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(vit.encode(vit.embed(x)), vit.net.forward_features(x), atol=1e-4)
    loaded = image_encoder("vit_tiny_patch16_224", 32)
    loaded.started = True
    fixed_positions(loaded)
    assert isinstance(loaded.net.pos_embed, torch.nn.Parameter)


@pytest.mark.parametrize("name", ["tiny", "tiny_tokens", "tiny_hybrid", "small_hybrid", "vit_tiny_patch16_224"])
def test_graphs_take_any_batch_size(name):
    """`torch.export` refuses where code looks at the number of images, and what is exported would take two alone."""
    encoder, x = image_encoder(name, 32).eval(), torch.randn(5, 3, 32, 32)
    graph = torch.export.export(encoder, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    assert torch.allclose(graph(x), encoder(x), atol=1e-5) and graph(x[:1]).shape == (1, encoder.dim)
