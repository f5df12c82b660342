"""Contracts that every component of a kind keeps, for those that ship and for third parties'.

A contract is a function that raises AssertionError; call it from any test framework, on inputs of
your choice: ``moesim.testing.cache_policies``, ``gatings``, ``planners``, ``batchings``,
``prices`` (of a hardware profile), ``timelines``, and ``traces`` to make small inputs.
``tests/contracts`` runs them over whatever is registered.
"""
