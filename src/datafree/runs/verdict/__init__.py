"""The verdict on a run: how good its student is, in a word, and what was unusual about the run."""

from datafree.runs.verdict.evidence import Evidence as Evidence
from datafree.runs.verdict.judging import verdict as verdict
from datafree.runs.verdict.judging import verdict_lines as verdict_lines
from datafree.runs.verdict.probing import probe as probe
from datafree.runs.verdict.rules import RULES as RULES
from datafree.runs.verdict.rules import findings as findings
