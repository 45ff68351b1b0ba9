from linear_eval.datasets.domains import DomainsConfig
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.notes import domain_notes, note_lines, run_notes
from linear_eval.evaluation.row import Row


def _row(title: str, **notes: float | str) -> Row:
    contestant = Contestant(key=title, title=title, architecture="resnet18")
    return Row(contestant, notes={key.replace("__", "/"): value for key, value in notes.items()})


def test_what_could_make_a_number_wrong_comes_first_and_nothing_twice() -> None:
    rows = [
        _row(
            "a",
            knn__recall_of_neighbours=0.98765432,
            linear_probe__learning_rate=0.1,
            linear_probe__chosen_top1=23.33333,
            linear_probe__warning="widen the grid",
            low_shot__spread=1.23456,
            low_shot__images=1234567,
            something_new="look here",
        )
    ]
    assert run_notes(rows, {"train": 2, "test": 0}) == [
        "2 train images could not be read and were skipped",
        "knn/recall_of_neighbours: 0.9877",
        "linear_probe/warning: widen the grid",
        "something_new: look here",
        "linear_probe/learning_rate: 0.1",
        "low_shot/images: 1234567",
        "linear_probe/chosen_top1: 23.3",
    ]


def test_notes_are_short_where_contestants_agree() -> None:
    assert note_lines("knn/x", {"a": "5", "b": "5"}, 2) == ["knn/x: 5"]
    assert note_lines("knn/x", {"a": "5"}, 2) == ["knn/x: 5 (a)"]
    assert note_lines("knn/x", {"a": "5", "b": "6", "c": "5"}, 3) == ["knn/x: 5 (a, c), 6 (b)"]
    assert note_lines("w", {"a": "too small", "b": "at the edge"}, 2) == [
        "w (a): too small",
        "w (b): at the edge",
    ]


def test_a_backbone_that_saw_the_domain_which_judges_is_named() -> None:
    def trained_without(domain: str, data: str = "domains") -> Contestant:
        said = {"name": data, "test_domain": domain}
        return Contestant(key=domain, title=domain, architecture="", pretraining_data=said)

    photo = DomainsConfig(root="", test_domain="photo")
    nothing = Contestant(key="r", title="random", architecture="")
    assert domain_notes(photo, [nothing, trained_without("photo")]) == []
    assert domain_notes(photo, [trained_without("sketch", "image_folder")]) == []
    (line,) = domain_notes(photo, [trained_without("sketch"), trained_without("photo")])
    assert line.startswith("data.test_domain: sketch was trained on all domains but sketch, and so")
    assert line.endswith("set data.test_domain=sketch")
