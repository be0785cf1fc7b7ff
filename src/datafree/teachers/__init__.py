"""Creating, loading, saving and diagnosing classifiers."""

from datafree.teachers.sources import create as create
from datafree.teachers.sources import load as load
from datafree.teachers.sources import load_folder as load_folder
from datafree.teachers.sources import save_folder as save_folder
