"""Which images a batch shows, each way of choosing with its keys."""

from ssl_bf.samplers.balanced import ClassBalancedConfig, DomainBalancedConfig
from ssl_bf.samplers.sampler import EveryImageConfig

SamplerConfig = EveryImageConfig | ClassBalancedConfig | DomainBalancedConfig

__all__ = ["SamplerConfig"]
