"""Files: read only if they are regular and small enough, written completely or not at all, and checked for their types."""

from datafree.files.reading import TEXT_LIMIT as TEXT_LIMIT
from datafree.files.reading import open_regular as open_regular
from datafree.files.reading import parse_json as parse_json
from datafree.files.reading import read_bytes as read_bytes
from datafree.files.reading import read_json as read_json
from datafree.files.reading import read_text as read_text
from datafree.files.reading import sha256_of as sha256_of
from datafree.files.writing import append_text as append_text
from datafree.files.writing import atomic_file as atomic_file
from datafree.files.writing import atomic_folder as atomic_folder
from datafree.files.writing import open_for_appending as open_for_appending
from datafree.files.writing import sync as sync
from datafree.files.writing import unwritable as unwritable
from datafree.files.writing import write_json as write_json
from datafree.files.writing import write_text as write_text
