import dataclasses
import json
import pickle
import shutil
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

import blackbox_fx as bfx
from blackbox_fx.core import paths
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy import store
from blackbox_fx.proxy.card import Card, Original, Training, make_card
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import NETS, make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.records import AudioGradient, ParameterGradient, Scores, Sound
from blackbox_fx.proxy.store import CARD, RECIPE, WEIGHTS, list_proxies, load_proxy, read_card, save_proxy
from blackbox_fx.proxy.weights import checksum, round_weights

NET = {"kind": "structured", "filters": 0, "curve": True}
ONE_SENTENCE = r"^[^\n\x1b]{20,600}\.$"
SOUND = Sound(0.02, 0.003, 0.01, 0.2, 0.01, 0.5, 0.1)
SCORES = Scores(
    SOUND, ParameterGradient(None, None, None, None, 0, 24, 0), AudioGradient(1, 0, 1, 0.9, 4, 24), 80, 24, 1.5
)


def make_proxy(net=NET, address="pedalboard:Compressor"):
    effect = bfx.load(address)
    torch.manual_seed(0)
    made = make_net(net, effect.space.width, 44100)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.03 * torch.randn_like(p))
    return effect, Proxy(made, effect.space, effect.name, effect.fingerprint)


def keep(folder, net=NET, address="pedalboard:Compressor"):
    effect, proxy = make_proxy(net, address)
    tricks = {"more songs": 0.3, "longer clips": "nothing"}
    card = make_card(effect, proxy, net, Training(60, 99, 8, 2, 0, 1.5), SCORES, {"dry": SOUND}, tricks)
    return proxy, save_proxy(folder, proxy, ProxyRecipe(address, net=net), card)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies") / "my-comp"
    keep(folder)
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "my-comp")


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Empty folders for a user's and for shipped proxies."""
    monkeypatch.setattr(paths, "data", lambda: tmp_path / "data")
    monkeypatch.setattr(store, "shipped_folder", lambda: tmp_path / "shipped")
    return tmp_path / "data" / "proxies", tmp_path / "shipped"


def rewrite(folder, change):
    """Changes the JSON of a card."""
    data = json.loads((folder / CARD).read_text())
    change(data)
    (folder / CARD).write_text(json.dumps(data))


def put_weights(folder, content):
    """Other weights, with a card that vouches for them."""
    (folder / WEIGHTS).write_bytes(content)
    rewrite(folder, lambda card: card.update(sha256=checksum(content)))


def refused(folder, words):
    with pytest.raises(DataError, match=ONE_SENTENCE) as error:
        load_proxy(folder)
    assert words in str(error.value), str(error.value)


def test_a_card_reads_back_equal(kept):
    card = read_card(kept)
    assert Card.from_json(card.to_json().encode()) == card
    assert card.scores == dataclasses.replace(SCORES, realtime=80.0) and card.baselines == {"dry": SOUND}
    assert card.tricks == {"more songs": 0.3, "longer clips": "nothing"}
    assert card.original.name == "pedalboard:Compressor" and "pedalboard" in card.original.made_with
    assert card.space == bfx.load("pedalboard:Compressor").space
    assert card.parameters == sum(p.numel() for p in make_proxy()[1].parameters())


def test_the_card_has_the_latency_that_was_measured():
    effect = bfx.load("pedalboard:Gain")
    original = Original.of(effect, Profile("gain", latency_reported=64, latency_measured=3.0))
    assert (original.latency_reported, original.latency_measured, original.tail_seconds) == (64, 3.0, None)
    assert Original.of(effect).latency_measured is None


@pytest.mark.parametrize("kind", NETS)
def test_a_proxy_sounds_as_it_was_kept(tmp_path, kind):
    proxy, card = keep(tmp_path, {"kind": kind})
    again = bfx.load_proxy(tmp_path)
    audio, params = 0.3 * torch.randn(2, 1, 4096), torch.rand(2, proxy.width)
    with torch.no_grad():
        assert torch.equal(again(audio, params, 44100), proxy(audio, params, 44100))
    assert again.fingerprint == proxy.fingerprint and again.columns == proxy.columns
    assert checksum((tmp_path / WEIGHTS).read_bytes()) == card.sha256
    assert (tmp_path / WEIGHTS).stat().st_size < 2**20
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([RECIPE, WEIGHTS, CARD])
    assert ProxyRecipe.read(tmp_path / RECIPE).net == {"kind": kind}
    again.require(bfx.load("pedalboard:Compressor"))


def test_half_precision_changes_next_to_nothing():
    _, proxy = make_proxy()
    audio, params = 0.3 * torch.randn(4, 1, 8192), torch.rand(4, proxy.width)
    with torch.no_grad():
        before = proxy(audio, params, 44100)
        round_weights(proxy.net)
        after = proxy(audio, params, 44100)
    assert 0 < (after - before).norm() / before.norm() < 2e-3


def test_what_half_precision_cannot_hold_is_kept_whole(tmp_path):
    effect, proxy = make_proxy()
    card = make_card(effect, proxy, NET, Training(60, 99, 8, 2, 0, 1.5), SCORES, {})
    name, first = next((name, tensor) for name, tensor in proxy.named_parameters() if tensor.ndim == 2)
    with torch.no_grad():
        first[0, 0] = 1e6
    save_proxy(tmp_path, proxy, ProxyRecipe("pedalboard:Compressor"), card)
    assert load_proxy(tmp_path).get_parameter(name)[0, 0] == 1e6
    with torch.no_grad():
        first[0, 0] = torch.nan
    with pytest.raises(DataError, match="hold NaN"):
        save_proxy(tmp_path, proxy, ProxyRecipe("pedalboard:Compressor"), card)
    load_proxy(tmp_path)


def test_an_interrupted_save_leaves_no_proxy(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(DataError, match="No space left"):
        keep(tmp_path)
    refused(tmp_path, "no file card.json")


def test_a_card_of_another_proxy_is_not_kept(kept, tmp_path):
    _, proxy = make_proxy({**NET, "filters": 1}, "pedalboard:Gain")
    with pytest.raises(DataError, match="not of this proxy of pedalboard:Gain"):
        save_proxy(tmp_path, proxy, ProxyRecipe("pedalboard:Gain"), read_card(kept))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(version=2), "later release"),
        (lambda c: c.update(version=2, anything=3), "update blackbox_fx"),
        (lambda c: c.update(version=0), "version must be 1 or more"),
        (lambda c: c.update(version="1"), "version must be a whole number, got '1'"),
        (lambda c: c.pop("version"), "version must be a whole number, got None"),
        (lambda c: c.pop("scores"), "scores is missing"),
        (lambda c: c.pop("space"), "space must be a table"),
        (lambda c: c["scores"]["sound"].pop("esr"), "scores.sound.esr is missing"),
        (lambda c: c["scores"]["sound"].update(esr="0.1"), "scores.sound.esr must be a finite number, got '0.1'"),
        (lambda c: c["scores"]["sound"].update(esr=True), "must be a finite number, got True"),
        (lambda c: c["scores"].update(realtime=None), "scores.realtime must be a finite number"),
        (lambda c: c["scores"].update(items=2**60), "scores.items must be a whole number"),
        (lambda c: c["scores"]["sound"].update(esr=-1), "esr must be 0 or more, got -1.0"),
        (lambda c: c["scores"]["audio"].update(mean=5), r"mean must be [-1, 1], got 5.0"),
        (lambda c: c["baselines"]["dry"].update(stft=-1), "stft must be 0 or more"),
        (lambda c: c.update(parameters=-5), "parameters must be 0 or more, got -5"),
        (lambda c: c["space"].update(free=[]), "1 to 100000 columns"),
        (lambda c: c["training"].update(steps=1.5), "training.steps must be a whole number"),
        (lambda c: c.update(colour="red"), "'colour' is unknown"),
        (lambda c: c["original"].update({"\x1b[31m": 1}), "control characters"),
        (lambda c: c["original"].update(name="\ud800"), "control characters"),
        (lambda c: c["original"].update(name="n" * 20_000), "a text of 20000 characters"),
        (lambda c: c["baselines"].update(dry=[]), "baselines.dry must be a table"),
        (lambda c: c.update(tricks={"a": None}), "tricks.a must be a text or a finite number"),
        (lambda c: c.update(sample_rate=12), "sample_rate=12"),
        (lambda c: c.update(channels="mid and side"), "channels must be 'separate'"),
        (lambda c: c.update(sha256="../x"), "64 hexadecimal digits"),
        (lambda c: c["space"].update(free=["gain_db"]), "Unknown parameter 'gain_db'"),
        (lambda c: c["space"]["parameters"]["ratio"].update(low=99), "low < high"),
        (lambda c: c["space"]["parameters"]["ratio"].update(log=3), "ratio.log must be true or false"),
        (lambda c: c["space"]["parameters"]["ratio"].update(kind="knob"), "ratio.kind must be one of"),
        (lambda c: c["net"].update(kind="transformer"), "no net of kind 'transformer'"),
        (lambda c: c["net"].update(hidden=10**9), "at most 4096 is allowed"),
        (lambda c: c["net"].update(tail_seconds=1e9), "at most 600.0 is allowed"),
        (lambda c: c["net"].update(filters=-1), "update blackbox_fx"),
        (lambda c: c["net"].update(filters=2), "lacks the weights"),
    ],
)
def test_a_bad_card_is_one_sentence(folder, change, words):
    rewrite(folder, change)
    refused(folder, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (b"[]", "must be a table"),
        (b'{"version": 1, "version": 1}', "'version' is given twice"),
        (b'{"version": NaN}', "NaN is no number"),
        (b'{"version": 1e999}', "must be a whole number"),
        (b'{"version": ' + b"9" * 6000 + b"}", "damaged"),
        (b"[" * 200_000, "damaged"),
        (b"\xff\xfe", "damaged"),
        (b" " * (2**22 + 1), "at most 4194304 are read"),
    ],
)
def test_a_file_that_is_no_card(folder, content, words):
    (folder / CARD).write_bytes(content)
    refused(folder, words)


def hostile_header(claimed):
    return (
        struct.pack("<Q", claimed) + b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}'
    )


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: b"", "damaged"),
        (lambda w: w[: len(w) // 2], "damaged"),
        (lambda w: w + b"\0", "damaged"),
        (lambda w: hostile_header(2**62), "damaged"),
        (lambda w: hostile_header(79), "damaged"),
        (lambda w: pickle.dumps(Bomb()), "is a pickle"),
        (lambda w: b"PK\x03\x04" + w, "is a pickle or an archive"),
        (lambda w: save({**load(w), "extra": torch.ones(3)}), "weights 'extra' that its net does not have"),
        (lambda w: save({**load(w), "\x1b[2Jx": torch.ones(3)}), "its net does not have"),
        (lambda w: save(dict(list(load(w).items())[1:])), "lacks the weights"),
        (lambda w: save({k: v.flatten()[:1] for k, v in load(w).items()}), "where the net has"),
        (lambda w: save({k: v.int() for k, v in load(w).items()}), "in torch.int32, where torch.float16 is allowed"),
        (lambda w: save({k: v.bfloat16() for k, v in load(w).items()}), "in torch.bfloat16"),
        (lambda w: save({k: v.clone().fill_(torch.nan) for k, v in load(w).items()}), "NaN or infinity in"),
        (lambda w: save({k: v.clone().fill_(-torch.inf) for k, v in load(w).items()}), "NaN or infinity in"),
    ],
)
def test_bad_weights_are_one_sentence(folder, spoil, words):
    put_weights(folder, spoil((folder / WEIGHTS).read_bytes()))
    refused(folder, words)


def test_weights_that_the_card_does_not_vouch_for(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, "its SHA-256 is another")
    (folder / WEIGHTS).unlink()
    refused(folder, "no file weights.safetensors")


def test_huge_weights_are_not_read(folder):
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(2**40)
    refused(folder, "at most 67108864 are read")


def test_links_out_of_the_folder_are_not_followed(folder, tmp_path, homes):
    for name in (CARD, WEIGHTS):
        outside = tmp_path / name
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)
        refused(folder, "link to outside its folder")
        (folder / name).unlink()
        (folder / name).symlink_to(name)  # to itself
        refused(folder, name)
        (folder / name).unlink()
        shutil.move(outside, folder / name)
    own, _ = homes
    own.mkdir(parents=True)
    (own / "linked").symlink_to(folder)
    with pytest.raises(DataError, match="is a link to outside"):
        load_proxy("linked")
    assert "is a link" in list_proxies()[0].problem


def test_names_are_looked_up_in_order(kept, homes, tmp_path, monkeypatch):
    own, shipped = homes
    with pytest.raises(DataError, match="known are none"):
        load_proxy("my-comp")
    shutil.copytree(kept, shipped / "my-comp")
    assert store.find_proxy("my-comp") == shipped / "my-comp"
    shutil.copytree(kept, own / "my-comp")
    assert store.find_proxy("my-comp") == own / "my-comp"
    shutil.copytree(kept, shipped / "other")
    (shipped / "other" / CARD).write_text("{")
    (shipped / "README.md").touch()
    listed = list_proxies()
    assert [(p.name, p.shipped, p.card is None) for p in listed] == [("my-comp", False, False), ("other", True, True)]
    assert "damaged" in listed[1].problem
    monkeypatch.chdir(kept.parent)
    shutil.rmtree(own)
    assert store.find_proxy("./my-comp") == store.Path("my-comp") and load_proxy("./my-comp").width == 4
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="did you mean my-comp"):
        load_proxy("my-cmop")
    for name in ("my-comp/../my-comp", "x/../../etc", "..", "a\0b", "n" * 5000, ""):
        with pytest.raises(DataError, match=r"no name of a proxy|There is no proxy"):
            load_proxy(name)
    for name in (None, 3, b"my-comp"):
        with pytest.raises(DataError, match="named by a text or a folder"):
            load_proxy(name)


def test_shipped_proxies_are_small_and_load():
    for entry in list_proxies():
        if entry.shipped:
            assert not entry.problem and (entry.folder / WEIGHTS).stat().st_size <= 2**20
            assert load_proxy(entry.folder).width == entry.card.space.width
            assert store.read_recipe(entry.folder).sample_rate == entry.card.sample_rate


def test_shipped_proxies_are_found_in_a_clone_and_in_an_installed_package(root, kept, tmp_path, monkeypatch):
    assert store.shipped_folder() == root / "proxies"
    installed = tmp_path / "site-packages" / "blackbox_fx"
    monkeypatch.setattr(bfx, "__file__", str(installed / "__init__.py"))
    shutil.copytree(kept, installed / "shipped_proxies" / "my-comp")
    (tmp_path / "site-packages" / "proxies").mkdir()  # of somebody else
    monkeypatch.setattr(paths, "data", lambda: tmp_path / "data")
    assert load_proxy("my-comp").width == 4 and list_proxies()[0].shipped


def test_a_proxy_of_another_effect_says_so(kept):
    proxy = load_proxy(kept)
    proxy.require(bfx.load("pedalboard:Compressor"))
    with pytest.warns(UserWarning, match="another version of it"):
        proxy.require(bfx.load("pedalboard:Compressor").within(ratio=(1, 2)))
    with pytest.raises(ParameterError, match="takes the columns threshold_db"):
        proxy.require(bfx.load("pedalboard:Gain"))


NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@given(st.one_of(NESTED, st.builds(lambda v: {"version": 1, **v}, st.dictionaries(st.text(), NESTED))))
def test_any_json_is_a_card_or_one_error(value):
    with pytest.raises(DataError):
        Card.from_json(json.dumps(value).encode())


def places_in(value, path=()):
    """Paths to everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_in(item, (*path, key))


@given(st.data())
@settings(max_examples=100)
def test_a_mutated_card_is_a_card_or_one_error(kept, data):
    card = json.loads((kept / CARD).read_text())
    path = data.draw(st.sampled_from(list(places_in(card))[1:]))
    target = card
    for key in path[:-1]:
        target = target[key]
    match data.draw(st.sampled_from(["replace", "remove", "add", "bytes"])):
        case "replace":
            target[path[-1]] = data.draw(NESTED)
        case "remove":
            target.pop(path[-1])
        case "add" if isinstance(target, dict):
            target[data.draw(st.text())] = data.draw(NESTED)
    content = bytearray(json.dumps(card).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = Card.from_json(bytes(content))
        store.assemble(read, (kept / WEIGHTS).read_bytes(), "The weights", "The card")
    except DataError as error:
        assert "\n" not in str(error) and "\x1b" not in str(error)


@given(st.data())
@settings(max_examples=80)
def test_mutated_weights_are_weights_or_one_error(kept, data):
    content = bytearray((kept / WEIGHTS).read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, header), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    card = dataclasses.replace(read_card(kept), sha256=checksum(bytes(content)))
    try:
        proxy = store.assemble(card, bytes(content), "The weights", "The card")
        assert all(torch.isfinite(p).all() for p in proxy.parameters())
    except DataError as error:
        assert "\n" not in str(error) and "\x1b" not in str(error)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that is a folder."""
    from huggingface_hub import hub_mixin
    from huggingface_hub.errors import LocalEntryNotFoundError

    from blackbox_fx.proxy import hub

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            (tmp_path / repo_id).mkdir(parents=True)
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, **options):
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)
            return f"hub/{repo_id}"

    def download(repo_id, filename, **options):
        path = tmp_path / repo_id / filename
        if not path.exists():
            raise LocalEntryNotFoundError(f"{filename} is not in {repo_id}")
        link = tmp_path / f"cache-{filename}"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        return str(link)

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    monkeypatch.setattr(hub_mixin, "hf_hub_download", lambda repo_id, filename, **_: download(repo_id, filename))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return hub


def test_a_proxy_goes_to_the_hub_and_back(hub, kept, tmp_path):
    assert hub.HubProxy.open(kept).push_to_hub("me/comp") == "hub/me/comp"
    there = tmp_path / "me/comp"
    assert sorted(p.name for p in there.iterdir()) == sorted(["README.md", "config.json", RECIPE, WEIGHTS, CARD])
    page = (there / "README.md").read_text()
    assert "library_name: blackbox_fx" in page and "- pedalboard" in page and "| proxy | 0.02 ± 0.003 |" in page
    assert "threshold\\_db" in page
    back = hub.HubProxy.from_pretrained("me/comp")
    assert back.card == read_card(kept)
    for name, tensor in load_proxy(kept).state_dict().items():
        assert torch.equal(back.proxy.state_dict()[name], tensor)
    assert hub.HubProxy.from_pretrained(there).card == back.card


def test_what_the_hub_gives_is_distrusted(hub, kept, tmp_path):
    hub.HubProxy.open(kept).push_to_hub("me/comp")
    there = tmp_path / "me/comp"
    (there / "config.json").write_text("[1]")
    with pytest.raises(DataError, match=r"Cannot get a proxy from 'me/comp'"):
        hub.HubProxy.from_pretrained("me/comp")
    (there / "config.json").write_text('{"files": {"card.json": ""}, "proxy": 1}')
    assert hub.HubProxy.from_pretrained("me/comp").card == read_card(kept)
    put_weights(there, pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="is a pickle"):
        hub.HubProxy.from_pretrained("me/comp")
    (there / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"weights.safetensors is not in me/comp"):
        hub.HubProxy.from_pretrained("me/comp")
    with pytest.raises(DataError, match="Cannot get a proxy from 'me/nothing'"):
        hub.HubProxy.from_pretrained("me/nothing")


def test_without_the_package_the_line_to_install_it_is_shown(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "blackbox_fx.proxy.hub", raising=False)
    with pytest.raises(DataError, match=r"pip install 'blackbox_fx\[hub\]'"):
        importlib.import_module("blackbox_fx.proxy.hub")
