"""Student and teacher losses against loops written from the formulas, and their known values."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from nolabel.losses.distill import cross_entropy_soft, distill, kl, koleo, negative_cosine


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.double)


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    e = [math.exp(x / temperature) for x in row]
    return [x / sum(e) for x in e]


def naive_distill(student: Tensor, teacher: Tensor, temperature: float) -> float:
    terms = []
    for t in range(len(teacher)):
        for s in range(len(student)):
            if s != t:
                for p, x in zip(teacher[t].tolist(), student[s].tolist()):
                    terms.append(-sum(q * math.log(y) for q, y in zip(p, softmax(x, temperature))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("s", "t"), [(2, 2), (6, 2), (3, 1), (2, 1)])
def test_distill_is_the_formula(s: int, t: int) -> None:
    student, teacher = draw(s, 4, 7).requires_grad_(), draw(t, 4, 7).softmax(-1)
    expected = naive_distill(student, teacher, 0.3)
    assert distill(student, teacher, 0.3).item() == pytest.approx(expected, rel=1e-9)
    assert distill(list(student), list(teacher), 0.3).item() == pytest.approx(expected, rel=1e-9)
    assert distill(student.float(), teacher.float(), 0.3).item() == pytest.approx(expected, rel=1e-6)
    assert gradcheck(lambda x: distill(x, teacher, 0.3), (student,))


def test_distill_leaves_out_the_same_view_only() -> None:
    student, teacher = draw(2, 4, 7).requires_grad_(), draw(2, 4, 7).softmax(-1).requires_grad_()
    every = distill(student, teacher, skip_same=False)
    same = (cross_entropy_soft(student[0], teacher[0]) + cross_entropy_soft(student[1], teacher[1])) / 2
    torch.testing.assert_close(every, (distill(student, teacher) + same) / 2)
    distill(student, teacher).backward()
    assert teacher.grad is None and student.grad is not None
    torch.testing.assert_close(distill(student[:1], teacher[:1]), cross_entropy_soft(student[0], teacher[0]))


@pytest.mark.parametrize(("k", "expected"), [(1024, 6.931), (4096, 8.318), (8192, 9.011), (65536, 11.090)])
def test_uniform_outputs_cost_log_k(k: int, expected: float) -> None:
    student, teacher = torch.zeros(2, 2, k), torch.full((2, 2, k), 1 / k)
    assert distill(student, teacher).item() == pytest.approx(expected, abs=1e-3)


def test_cross_entropy_soft_takes_any_leading_axes() -> None:
    logits, target = draw(2, 3, 5), draw(2, 3, 5).softmax(-1)
    expected = sum(
        -sum(q * math.log(y) for q, y in zip(p, softmax(x)))
        for p, x in zip(target.flatten(0, 1).tolist(), logits.flatten(0, 1).tolist())
    )
    assert cross_entropy_soft(logits, target).item() == pytest.approx(expected / 6, rel=1e-9)
    label = torch.tensor([1, 4])
    torch.testing.assert_close(
        cross_entropy_soft(logits[0, :2], F.one_hot(label, 5).double()), F.cross_entropy(logits[0, :2], label)
    )


def test_negative_cosine_and_its_stop() -> None:
    p, z = draw(4, 6).requires_grad_(), draw(4, 6).requires_grad_()
    expected = 0.0
    for x, y in zip(p.tolist(), z.tolist()):
        expected -= sum(a * b for a, b in zip(x, y)) / math.hypot(*x) / math.hypot(*y) / 4
    assert negative_cosine(p, z).item() == pytest.approx(expected, rel=1e-9)
    assert negative_cosine(p, p).item() == pytest.approx(-1) and negative_cosine(p, -2 * p).item() == pytest.approx(1)
    assert gradcheck(lambda p: negative_cosine(p, z.detach()), (p,))
    negative_cosine(p, z).backward()
    assert z.grad is None and p.grad is not None


@pytest.mark.parametrize("loss", [cross_entropy_soft, kl, lambda x, t: distill([x, x], [t, t])])
def test_the_teachers_side_gets_no_gradient(loss) -> None:
    student, teacher = draw(4, 6).requires_grad_(), draw(4, 6).softmax(-1).requires_grad_()
    loss(student, teacher).backward()
    assert student.grad is not None and teacher.grad is None


def test_kl_is_the_formula_and_keeps_the_gradient() -> None:
    s, t = draw(4, 6).requires_grad_(), draw(5, 6)[:4]
    expected = 0.0
    for x, y in zip(s.tolist(), t.tolist()):
        p, q = softmax(y, 4.0), softmax(x, 4.0)
        expected += 16 * sum(a * math.log(a / b) for a, b in zip(p, q)) / 4
    assert kl(s, t, 4.0).item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(
        kl(s, t), F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="batchmean", log_target=True)
    )
    assert kl(s, s.detach()).item() == pytest.approx(0, abs=1e-12)
    assert gradcheck(lambda s: kl(s, t, 2.0), (s,))
    (grad,) = torch.autograd.grad(kl(s, t, 1e3), s)
    limit = (s - s.mean(1, keepdim=True) - t + t.mean(1, keepdim=True)) / 6 / 4
    torch.testing.assert_close(grad, limit.detach(), rtol=3e-3, atol=1e-5)


def test_koleo_is_the_formula() -> None:
    x = draw(6, 4).requires_grad_()
    rows = [[v / math.hypot(*row) for v in row] for row in x.tolist()]
    nearest = [min(math.dist(r, q) for j, q in enumerate(rows) if j != i) for i, r in enumerate(rows)]
    assert koleo(x).item() == pytest.approx(-sum(math.log(d) for d in nearest) / 6, rel=1e-6)
    assert gradcheck(koleo, (x,))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(koleo(x[order]), koleo(x))


def test_known_values_of_koleo() -> None:
    assert koleo(torch.eye(8)).item() == pytest.approx(-0.5 * math.log(2), abs=1e-5)
    assert koleo(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-math.log(2), abs=1e-5)
    x = torch.ones(5, 64, requires_grad=True)
    loss = koleo(x)
    loss.backward()
    assert loss.item() == pytest.approx(16.22, abs=0.01)
    assert x.grad is not None and x.grad.isfinite().all()


def test_losses_are_fp32_under_autocast() -> None:
    s, t = draw(4, 6).float(), draw(5, 6)[:4].float()
    plain = kl(s, t), koleo(s), negative_cosine(s, t), distill([s, t], [t.softmax(-1)])
    with torch.autocast("cpu", torch.bfloat16):
        assert (kl(s, t), koleo(s), negative_cosine(s, t), distill([s, t], [t.softmax(-1)])) == plain
    assert distill([s.bfloat16(), t], [t.softmax(-1)]).dtype == torch.float32
