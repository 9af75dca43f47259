"""Proxies on the Hugging Face Hub; needs `pip install 'blackbox_fx[hub]'`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, final

from blackbox_fx.core.files import write_bytes, write_text
from blackbox_fx.core.hints import override
from blackbox_fx.errors import DataError
from blackbox_fx.proxy import card as cards
from blackbox_fx.proxy import weights
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.store import CARD, RECIPE, WEIGHTS, assemble, find_proxy
from blackbox_fx.proxy.strict import read_bytes, shown
from blackbox_fx.proxy.table import score_table

try:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
except ImportError as error:
    raise DataError("Proxies on the Hub need huggingface_hub: pip install 'blackbox_fx[hub]'.") from error

_LIMITS = {RECIPE: cards.LIMIT, CARD: cards.LIMIT, WEIGHTS: weights.LIMIT}


@final
class HubProxy(ModelHubMixin, library_name="blackbox_fx"):
    """A proxy that goes to the Hub and comes from there, as every model does.

    `HubProxy.open("runs/comp").push_to_hub("me/comp")` and `HubProxy.from_pretrained("me/comp").proxy`; both take what
    `huggingface_hub.ModelHubMixin` documents.

    Args:
        files: content of recipe.toml, card.json and weights.safetensors, by name.

    Attributes:
        proxy: ready to be called.
        card: what it is and how good it is.

    Raises:
        DataError: files that are damaged or not those of a proxy, or a card of a later release.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self.card = Card.from_json(files[CARD], CARD)
        self.proxy: Proxy = assemble(self.card, files[WEIGHTS], WEIGHTS, CARD)

    @classmethod
    def open(cls, name: str | os.PathLike[str]) -> HubProxy:
        """The proxy that `load_proxy` gives. Raises DataError as that does."""
        return cls(_read(find_proxy(name)))

    @classmethod
    @override
    def from_pretrained(cls, *args: Any, **options: Any) -> HubProxy:
        """A proxy of the Hub or of a folder; nothing is unpickled.

        Raises:
            DataError: no such repository, or one that holds no proxy.
        """
        try:
            return super().from_pretrained(*args, **options)
        except (HfHubHTTPError, OSError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            name = args[0] if args else options.get("pretrained_model_name_or_path")
            raise DataError(
                f"Cannot get a proxy from {shown(name)} ({shown(str(error).strip())}); it must be a folder, or a "
                f"repository with {', '.join(_LIMITS)} that you may read."
            ) from error

    @classmethod
    @override
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> HubProxy:
        if Path(model_id).is_dir():
            return cls(_read(Path(model_id)))
        found: dict[str, bytes] = {}
        for name, limit in _LIMITS.items():
            kept = hf_hub_download(
                model_id,
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
            path = Path(kept).resolve()  # the cache holds links
            found[name] = read_bytes(path.parent, path.name, limit)
        return cls(found)

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        for name in (RECIPE, WEIGHTS, CARD):
            write_bytes(save_directory / name, self._files[name])
        # the mixin asks for it before all else, and fails without a network if it is not there
        write_text(save_directory / "config.json", json.dumps({"library_name": "blackbox_fx"}))

    @override
    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """README.md of the repository, from the card."""
        card = self.card
        kind = card.original.name.partition(":")[0].lower()
        data = ModelCardData(
            library_name="blackbox_fx",
            pipeline_tag="audio-to-audio",
            tags=["audio", "audio-effect", "blackbox_fx", "neural-proxy", *([kind] if kind.isalnum() else [])],
        )
        heading, *rows = score_table(card.scores, card.baselines)
        lines = [heading, ("---",) * len(heading), *rows]
        table = "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)
        return ModelCard(
            f"---\n{data.to_yaml()}\n---\n\n# A neural proxy of {_plain(card.original.name)}\n\n"
            f"A net of {card.parameters} weights trained to give the output of an audio effect, for gradients with "
            f"respect to its parameters ({_plain(', '.join(card.space.free))}) and to audio, "
            f"at {card.sample_rate:g} Hz.\n\n"
            "```python\nfrom blackbox_fx.proxy.hub import HubProxy\n\n"
            'proxy = HubProxy.from_pretrained("...").proxy  # the name of this repository\n'
            "wet = proxy(audio, params, sample_rate)  # (batch, channel, time), (batch, width) in [0, 1]\n```\n\n"
            f"On {card.scores.items} held-out clips and settings:\n\n{table}\n"
        )


def _read(folder: Path) -> dict[str, bytes]:
    return {name: read_bytes(folder, name, limit) for name, limit in _LIMITS.items()}


def _plain(text: str) -> str:
    """Text that is no markup in Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in text)
