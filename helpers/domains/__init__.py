"""What can be asked of the pictures of one field: its classes, its concepts, and how they are put into words.

Each YAML file beside this one is a `Domain` that ships: `Domain.named("dermatology")`.
"""

from .domain import Domain, wordings

__all__ = ["Domain", "wordings"]
