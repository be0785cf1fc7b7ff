"""Networks of the user's own code: a function of a Python file or module builds the network, a weights file fills it.

The words that name the function come from the command line or from the user's own program, never from a file: code that they
name can do anything. See `require_repeated` for runs that are resumed.
"""

from datafree.teachers.code.networks import create_student as create_student
from datafree.teachers.code.networks import load_code as load_code
from datafree.teachers.code.running import code_words as code_words
from datafree.teachers.code.running import is_code as is_code
from datafree.teachers.code.running import require_repeated as require_repeated
