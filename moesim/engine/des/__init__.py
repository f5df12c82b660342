"""The discrete-event engine on SimPy."""
