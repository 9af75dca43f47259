"""Settings that move: a gradient for every break point, and sweeps that are recovered from sound alone."""

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.dsp import TWINS
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.layers.moving import overlapped
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE, music


def clips(items, seconds, channels=1, first=0):
    return torch.from_numpy(np.stack([music(seconds, channels, seed=first + k) for k in range(items)]))


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.detach().flatten(), b.detach().flatten(), 0))


def sweeping(name):
    """An effect or twin one of whose columns is a frequency."""
    if name == "vst3:ZamEQ2":
        effect = bfx.load(name).fix(boost_cut_1_db=18, bandwidth_1=1).within(frequency_1_hz=(100, 8000))
        return effect.only("frequency_1_hz")
    if name == "twin:parametric_eq":
        return TWINS["parametric_eq"].fix(peak_gain_db=18, peak_q=1).only("peak_freq_hz")
    return bfx.load(name).within(cutoff_frequency_hz=(100, 8000)).only("cutoff_frequency_hz")


SWEPT = ("pedalboard:LowpassFilter", "vst3:ZamEQ2", "twin:parametric_eq")
AS_LAYERS = [(name, None) for name in SWEPT] + [("twin:parametric_eq", False)]


def layer_of(name, direct, **how):
    chain = bfx.Chain([sweeping(name)], direct=direct, **how)
    return chain.members[next(iter(chain.members))]


def central(loss, points, step):
    truth = torch.zeros_like(points)
    for k in np.ndindex(*points.shape):
        ends = []
        for sign in (-1, 1):
            moved = points.detach().clone()
            moved[k] += sign * step
            ends.append(float(loss(moved)))
        truth[k] = (ends[1] - ends[0]) / (2 * step)
    return truth


@pytest.mark.parametrize(("name", "direct"), AS_LAYERS)
def test_every_break_point_has_the_gradient_of_central_differences(name, direct):
    pool = RecordingPool()
    layer = layer_of(name, direct, pool=pool)
    audio, g = clips(2, 1.5, 2), clips(2, 1.5, 2, first=5)
    params = torch.full((2, 1), 0.5)

    def loss(points):
        return (layer(audio, params, curves={layer.columns[0]: bfx.Curve(points, 2)}) * g).double().sum()

    points = torch.rand(2, 4, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    points.requires_grad_()
    loss(points).backward()
    direct_twin = name.startswith("twin:") and direct is None
    assert [len(job) for job in pool.jobs] == ([] if direct_twin else [2, 8])  # whatever the number of points
    truth = central(loss, points, 0.005)
    assert cosine(points.grad, truth) > 0.98
    assert float((points.grad - truth).norm() / truth.norm()) < 0.15


def bands(count, size):
    """Triangles that are equally wide in octaves, (count, size // 2 + 1)."""
    hz, edges = np.linspace(0, RATE / 2, size // 2 + 1), np.geomspace(60, 16_000, count + 2)
    rise = (hz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hz) / np.diff(edges)[1:, None]
    return torch.from_numpy(np.minimum(rise, fall).clip(0)).float()


def spectrum(audio, size=4096):
    """Levels of bands over time."""
    window = torch.hann_window(size)
    power = torch.stft(audio.flatten(0, 1), size, size // 2, window=window, return_complex=True).abs().square()
    return (bands(40, size) @ power + 1e-4).log()


@pytest.mark.parametrize("name", SWEPT)
def test_a_filter_sweep_is_recovered_from_sound_alone(name):
    layer = layer_of(name, None, pool=bfx.Inline())
    noise = 0.2 * torch.randn(1, 1, 20 * RATE, generator=torch.Generator().manual_seed(0))
    hidden = torch.from_numpy(np.random.default_rng(3).uniform(0.2, 0.8, (1, 11))).float()

    def swept(points):
        return layer(noise, torch.full((1, 1), 0.5), curves={layer.columns[0]: bfx.Curve(points, 0.5)})

    target = spectrum(swept(hidden))
    free = torch.zeros(1, 11, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.2)
    for step in range(45):
        for group in optimizer.param_groups:
            group["lr"] = 0.2 * (1 - step / 45)
        loss = (spectrum(swept(free.sigmoid())) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((free.sigmoid() - hidden).detach().abs().max()) < 0.03


def still_and_moving():
    """Layers with several columns, one of which moves: (layer, moving column)."""
    eq = bfx.load("pedalboard:PeakFilter").within(cutoff_frequency_hz=(200, 4000), gain_db=(-12, 12), q=(0.5, 3))
    zam = bfx.load("vst3:ZamEQ2").within(frequency_1_hz=(200, 4000), boost_cut_1_db=(-12, 12))
    zam = zam.fix(bandwidth_1=1).only("frequency_1_hz", "boost_cut_1_db")
    twin = TWINS["soft_knee_compressor"].only("threshold_db", "makeup_db", "mix")
    return {
        "pedalboard": (bfx.BlackBox(eq, pool=bfx.Inline()), "cutoff_frequency_hz"),
        "vst3": (bfx.BlackBox(zam, pool=bfx.Inline()), "frequency_1_hz"),
        "twin": (bfx.BlackBox(TWINS["waveshaper"].effect(), pool=bfx.Inline()), "drive_db"),
        "direct": (bfx.Direct(twin), "threshold_db"),
        "chain": (bfx.Chain({"eq": eq, "comp": twin}, pool=bfx.Inline()), "comp.threshold_db"),
        "switch": (bfx.Chain({"eq": bfx.Bypass(eq)}, pool=bfx.Inline()), "eq.gain_db"),
        "mix": (bfx.Mix({"dry": None, "eq": eq}, level_db=(-20, 0), pool=bfx.Inline()), "eq.level_db"),
    }


@pytest.mark.parametrize("case", still_and_moving())
def test_columns_that_stand_still_and_audio_have_gradients_beside_those_that_move(case):
    layer, name = still_and_moving()[case]
    audio, g = clips(1, 1.0, 2), clips(1, 1.0, 2, first=5)
    params = 0.35 + 0.3 * torch.rand(1, layer.width, generator=torch.Generator().manual_seed(0))
    params[:, [k for k, c in enumerate(layer.columns) if c.endswith(".on")]] = 1.0
    points = torch.tensor([[0.4, 0.6, 0.5]])

    def loss(audio, params, points):
        return (layer(audio, params, curves={name: bfx.Curve(points, 2)}) * g).double().sum()

    given = [x.clone().requires_grad_() for x in (audio, params, points)]
    loss(*given).backward()
    fine = [k for k, c in enumerate(layer.columns) if not c.endswith(".on") and c != name]
    truth = central(lambda p: loss(audio, params.index_copy(1, torch.tensor(fine), p), points), params[:, fine], 0.005)
    assert cosine(given[1].grad[:, fine], truth) > 0.98
    assert not given[1].grad[:, layer.columns.index(name)].any()  # its curve is in its place
    assert cosine(given[2].grad, central(lambda p: loss(audio, params, p), points, 0.005)) > 0.98
    draw = torch.Generator().manual_seed(3)
    nudges = 1e-3 * torch.randn(12, *audio.shape, generator=draw)
    felt = torch.tensor([float((given[0].grad.double() * nudge).sum()) for nudge in nudges])
    real = torch.tensor([float(loss(audio + n, params, points) - loss(audio - n, params, points)) / 2 for n in nudges])
    assert cosine(felt, real) > 0.97


def test_many_columns_are_right_in_the_mean_for_eight_renders():
    effect = bfx.load("vst3:ZamEQ2").within(frequency_1_hz=(200, 4000), frequency_2_hz=(300, 6000))
    names = ["boost_cut_1_db", "frequency_1_hz", "boost_cut_2_db", "frequency_2_hz", "master_gain_db"]
    effect = effect.fix(bandwidth_1=1, bandwidth_2=1).within(boost_cut_1_db=(-9, 9), boost_cut_2_db=(-9, 9))
    layer = bfx.BlackBox(effect.only(*names, "boost_cut_l_db"), pool=RecordingPool())
    audio, g = clips(1, 0.6), clips(1, 0.6, first=5)
    params = torch.full((1, layer.width), 0.6)
    points = torch.tensor([[0.4, 0.7]])

    def loss(params, points):
        return (layer(audio, params, curves={"frequency_1_hz": bfx.Curve(points, 2)}) * g).double().sum()

    found = []
    for seed in range(40):
        torch.manual_seed(seed)
        row, moved = params.clone().requires_grad_(), points.clone().requires_grad_()
        layer.pool.jobs.clear()
        loss(row, moved).backward()
        assert [len(job) for job in layer.pool.jobs] == [1, 4 + 8]
        found.append(np.concatenate([row.grad[0].numpy(), moved.grad[0].numpy()]))
    truth = torch.cat(
        [central(lambda p: loss(p, points), params, 0.005), central(lambda p: loss(params, p), points, 0.005)], 1
    )
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    truth = truth[0].numpy()
    assert (np.abs(np.mean(found, axis=0) - truth) <= 4 * error + 0.05 * np.abs(truth).max()).all()


def test_switches_and_choices_have_gradients_beside_curves():
    effect = bfx.load("pedalboard:LadderFilter").within(cutoff_hz=(300, 3000)).only("mode", "cutoff_hz")
    layer = bfx.BlackBox(effect, pool=bfx.Inline())
    audio, g = clips(1, 0.5), clips(1, 0.5, first=5)
    row = layer.encode({"mode": effect.defaults["mode"], "cutoff_hz": 1000})[None].requires_grad_()
    curve = bfx.Curve(torch.tensor([[0.4, 0.6]]), 2)
    (layer(audio, row, curves={"cutoff_hz": curve}) * g).sum().backward()
    modes = [k for k, c in enumerate(layer.columns) if c.startswith("mode")]
    here = int(row[0, modes].argmax())
    for k in modes:
        other = row.detach().clone()
        other[0, modes] = torch.eye(len(modes))[k - modes[0]]
        with torch.no_grad():
            change = [(layer(audio, r, curves={"cutoff_hz": curve}) * g).double().sum() for r in (other, row)]
        if k - modes[0] != here:
            assert float(row.grad[0, k]) == pytest.approx(float(change[0] - change[1]), rel=1e-3, abs=1e-4)


def test_a_switch_may_move_and_has_a_gradient_at_every_point():
    layer = bfx.Chain({"gain": bfx.Bypass(bfx.load("pedalboard:Gain"))}, pool=bfx.Inline())
    row = layer.encode({"gain": {"gain_db": 6.0}})[None]
    points = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    audio = torch.full((1, 1, RATE), 0.5)
    wet = layer(audio, row, curves={"gain.on": bfx.Curve(points, 2)})
    on = (wet[0, 0] > 0.6).numpy()
    assert on.mean() == pytest.approx(0.5, abs=0.01)
    assert not on[0]
    assert not on[-1]
    wet.sum().backward()
    assert (points.grad > 0).all()  # louder wherever it is on


def test_a_proxy_moves_from_settings_to_settings():
    layer = bfx.Direct(bfx.load_proxy("pedalboard-compressor"))
    audio = clips(1, 2.0)
    params = torch.full((1, layer.width), 0.5)
    name = layer.columns[0]
    points = torch.tensor([[0.2, 0.8, 0.3]], requires_grad=True)
    still = bfx.Curve(torch.full((1, 3), 0.5), 1)
    near = layer(audio, params, curves={name: still}) - layer(audio, params)
    assert float(near.abs().max()) < 0.05 * float(audio.abs().max())
    g = clips(1, 2.0, first=5)

    def loss(points):
        return (layer(audio, params, curves={name: bfx.Curve(points, 1)}) * g).double().sum()

    loss(points).backward()
    assert cosine(points.grad, central(loss, points, 0.01)) > 0.98


def test_segments_at_the_same_settings_are_the_clip_itself():
    audio = clips(2, 0.7, 2)
    rows = torch.zeros(2, 9, 1)
    whole = overlapped(lambda parts, own, _: parts, audio, rows, 4096, {})
    torch.testing.assert_close(whole, audio)


def test_settings_move_straight_between_points():
    layer = bfx.BlackBox(bfx.load("pedalboard:Gain"), pool=bfx.Inline(), hop=512)
    points = layer.encode([{"gain_db": -20}, {"gain_db": 0}]).T
    curve = bfx.Curve(points, RATE / 8192)
    wet = layer(torch.full((1, 1, 8192), 0.5), torch.zeros(1, 1), curves={"gain_db": curve})
    middles = -20 + 20 * (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(wet[0, 0, 511::512], 0.5 * 10 ** (middles / 20), rtol=1e-3)


def test_failed_items_are_dry_and_have_no_gradient():
    pool = bfx.Processes(1, on_failure="skip")
    effect = bfx.function(explode, bfx.Space({"u": bfx.Continuous(0, 1, 0.5)}), automatable=True)
    with pool:
        layer = bfx.BlackBox(effect, pool=pool)
        audio = clips(2, 0.5).requires_grad_()
        layer(audio[1:].detach(), torch.full((1, 1), 0.5))  # one that was rendered may fail
        points = torch.tensor([[0.95, 0.99], [0.4, 0.5]], requires_grad=True)
        wet = layer(audio, torch.full((2, 1), 0.5), curves={"u": bfx.Curve(points, 4)})
        assert layer.failed.tolist() == [True, False]
        torch.testing.assert_close(wet[0], audio[0].detach())
        wet.square().sum().backward()
        assert not points.grad[0].any()
        assert not audio.grad[0].any()
        assert points.grad[1].all()


def explode(audio, sample_rate, *, u):
    if np.max(u) > 0.9:
        raise ValueError("too much")
    return audio * np.asarray(u, np.float32)


@pytest.mark.parametrize("name", TWINS)
def test_twins_move_exactly(name):
    twin, draw = TWINS[name], torch.Generator().manual_seed(0)
    audio = 0.3 * torch.randn(2, 2, 500, generator=draw, dtype=torch.float64)
    inputs = {each: audio.flip(0) for each in twin.inputs}
    params = 0.2 + 0.6 * torch.rand(2, twin.space.width, generator=draw, dtype=torch.float64)
    still = twin(audio, params, RATE, inputs)
    moving = [each for each in twin.columns if each not in twin.still]
    for column in moving:
        k = twin.columns.index(column)
        same = twin(audio, params, RATE, inputs, moving={column: params[:, k : k + 1].expand(-1, 500)})
        torch.testing.assert_close(same, still, atol=2e-6, rtol=1e-5)

    def swept(audio, params, points):
        column = torch.nn.functional.interpolate(points[None], size=160, mode="linear", align_corners=True)[0]
        given = {each: x[..., :160] for each, x in inputs.items()}
        return twin(audio, params, RATE, given, moving=dict.fromkeys(moving, column))

    points = 0.3 + 0.4 * torch.rand(2, 3, generator=draw, dtype=torch.float64)
    given = [x.clone().requires_grad_() for x in (audio[..., :160], params, points)]
    assert torch.autograd.gradcheck(swept, given, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.still])
def test_what_cannot_move_is_named(name):
    twin = TWINS[name]
    layer = bfx.Direct(twin)
    curve = bfx.Curve(torch.zeros(1, 1), 1)
    with pytest.raises(ParameterError, match=rf"{twin.still[0]!r} of {name} cannot move"):
        layer(torch.zeros(1, 1, 9), torch.zeros(1, layer.width), curves={twin.still[0]: curve})


def curve(rows=1):
    return bfx.Curve(torch.full((rows, 2), 0.5), 2)


@pytest.mark.parametrize(
    ("layer", "curves", "error", "words"),
    [
        ("pedalboard:PitchShift", {"semitones": curve()}, EffectError, "cannot change settings during a clip"),
        ("pedalboard:Gain", {"gain": curve()}, ParameterError, "'gain' of pedalboard:Gain cannot move"),
        ("pedalboard:Gain", {"gain_db": curve(2)}, ParameterError, "must be a Curve with 1 rows, got 2"),
        ("pedalboard:Gain", {"gain_db": torch.zeros(1, 2)}, ParameterError, "must be a Curve"),
    ],
)
def test_mistakes_are_one_sentence(layer, curves, error, words):
    made = bfx.BlackBox(bfx.load(layer), pool=bfx.Inline())
    with pytest.raises(error, match=words):
        made(torch.zeros(1, 1, 9), torch.full((1, made.width), 0.5), curves=curves)


def test_layers_that_take_no_curves_say_so():
    proxy = bfx.load_proxy("pedalboard-compressor")
    chain = bfx.Chain({"comp": bfx.Hybrid(proxy.effect(), proxy)})
    name = chain.columns[0]
    with pytest.raises(ParameterError, match="a Hybrid takes no curves"):
        chain(torch.zeros(1, 1, 9), torch.full((1, chain.width), 0.5), curves={name: curve()})


def test_hops_that_an_effect_cannot_do_are_refused():
    with pytest.raises(ParameterError, match="hop must be"):
        bfx.BlackBox(bfx.load("pedalboard:Gain"), hop=0)


def test_points_that_an_optimiser_moved_out_of_range_are_refused():
    points = torch.full((1, 3), 0.9, requires_grad=True)
    given = bfx.Curve(points, 4)
    with torch.no_grad():
        points += 1
    for layer, name in (
        (bfx.Mix({"dry": None}, level_db=(-40, 0)), "dry.level_db"),
        (bfx.Direct(TWINS["limiter"]), "threshold_db"),
    ):
        with pytest.raises(ParameterError, match="points must lie in"):
            layer(torch.zeros(1, 1, 99), torch.full((1, layer.width), 0.5), curves={name: given})
    with pytest.raises(ParameterError, match="curves must be a mapping"):
        layer(torch.zeros(1, 1, 99), torch.full((1, layer.width), 0.5), curves=[1])


def test_curves_inside_of_torch_func_are_one_sentence():
    layer = bfx.BlackBox(bfx.load("pedalboard:PeakFilter"), pool=bfx.Inline())
    audio = clips(1, 0.1)

    def loss(params):
        return layer(audio, params, curves={"gain_db": curve()}).square().mean()

    with pytest.raises(EffectError, match=r"do not work inside of torch\.func"):
        torch.func.grad(loss)(torch.full((1, 3), 0.5))
