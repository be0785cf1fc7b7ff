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


OPTIONAL = ("preprocessor_config.json", "manifest.json", "README.md")
"""files of a folder that need not be there"""


def hub_folder(name: str, *, download: bool) -> Path:
    """Return the folder with a network of the Hugging Face hub: its configuration and one file of weights.

    Args:
        name: `OWNER/NAME`, or `OWNER/NAME@REVISION`.
        download: Download files that are not on this machine yet. Otherwise no request is made.

    Raises:
        InputError: If a file is not on this machine and must not or cannot be downloaded.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")

    def cached(file: str) -> Path | None:
        path = try_to_load_from_cache(repository, file, revision=revision or None)
        return Path(path) if isinstance(path, str) else None

    try:
        if download:
            _fetch(repository, revision or None)
        config, weights = cached("config.json"), next(filter(None, map(cached, FILES)), None)
    except Exception as fault:  # the hub may raise anything
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise InputError(
            f"{name} could not be downloaded from the Hugging Face hub ({why}); give a folder on this machine"
        ) from fault
    if config is None or weights is None:
        missing = "config.json" if config is None else "weights file"
        if download:
            raise InputError(f"{name} has no {missing} on the Hugging Face hub; give a network with one")
        raise InputError(
            f"{name} is not on this machine, and a resumed run downloads nothing; download it with "
            f"`hf download {repository}` and resume again"
        )
    return config.parent


def _fetch(repository: str, revision: str | None) -> None:
    """Download the configuration and one file of weights of a repository, unless they are on this machine."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    wanted = ("config.json", FILES[0])
    if all(isinstance(try_to_load_from_cache(repository, file, revision=revision), str) for file in wanted):
        return
    listed = HfApi().list_repo_files(repository, revision=revision)
    weights = next((file for file in FILES if file in listed), None)
    for file in ("config.json", *OPTIONAL, *([weights] if weights else [])):
        if file in listed:
            hf_hub_download(repository, file, revision=revision)
