"""The weights that timm provides for its networks: where they come from, and where they are on this machine."""

from collections.abc import Iterator
from pathlib import Path

from datafree.types import InputError

FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
"""names of a weights file on the Hugging Face hub, in the order in which timm looks for them"""


def pretrained_source(name: str) -> str:
    """Return where timm downloads the weights of a network from: an identifier of the Hugging Face hub, or an address."""
    import timm

    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return str(cfg.hf_hub_id or cfg.url or "") if cfg else ""


def downloaded_weights(name: str) -> Path:
    """Return the file that timm has downloaded for a network earlier. This makes no request.

    Raises:
        InputError: If there is none.
    """
    path = next(filter(Path.is_file, _candidates(name)), None)
    if path is None:
        raise InputError(
            f"timm's weights of {name} are not on this machine, and a resumed run downloads nothing; download them with "
            f"`python -c \"import timm; timm.create_model('{name}', pretrained=True)\"` and resume again"
        )
    return path


def _candidates(name: str) -> Iterator[Path]:
    import timm
    from huggingface_hub import try_to_load_from_cache
    from torch.hub import get_dir

    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if cfg and cfg.hf_hub_id:
        repository, _, revision = cfg.hf_hub_id.partition("@")
        for file in [cfg.hf_hub_filename] if cfg.hf_hub_filename else FILES:
            path = try_to_load_from_cache(repository, file, revision=revision or None)
            if isinstance(path, str):
                yield Path(path)
    elif cfg and cfg.url:
        yield Path(get_dir()) / "checkpoints" / (cfg.url if isinstance(cfg.url, str) else cfg.url[1]).rpartition("/")[2]
