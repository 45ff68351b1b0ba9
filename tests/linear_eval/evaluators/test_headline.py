from linear_eval.evaluators.headline import Column, matched


def test_a_star_stands_for_anything_between_two_slashes() -> None:
    assert matched("knn/k=*/top1", "knn/k=20/top1")
    assert not matched("knn/k=*/top1", "knn/k=20/t=0.1/top1")
    assert not matched("knn/k=*/top1", "moco/knn/k=20/top1")
    assert not matched("a.c", "abc")


def test_a_column_shows_what_it_prefers_and_otherwise_the_first() -> None:
    column = Column("k-NN (k={})", "knn/k=*/top1", prefers="20")
    assert column.find(["knn/k=1/top1", "knn/k=20/top1"]) == ("k-NN (k=20)", "knn/k=20/top1")
    assert column.find(["knn/k=5/top1", "knn/k=10/top1"]) == ("k-NN (k=5)", "knn/k=5/top1")
    assert column.find(["retrieval/map", "knn/k=5/many"]) is None
    recall = Column("recall@{}", "retrieval/recall@*", prefers="1")
    found = recall.find(["retrieval/recall@10", "retrieval/recall@1"])
    assert found == ("recall@1", "retrieval/recall@1")
