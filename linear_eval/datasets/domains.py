"""The same classes in several domains: learn on some, be judged on one that was never seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from linear_eval.datasets.class_folders import (
    class_folder_split,
    class_names_of,
    file_split,
    holds_instead,
    refuse_empty_folders,
    refuse_loose_images,
    refuse_other_case,
)
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.image_files import (
    FoundImage,
    existing_folder,
    few,
    first_folder,
    folder_names,
    scan_images,
)
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable


@dataclass(frozen=True, kw_only=True)
class DomainsConfig(ImageFileSettings):
    """`root/DOMAIN/CLASS/*.jpg`, as PACS, VLCS, OfficeHome, TerraIncognita and DomainNet have it.

    Attributes:
        root: the folder of the domains.
        test_domain: the one that is judged on; all others are train.
    """

    name: Literal["domains"] = "domains"
    root: str
    test_domain: str

    def open_train(self) -> ImageSplit:
        """All domains but `test_domain`; ids are paths below root.

        Raises:
            InputError: there is no such domain, or none beside it; an image lies outside a class
                folder, a domain has no class folder, or a class folder holds no image.
        """
        root = existing_folder(self.root)
        beside = scan_images(root, only=())
        refuse_loose_images(root, beside)
        images: list[FoundImage] = []
        classes: list[str] = []
        domains: list[int] = []
        notes = [*beside.unread.notes(root)]
        for number, domain in enumerate(self._train_domains(root)):
            scan = scan_images(root / domain)
            refuse_loose_images(root / domain, scan)
            if not scan.folders:
                raise InputError(
                    f"{printable(str(root / domain))}: holds no class folders"
                    f"{holds_instead(scan)}, expected root/DOMAIN/CLASS; move it out of data.root,"
                    " if it is no domain"
                )
            refuse_empty_folders(root / domain, scan)
            name_of = class_names_of(root / domain, scan.folders)
            refuse_other_case(root / domain, set(name_of.values()) - set(classes), set(classes))
            for image in scan.images:
                images.append(FoundImage(f"{domain}/{image.path}", image.stamp))
                classes.append(name_of[first_folder(image)])
                domains.append(number)
            notes += scan.unread.notes(root / domain)
        names = tuple(sorted(set(classes)))
        label_of = {name: label for label, name in enumerate(names)}
        labels = [label_of[name] for name in classes]
        decoding = self.decoding
        train = file_split(
            self.name, root, images, labels, names, decoding=decoding, notes=tuple(notes)
        )
        return replace(train, domains=torch.tensor(domains, dtype=torch.int64))

    def open_test(self) -> ImageSplit:
        """`test_domain`, whose classes are among those of the others."""
        train = self.open_train()
        folder = existing_folder(self.root) / self.test_domain
        return class_folder_split(
            self.name, folder, class_names=train.class_names, decoding=self.decoding
        )

    def _train_domains(self, root: Path) -> list[str]:
        found = folder_names(root)
        if self.test_domain not in found:
            raise InputError(
                f"data.test_domain: '{printable(self.test_domain)}' is no folder of"
                f" {printable(str(root))}, expected one of {few(found, 20) or 'its domains'};"
                " correct data.test_domain or data.root"
            )
        others = [name for name in found if name != self.test_domain]
        if not others:
            raise InputError(
                f"{printable(str(root))}: holds one domain, expected others to train on beside"
                f" {printable(self.test_domain)}; check data.root"
            )
        return others
