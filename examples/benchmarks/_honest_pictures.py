"""The pictures of honest_score.py."""

PICTURES = {"scores": None}
