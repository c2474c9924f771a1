"""Says which promise was broken, by which entry, in words."""

__all__ = ["Violation"]


class Violation(BaseException):
    """An invariant does not hold."""

    def __init__(self, invariant: str, entity: str, message: str) -> None:
        super().__init__(invariant, entity, message)
        self.invariant = invariant
        self.entity = entity
        self.message = message

    def __str__(self) -> str:
        return f"{self.invariant}: {self.message}"
