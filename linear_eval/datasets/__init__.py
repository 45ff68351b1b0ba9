"""One file per data set; both packages open their images through these configs."""

from linear_eval.datasets.cifar import Cifar10Config, Cifar100Config
from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.given import GivenConfig
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.imagenet_subset import ImagenetSubsetConfig
from linear_eval.datasets.imagenette import ImagenetteConfig
from linear_eval.datasets.in_shop import InShopConfig
from linear_eval.datasets.revisited import RevisitedConfig
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.datasets.tiny_imagenet import TinyImagenetConfig

DatasetConfig = (
    TexturesConfig
    | ImageFolderConfig
    | Cifar10Config
    | Cifar100Config
    | ImagenetSubsetConfig
    | ImagenetteConfig
    | TinyImagenetConfig
    | InShopConfig
    | RevisitedConfig
    | GivenConfig
)

__all__ = [
    "Cifar10Config",
    "Cifar100Config",
    "DatasetConfig",
    "DatasetSettings",
    "GivenConfig",
    "ImageFolderConfig",
    "ImageSplit",
    "ImagenetSubsetConfig",
    "ImagenetteConfig",
    "InShopConfig",
    "RevisitedConfig",
    "TexturesConfig",
    "TinyImagenetConfig",
]
