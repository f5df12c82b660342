"""Slow checks of moesim against theory, apart from the tests: ``make verify``.

A check is a function in a module of this folder, decorated with ``@check``. It returns how far the
simulator is from the law; the tolerance stands in the decorator, with its reason, before it runs.
"""
