"""Creating, loading, saving and inspecting classifiers."""

from datafree.teachers.creation import create as create
from datafree.teachers.folders import load_folder as load_folder
from datafree.teachers.folders import save_folder as save_folder
from datafree.teachers.sources import load as load
