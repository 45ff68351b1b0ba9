"""Which images a batch shows, and random views of them, made in batches."""

from ssl_bf.views.balanced_sampler import ClassBalancedConfig, DomainBalancedConfig
from ssl_bf.views.sampler import EveryImageConfig

SamplerConfig = EveryImageConfig | ClassBalancedConfig | DomainBalancedConfig

__all__ = ["SamplerConfig"]
