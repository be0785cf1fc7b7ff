"""Saved image sets, as they are read: by `datafree.sets`, which also writes them, and by methods that start from one."""

from datafree.synthesis.image_sets.reading import About as About
from datafree.synthesis.image_sets.reading import ImageSet as ImageSet
from datafree.synthesis.image_sets.reading import read as read
from datafree.synthesis.image_sets.reading import reordered as reordered
from datafree.synthesis.image_sets.reading import reordered_targets as reordered_targets
from datafree.synthesis.image_sets.stored import StoredSet as StoredSet
