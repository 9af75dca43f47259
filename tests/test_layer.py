import copy
import gc
import io
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_fx as bfx
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.runtime import ahead, base
from tests.cases import ESTIMATORS, RATE, SPACE, mixed, music


def layer(name="pedalboard:Compressor", **options):
    options.setdefault("audio_rule", bfx.Identity())
    return bfx.BlackBox(bfx.load(name), sample_rate=RATE, **options)


def inputs(black_box, batch=3, channels=2, seconds=0.1, grad=True):
    audio = torch.stack([torch.from_numpy(music(seconds, channels, seed=k)) for k in range(batch)])
    params = torch.from_numpy(0.2 + 0.6 * black_box.effect.space.sample(batch, 0)).float()
    return audio.requires_grad_(grad), params.requires_grad_(grad)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_forward_is_the_effect_and_gradients_reach_both_inputs(batch, channels, estimator):
    black_box = layer(estimator=ESTIMATORS[estimator]())
    audio, params = inputs(black_box, batch, channels)
    wet = black_box(audio, params)
    assert wet.shape == audio.shape and wet.dtype == torch.float32
    for k in range(batch):
        values = black_box.effect.space.decode(params[k].detach().double().numpy())
        expected = black_box.effect.render(audio[k].detach().numpy(), values, RATE)
        assert np.array_equal(wet[k].detach().numpy(), expected)
    (wet * torch.linspace(0, 1, wet.shape[-1])).sum().backward()
    assert torch.equal(audio.grad, torch.linspace(0, 1, wet.shape[-1]).expand_as(audio))
    assert torch.isfinite(params.grad).all() and (params.grad != 0).any(dim=1).all()


def test_gradient_is_that_of_the_loss():
    """Against central differences of the loss itself, through the real effect."""
    black_box = layer(estimator=bfx.FiniteDifference())
    audio, params = inputs(black_box, 2)

    def loss(u):
        return black_box(audio.detach(), u).square().sum(dim=(1, 2)).log().sum()

    loss(params).backward()
    for j in range(black_box.width):
        step = torch.zeros_like(params)
        step[:, j] = 2e-3
        slope = (loss(params + step) - loss(params - step)).item() / 4e-3
        assert params.grad[:, j].sum().item() == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_training_finds_hidden_settings():
    black_box = bfx.BlackBox(
        bfx.load("pedalboard:LowShelfFilter").fix(cutoff_frequency_hz=300).only("gain_db"),
        bfx.SPSA(generator=torch.Generator().manual_seed(0)),
        sample_rate=RATE,
    )
    audio, _ = inputs(black_box, 2, grad=False)
    target = black_box(audio, torch.full((2, 1), 0.8))
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], 0.2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (black_box(audio, weight.sigmoid().expand(2, 1)) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert weight.sigmoid().item() == pytest.approx(0.8, abs=0.01)


def test_no_grad_renders_once_and_keeps_nothing():
    black_box = layer()
    audio, params = inputs(black_box)
    with torch.no_grad():
        assert not black_box(audio, params).requires_grad
    with torch.inference_mode():
        black_box(audio, params)
    assert not black_box(audio.detach(), params.detach()).requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_types(dtype):
    black_box = layer()
    audio, params = (x.detach().to(dtype).requires_grad_() for x in inputs(black_box))
    wet = black_box(audio, params)
    assert wet.dtype == torch.float32
    wet.mean().backward()
    assert audio.grad.dtype == dtype and params.grad.dtype == dtype


def test_autocast():
    black_box = layer()
    audio, params = inputs(black_box)
    head = nn.Linear(black_box.width, black_box.width)
    with torch.autocast("cpu", torch.bfloat16):
        wet = black_box(audio, head(params).sigmoid())
    wet.square().mean().backward()
    assert wet.dtype == torch.float32 and (head.weight.grad != 0).any()


def test_strided_tensors():
    black_box = layer()
    audio, params = inputs(black_box)
    strided = audio.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(black_box(strided, params), black_box(audio, params))
    black_box(strided, params)[..., ::2].sum().backward()


class Net(nn.Module):
    def __init__(self, black_box):
        super().__init__()
        self.head = nn.Linear(black_box.width, black_box.width)
        self.fx = black_box

    def forward(self, audio, params):
        return self.fx(audio * 0.9, self.head(params).sigmoid()) * 1.1


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler itself
def test_inside_a_compiled_model_it_is_a_graph_break():
    net = Net(layer(estimator=bfx.FiniteDifference()))
    audio, params = inputs(net.fx)
    net(audio, params).square().mean().backward()
    expected = net.head.weight.grad.clone()
    net.zero_grad()
    compiled = torch.compile(net, backend="eager")
    wet = compiled(audio, params)
    wet.square().mean().backward()
    assert torch.allclose(net.head.weight.grad, expected, rtol=1e-4, atol=1e-7)
    assert torch._dynamo.explain(net)(audio, params).graph_break_count >= 1


def test_copies_like_data_parallel_run_in_threads():
    net = Net(layer(estimator=bfx.FiniteDifference(), pool=bfx.Threads(2)))
    audio, params = inputs(net.fx, 4)
    replicas = [copy.copy(net), copy.copy(net)]
    with ThreadPoolExecutor(2) as executor:
        outputs = list(executor.map(lambda r, i: r(audio[i : i + 2], params[i : i + 2]), replicas, (0, 2)))
    # a linear layer rounds differently for another batch size
    assert torch.allclose(torch.cat(outputs), net(audio, params), atol=1e-5)
    torch.cat(outputs).mean().backward()
    assert (net.head.weight.grad != 0).any()


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "save"])
def test_copies_are_equal_and_independent(how):
    black_box = layer(estimator=ESTIMATORS["SPSA"](), pool=bfx.Threads(2))
    if how == "deepcopy":
        other = copy.deepcopy(black_box)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(black_box))
    else:
        file = io.BytesIO()
        torch.save(black_box, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    results = []
    for one in (black_box, other):
        audio, params = inputs(one)
        one(audio, params).square().mean().backward()
        results.append((params.grad, one(audio, params).detach()))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_state_dict_round_trip_carries_the_generator():
    a, b = (layer(estimator=bfx.SPSA(generator=torch.Generator().manual_seed(k))) for k in (1, 2))
    b.load_state_dict(a.state_dict())
    grads = []
    for one in (a, b):
        audio, params = inputs(one)
        one(audio, params).square().mean().backward()
        grads.append(params.grad)
    assert torch.equal(*grads)


def test_the_layers_sample_rate_reaches_forward_and_backward():
    rates = []
    probe = bfx.function(
        lambda x, sr, gain: (rates.append(sr), x * gain)[1], bfx.Space({"gain": bfx.Continuous(0, 2, 1)})
    )
    black_box = bfx.BlackBox(probe, bfx.FiniteDifference(), sample_rate=22050)
    params = torch.full((1, 1), 0.5, requires_grad=True)
    black_box(torch.zeros(1, 1, 10) + 0.1, params).sum().backward()
    assert rates == [22050.0] * 3


def test_unneeded_gradients_cost_nothing():
    rendered = []
    probe = bfx.function(
        lambda x, sr, gain: (rendered.append(1), x * gain)[1], bfx.Space({"gain": bfx.Continuous(0, 2, 1)})
    )
    black_box = bfx.BlackBox(probe, bfx.FiniteDifference(), audio_rule=bfx.Identity())
    audio = torch.full((1, 1, 10), 0.1, requires_grad=True)
    black_box(audio, torch.full((1, 1), 0.5)).sum().backward()
    assert len(rendered) == 1


def test_effect_without_parameters():
    black_box = layer("pedalboard:Invert")
    audio, params = inputs(black_box)
    assert params.shape == (3, 0)
    black_box(audio, params).sum().backward()


def test_discrete_heads_get_gradients():
    black_box = bfx.BlackBox(bfx.function(mixed, SPACE), bfx.FiniteDifference(), sample_rate=RATE)
    audio, params = inputs(black_box, 1)
    black_box(audio.detach(), params).square().mean().backward()
    assert (params.grad != 0).sum() >= black_box.width - 1  # all but the option it stands at


BAD = [
    (lambda b, a, p: b(a[0], p), AudioError, "(batch, channel, time)"),
    (lambda b, a, p: b(a[..., :0], p), AudioError, "at least one"),
    (lambda b, a, p: b((a * 100).int(), p), AudioError, "floating point"),
    (lambda b, a, p: b(a / 0, p), AudioError, "NaN or infinity"),
    (lambda b, a, p: b(a, p[:1]), ParameterError, "(3, 4)"),
    (lambda b, a, p: b(a, p[0]), ParameterError, "threshold_db, ratio"),
    (lambda b, a, p: b(a, p + 0.9), ParameterError, "sigmoid"),
    (lambda b, a, p: b(a, p - 1), ParameterError, "(threshold_db)"),
    (lambda b, a, p: b(a, p * float("nan")), ParameterError, "nan"),
    (lambda b, a, p: b(a, p.int()), ParameterError, "floating point"),
    (lambda b, a, p: bfx.BlackBox("pedalboard:Gain"), EffectError, "bfx.load"),
    (lambda b, a, p: bfx.BlackBox(b.effect, bfx.SPSA), ParameterError, "the class SPSA"),
    (lambda b, a, p: bfx.BlackBox(b.effect, pool=4), ParameterError, "Pool"),
    (lambda b, a, p: bfx.BlackBox(b.effect, sample_rate=0), AudioError, "sample_rate=0"),
    (lambda b, a, p: bfx.BlackBox(b.effect, sample_rate=float("nan")), AudioError, "sample_rate"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_mistakes_get_one_clear_sentence(call, error, words):
    black_box = layer()
    audio, params = inputs(black_box, grad=False)
    with pytest.raises(error) as caught:
        call(black_box, audio, params)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_loud_audio_is_no_infinity_and_the_layer_alone_looks_for_it(monkeypatch):
    monkeypatch.setattr(base, "check_audio", lambda *_: pytest.fail("looked at the audio again"))
    black_box = bfx.BlackBox(bfx.load("pedalboard:Gain"), bfx.SPSA(2), audio_rule=bfx.Identity())
    params = torch.full((3, 1), 0.2, requires_grad=True)
    wet = black_box(torch.full((3, 1, 100), 3e38), params)  # whose sum is beyond float32
    (wet * 1e-38).sum().backward()
    assert params.grad.isfinite().all()


def test_rounding_beyond_the_bounds_is_forgiven():
    black_box = layer()
    audio, params = inputs(black_box, grad=False)
    assert torch.equal(black_box(audio, torch.ones_like(params) + 5e-7), black_box(audio, torch.ones_like(params)))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_renders_ahead_give_the_same_gradient(name):
    found = []
    for lookahead in (False, True):
        torch.manual_seed(0)
        with bfx.Threads(2) as pool:
            black_box = layer(estimator=ESTIMATORS[name](), pool=pool, lookahead=lookahead)
            audio, params = inputs(black_box)
            for _ in range(2):
                params.grad = None
                black_box(audio, params).square().sum().backward()
            found.append(params.grad.clone())
    assert torch.allclose(found[0], found[1], rtol=1e-6, atol=1e-9)


def test_renders_begin_in_the_forward_pass_and_are_not_made_twice(monkeypatch):
    asked = []
    original = bfx.Threads.map_into
    monkeypatch.setattr(
        bfx.Threads, "map_into", lambda pool, job, out: (asked.append(len(job)), original(pool, job, out))[1]
    )
    monkeypatch.setattr(bfx.Threads, "project_into", lambda *_: pytest.fail("rendered in the backward pass"))
    with bfx.Threads(2) as pool:
        black_box = layer(estimator=bfx.FiniteDifference(), pool=pool, lookahead=True)
        audio, params = inputs(black_box)
        wet = black_box(audio.detach(), params)
        deadline = time.monotonic() + 30
        while sum(asked) < 3 * 9 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sum(asked) == 3 * (1 + 8)  # before there is a cotangent
        wet.square().sum().backward()
        assert sum(asked) == 3 * 9
        with torch.no_grad():
            black_box(audio, params)
        assert sum(asked) == 3 * 10


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_not_rendered_when_the_cotangent_comes_is_projected_in_the_pool(begun, monkeypatch):
    mapped, projected, gradients = [], [], []
    to_map, to_project = bfx.Threads.map_into, bfx.Threads.project_into

    def map_into(pool, job, out):
        to_map(pool, job, out)
        mapped.append(len(job))

    def project_into(pool, job, cotangent, stretch, out):
        projected.append(len(job))
        to_project(pool, job, cotangent, stretch, out)

    monkeypatch.setattr(bfx.Threads, "map_into", map_into)
    monkeypatch.setattr(bfx.Threads, "project_into", project_into)
    monkeypatch.setattr(ahead, "_PAUSE" if begun else "_MOMENT", 60.0)  # where it waits until the cotangent is there
    for lookahead in (False, True):
        with bfx.Threads(2) as pool:
            black_box = layer(estimator=bfx.FiniteDifference(), pool=pool, lookahead=lookahead)
            audio, params = inputs(black_box)
            mapped.clear(), projected.clear()
            wet = black_box(audio, params)
            deadline = time.monotonic() + 30
            while lookahead and begun and len(mapped) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            wet.square().sum().backward()
            gradients.append(params.grad.clone())
    assert (mapped, projected) == (([3, 4], [20]) if begun else ([3], [24]))
    assert torch.equal(*gradients)


def test_renders_ahead_stop_when_nobody_waits_for_them():
    with bfx.Threads(1) as pool:
        slow = bfx.function(_sleepy, SPACE)
        black_box = bfx.BlackBox(slow, bfx.SPSA(50), audio_rule=bfx.Identity(), pool=pool, lookahead=True)
        audio, params = inputs(black_box, batch=1)
        black_box(audio, params)
        deadline = time.monotonic() + 30
        while any(t.name == "blackbox_fx-ahead" for t in threading.enumerate()):
            gc.collect()
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _sleepy(audio, sample_rate, **values):
    time.sleep(0.02)
    return mixed(audio, sample_rate, **values)


def _breaks_later(audio, sample_rate, gain_db, **values):
    if abs(gain_db) > 1e-3:
        raise ValueError("gone")
    return audio


def test_what_fails_ahead_is_raised_in_the_backward_pass():
    with bfx.Threads(2) as pool:
        effect = bfx.function(_breaks_later, SPACE).only("gain_db")
        black_box = bfx.BlackBox(effect, bfx.FiniteDifference(), audio_rule=bfx.Identity(), pool=pool, lookahead=True)
        params = torch.from_numpy(effect.space.encode({"gain_db": 0})[None]).float().requires_grad_()
        wet = black_box(torch.zeros(1, 1, 100), params)
        with pytest.raises(EffectError, match="gone"):
            wet.sum().backward()


def test_lookahead_needs_workers():
    with pytest.raises(ParameterError, match="Inline"):
        layer(lookahead=True)
    with pytest.raises(ParameterError, match="got 'no'"):
        layer(lookahead="no")


def test_without_being_told_it_looks_ahead_only_with_processes_and_enough_memory(monkeypatch):
    with bfx.Processes(1, deadline=30) as pool:
        black_box = layer(estimator=bfx.SPSA(), pool=pool)
        audio, params = inputs(black_box)
        assert black_box.look_ahead(audio, params)[1] is not None
        monkeypatch.setattr("blackbox_fx.layers.black_box._MOST_AHEAD", 100)
        assert black_box.look_ahead(audio, params)[1] is None
    with bfx.Threads(1) as pool:
        assert layer(estimator=bfx.SPSA(), pool=pool).look_ahead(audio, params) is None
