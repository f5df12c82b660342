"""Requests and trace rows in, forward passes out."""
