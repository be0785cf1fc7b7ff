"""Teacher-level filters: gates on shared features, one set of gates per teacher."""

from torch import Tensor, nn


class Filter(nn.Module):
    r"""Scale each channel by a gate computed from the features, :math:`F^{j,m} = f_m^j(F^j)`.

    The gates come from global average pooling and two fully connected layers. They lie between 0 and 2 and are close
    to 1 at initialisation.

    Args:
        channels: Number of channels of the features.

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
