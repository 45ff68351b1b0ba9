"""What frozen features are worth: one file per evaluator, its config beside its function.

Every `evaluate_*` returns metrics in percent, and notes: facts and warnings under the same prefix.
"""
