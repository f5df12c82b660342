"""The closed loop: a real decode with expert slots, and moesim's replay of what it recorded.

``model``, ``pool`` and ``forward`` decode, ``measure`` keeps a ``recording``, ``replay`` simulates
it, ``compare`` judges.
"""
