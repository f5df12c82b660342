"""How much hypothesis draws: 25 examples of each test at every desk, 400 with
``--hypothesis-profile=thorough``. What one run does not draw, another one does.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "desk", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("desk"), max_examples=400)
settings.load_profile("desk")
