"""Folders of networks: `config.json` and `model.safetensors`, in the layouts of timm, transformers and datafree."""

from datafree.teachers.folders.configuration import CONFIG as CONFIG
from datafree.teachers.folders.reading import CODE as CODE
from datafree.teachers.folders.reading import LOCAL as LOCAL
from datafree.teachers.folders.reading import MANIFEST as MANIFEST
from datafree.teachers.folders.reading import WEIGHTS as WEIGHTS
from datafree.teachers.folders.reading import load_folder as load_folder
from datafree.teachers.folders.reading import read_folder as read_folder
from datafree.teachers.folders.saving import architecture as architecture
from datafree.teachers.folders.saving import arguments_of as arguments_of
from datafree.teachers.folders.saving import is_registered as is_registered
from datafree.teachers.folders.saving import registering_module as registering_module
from datafree.teachers.folders.saving import require_savable as require_savable
from datafree.teachers.folders.saving import save_folder as save_folder
from datafree.teachers.folders.saving import untrained as untrained
