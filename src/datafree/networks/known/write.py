"""Write the index of the known architectures: `python -m datafree.networks.known.write`. It takes about ten minutes.

To be run when timm or torchvision has new architectures. Architectures that are not in the index are not recognised by their
weights; everything else works with them too.
"""

from pathlib import Path
from typing import Any

from datafree.files import write_text
from datafree.networks.known.blueprints import known_blueprint, known_networks
from datafree.networks.known.digests import names_digest, order_digest

INDEX = Path(__file__).with_name("index.json")


def digests_of(name: str) -> tuple[str, str] | None:
    """Return the digests of an architecture by names and by order; None if it cannot be built with its default settings."""
    try:
        network = known_blueprint(name)
    except Exception:  # timm and torchvision may raise anything
        return None
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    return names_digest(shapes), order_digest(shapes)


def index() -> dict[str, Any]:
    """Return the index: the digests by architecture."""
    rows = {name: digests_of(name) for name in known_networks()}
    return {name: list(row) for name, row in sorted(rows.items()) if row}


def main() -> None:
    """Write the index, one architecture a line."""
    lines = [f'"{name}": ["{names}", "{order}"]' for name, (names, order) in index().items()]
    write_text(INDEX, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
