"""Pictures drawn by small programs, without data and without a network.

References:
    | Learning to See by Looking at Noise (Baradad et al., 2021), https://arxiv.org/abs/2106.05963
    | Procedural Image Programs for Representation Learning (Baradad et al., 2022), https://arxiv.org/abs/2211.16412
    | Pre-training without Natural Images (Kataoka et al., 2020), https://arxiv.org/abs/2101.08515
"""

from datafree.synthesis.drawings.drawing import DRAWINGS as DRAWINGS
from datafree.synthesis.drawings.drawing import PHOTOGRAPHS as PHOTOGRAPHS
from datafree.synthesis.drawings.drawing import SYMBOLS as SYMBOLS
from datafree.synthesis.drawings.drawing import Artist as Artist
from datafree.synthesis.drawings.drawing import draw as draw
