"""The translator: answers in the form that each task's physics has, whatever its weights."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from allpet.model.prompt import TASKS
from allpet.model.translator import SPREAD, Translator, Views, ask
from model_support import tiny


def views(n: int = 3, size: int = 32, seed: int = 0) -> Views:
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(n, size, size, generator=rng) * 3
    return Views(image, image + 0.1, torch.rand(n, size, size, generator=rng), torch.zeros(n, 6, size, size))


def question(task: str, n: int = 3, decay: float = 1.0):
    return ask(n, task, "FDG", "brain", torch.full((n,), 5.0), 4.0, "PSMA", 60.0, decay)


@given(st.sampled_from(TASKS[1:]), st.integers(0, 50))
def test_every_answer_is_physical(task, seed):
    shown = views(seed=seed)
    mean, spread = tiny(seed).translator(shown, question(task))
    assert mean.shape == spread.shape == (3, 2, 32, 32)
    assert bool((mean >= 0).all()) and bool((spread[:, 0] > 0).all())
    if task == "separate":
        assert torch.allclose(mean.sum(dim=1), shown.image, atol=1e-6)
    else:
        assert not bool(mean[:, 1].any()) and not bool(spread[:, 1].any())


def test_untrained_it_changes_nothing_but_what_decays():
    fresh, shown = Translator((8, 16), 16), views()
    assert torch.equal(fresh(shown, question("low-dose"))[0][:, 0], shown.image)
    later = fresh(shown, question("delayed", decay=0.7))[0][:, 0]
    assert torch.allclose(later, 0.7 * shown.image, atol=1e-3)
    assert torch.allclose(fresh(shown, question("separate"))[0][:, 0], shown.image / 2)
    spread = fresh(shown, question("low-dose"))[1][:, 0]
    assert torch.allclose(spread, SPREAD * (0.2 + shown.image.sqrt()), atol=1e-6)


def test_what_is_said_matters_and_planes_do_not_mix():
    net, shown = tiny().translator, views()
    plain = net(shown, question("convert"))[0]
    assert not torch.allclose(
        plain, net(shown, ask(3, "convert", "PSMA", "brain", torch.full((3,), 5.0), 4.0, "FDG"))[0]
    )
    alone = net(shown[slice(1, 2)], question("convert")[slice(1, 2)])[0]
    assert torch.allclose(alone[0], plain[1], atol=0.02 * float(plain.max()))


def test_views_stack_and_unstack():
    shown = views()
    again = Views.unstack(shown.stack())
    assert all(torch.equal(getattr(shown, name), getattr(again, name)) for name in ("image", "raw", "mu", "frames"))
