"""Teacher-level filters: what of shared features a teacher looks at."""

from torch import Tensor, nn


class Filter(nn.Module):
    r"""A gate for each channel: global pooling and two fully connected layers, :math:`F^{j,m} = f_m^j(F^j)`.

    It begins near one everywhere and stays between 0 and 2.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.3, Eq 9
        | https://arxiv.org/abs/2003.09088
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 4)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        return features * 2 * self.gate(features.mean((2, 3)))[:, :, None, None]
