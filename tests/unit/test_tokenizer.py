"""The mask token, the taps of a transformer, and the discrete tokenizer."""

import copy
import math

import pytest
import torch

from nolabel.encoders import tiny_tokens
from nolabel.encoders.tiny import tiny_hybrid
from nolabel.networks import MaskToken, Tokenizer, Transformer, tapped
from nolabel.networks.tokenizer import nearest_code, usage_entropy


def mask_of(batch=2):
    torch.manual_seed(0)
    return torch.rand(batch, 64) < 0.5


def test_hidden_pixels_do_not_reach_the_encoder():
    torch.manual_seed(0)
    net, token, mask = tiny_tokens(32).eval(), MaskToken(96), mask_of()
    x, other = torch.randn(2, 2, 3, 32, 32)
    hidden = net.unpatchify(mask[..., None].expand(-1, -1, net.patch_dim).float()).bool()
    mixed = torch.where(hidden, other, x)
    assert torch.equal(token(net, x, mask), token(net, mixed, mask))
    assert not torch.equal(token(net, x, mask), token(net, other, mask))
    torch.testing.assert_close(token(net, x, mask)[~mask], net.embed(x)[~mask])


def test_a_mask_token_keeps_its_place():
    torch.manual_seed(0)
    net, token, mask = tiny_tokens(32), MaskToken(96), torch.ones(1, 8, 8, dtype=torch.bool)
    filled = token(net, torch.randn(1, 3, 32, 32), mask)[0]
    expected = token.token + net.net.patch_embed.proj.bias + net.net.pos_embed[0, 1:]
    torch.testing.assert_close(filled, expected, rtol=1e-4, atol=1e-6)


def test_a_mask_token_leaves_running_statistics_to_the_samples():
    torch.manual_seed(0)
    net, token, mask = tiny_hybrid(32), MaskToken(96), mask_of()
    alone, x = copy.deepcopy(net), torch.randn(2, 3, 32, 32)
    filled, seen = token(net, x, mask), alone.embed(x)
    torch.testing.assert_close(filled[~mask], seen[~mask])
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), alone.buffers())) and net.net.patch_embed.norm.training


def test_taps_hear_the_feed_forward_branches():
    torch.manual_seed(0)
    net, x = Transformer(12, 3, 2).eval(), torch.randn(2, 5, 12)
    with tapped(net) as layers:
        net(x)
    assert len(layers) == 3
    h = x
    for block, heard in zip(net.blocks, layers):
        h = h + block.attn(block.norm1(h))
        torch.testing.assert_close(heard, block.mlp(block.norm2(h)))
        h = h + heard
    net(x)
    assert len(layers) == 3  # the hooks are gone


# ---- tokenizer


def test_the_nearest_code_is_the_nearest():
    torch.manual_seed(0)
    z, book = torch.randn(2, 7, 4), torch.randn(9, 4) * 3
    assert torch.equal(nearest_code(z, book), torch.cdist(z.flatten(0, 1), book).argmin(1).view(2, 7))


def test_the_book_is_a_running_average_by_hand():
    torch.manual_seed(0)
    net = Tokenizer(5, (2, 2), 3, 8, dim=2)
    net.book.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    net.count.fill_(4.0)
    net.total.copy_(net.book * 4)
    before = [row.tolist() for row in net.total]
    z = torch.tensor([[[0.9, 0.1], [0.8, 0.0], [0.1, 1.2], [-1.0, -0.5]]])
    number = nearest_code(z, net.book)
    assert number.tolist() == [[0, 0, 1, 2]]
    usage = net._move(z, number)
    assert usage.tolist() == [2, 1, 1]
    for k in range(3):
        mine = [v for v, n in zip(z[0].tolist(), number[0].tolist()) if n == k]
        count = 0.99 * 4 + 0.01 * len(mine)
        total = [0.99 * before[k][d] + 0.01 * sum(v[d] for v in mine) for d in range(2)]
        assert net.book[k].tolist() == pytest.approx([x / count for x in total], rel=1e-5)


def test_unused_codes_start_again_in_the_batch():
    torch.manual_seed(0)
    net = Tokenizer(5, (2, 2), 6, 8, dim=2)
    z = torch.randn(3, 4, 2)
    net._move(z, torch.zeros(3, 4, dtype=torch.long))
    rows = {tuple(row) for row in z.flatten(0, 1).tolist()}
    back = [tuple(row) for row in net.book[1:].tolist()]
    assert all(min(math.dist(row, r) for r in rows) < 1e-5 for row in back)


def test_it_learns_patches_and_its_numbers_do_not_change_when_asked_twice():
    torch.manual_seed(0)
    centres = 2 * torch.randn(6, 5)
    net = Tokenizer(5, (4, 4), 8, 16, dim=4)
    optim = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(80):
        x = centres[torch.randint(6, (16, 16))] + 0.1 * torch.randn(16, 16, 5)
        loss, logs = net(x)
        optim.zero_grad()
        loss.backward()
        optim.step()
    assert logs["unexplained"] < 0.25 and logs["codes_in_use"] > 5
    numbers = net.numbers(x)
    assert torch.equal(numbers, net.numbers(x)) and not numbers.is_floating_point()
    assert len(numbers.unique()) >= 6


def test_gradients_pass_straight_through():
    torch.manual_seed(0)
    net = Tokenizer(5, (2, 2), 6, 8)
    loss, _ = net(torch.randn(3, 4, 5))
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for n, p in net.named_parameters() if not n.endswith("bias"))
    assert not net.book.requires_grad


def test_usage_entropy():
    assert usage_entropy(torch.arange(8), 8).item() == pytest.approx(math.log(8), rel=1e-6)
    assert usage_entropy(torch.zeros(2, 5, dtype=torch.long), 8).item() == 0
