"""Domains: learn on some, be judged on another."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from linear_eval.datasets.domains import DomainsConfig
from linear_eval.datasets.selection import open_selected_train, split_holdout
from linear_eval.datasets.splits import open_splits
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]
MakeTree = Callable[..., Path]
TREE = {f"{d}/{c}": 3 for d in ("art", "photo", "sketch") for c in ("cat", "dog")}


def test_train_is_every_domain_but_one_and_test_is_that_one(make_tree: MakeTree) -> None:
    config = DomainsConfig(root=str(make_tree(TREE)), test_domain="photo")
    train, test = config.open_train(), config.open_test()
    assert train.ids[0] == "art/cat/cat_0.png"
    assert {name.split("/")[0] for name in train.ids} == {"art", "sketch"}
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert train.domains is not None
    assert train.domains.tolist() == [0] * 6 + [1] * 6
    assert test.ids == tuple(f"{c}/{c}_{n}.png" for c in ("cat", "dog") for n in range(3))
    assert train.read(7).shape == (3, 3, 4)
    splits = open_splits(config)
    assert splits.shares_classes


def test_domains_stay_with_their_images_when_some_are_chosen(make_tree: MakeTree) -> None:
    config = DomainsConfig(root=str(make_tree(TREE)), test_domain="art", max_images=8)
    rest, held = split_holdout(open_selected_train(config), 0.25)
    for part in (rest, held):
        assert part.domains is not None
        expected = [("photo", "sketch").index(name.split("/")[0]) for name in part.ids]
        assert part.domains.tolist() == expected


def test_a_domain_may_lack_a_class_and_the_identity_knows_the_test_domain(
    make_tree: MakeTree,
) -> None:
    root = str(make_tree({**TREE, "art/owl": 2}))
    one, other = (DomainsConfig(root=root, test_domain=name) for name in ("photo", "sketch"))
    assert one.open_train().class_names == ("cat", "dog", "owl")
    assert one.open_test().class_names == ("cat", "dog", "owl")
    assert one.open_train().fingerprint != other.open_train().fingerprint
    assert torch.equal(one.open_train().labels.unique(), torch.tensor([0, 1, 2]))


def test_what_is_wrong_is_one_line(make_tree: MakeTree, one_line: OneLine) -> None:
    root = make_tree(TREE)

    def said(name: str, *, test: bool = False) -> str:
        config = DomainsConfig(root=str(root), test_domain=name)
        with pytest.raises(InputError) as caught:
            config.open_test() if test else config.open_train()
        return one_line(caught.value)

    assert "data.test_domain: 'foto' is no folder of" in said("foto")
    assert "expected one of art, photo, sketch" in said("foto")
    (root / "art" / "empty").mkdir()
    assert "has no image in 1 class folder(s) (empty)" in said("photo")
    (root / "art" / "empty").rmdir()
    Image.new("RGB", (4, 3)).save(root / "art" / "loose.png")
    assert "1 images lie directly in it" in said("photo")
    (root / "art" / "loose.png").rename(root / "loose.png")
    assert "1 images lie directly in it (loose.png)" in said("photo")
    (root / "loose.png").unlink()
    (root / "paint").mkdir()
    assert "paint: holds no class folders, expected root/DOMAIN/CLASS" in said("photo")
    (root / "paint" / "list.txt").touch()
    assert "paint: holds no class folders (1 .txt)" in said("photo")
    (root / "paint" / "list.txt").rename(root / "list.txt")
    (root / "paint").rmdir()
    (note,) = DomainsConfig(root=str(root), test_domain="photo").open_train().notes
    assert "1 .txt" in note
    (root / "art" / "cat").rename(root / "art" / "Cat")
    assert "holds 'cat' where train has 'Cat'" in said("photo")
    (root / "art" / "Cat").rename(root / "art" / "cat")
    (root / "photo" / "cat").rename(root / "photo" / "owl")
    found = said("photo", test=True)
    assert "holds 1 class folder(s) (owl), expected only classes of train" in found


def test_a_single_domain_is_refused(make_tree: MakeTree, one_line: OneLine) -> None:
    config = DomainsConfig(root=str(make_tree({"art/cat": 1})), test_domain="art")
    with pytest.raises(InputError, match="holds one domain") as caught:
        config.open_train()
    one_line(caught.value)
