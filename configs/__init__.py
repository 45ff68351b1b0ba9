"""The configurations that ship with the suite, installed as `linear_eval.configs`."""
