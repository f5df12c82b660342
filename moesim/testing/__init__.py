"""Contracts that every component of a kind keeps, for those that ship and for third parties'.

A contract is a function that raises AssertionError; call it from any test framework, on inputs of
your choice. There is a module a kind: ``arrivals``, ``batchings``, ``cache_policies``,
``collectors``, ``costs``, ``engine_commands``, ``figures``, ``fitters``, ``gatings``, ``importers``
(of traces), ``lengths``, ``measurement_importers``, ``misses``, ``model_families``, ``planners``,
``prefetchers``, ``routers``, ``schedulers``, ``splits``, ``transforms``, ``variant_choices``.
``prices`` is of a hardware profile, ``timelines`` of a run's timeline, and ``traces`` makes small
inputs.
``tests/contracts`` runs them over whatever is registered, ``docs/adding.md`` on its examples.
"""
