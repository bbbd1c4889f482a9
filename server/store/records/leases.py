"""Leases: who alone may act, under a number that grows with every change of hands."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as the store has it, or had it.

    Attributes:
        name: What it is for.
        token: Grows with every change of hands; 0 before the first.
        holder: The run of a server that holds it, unlike any other; None if it is free.
        beat: Grows as long as the holder lives.
    """

    name: str
    token: int
    holder: str | None
    beat: int

    @classmethod
    def unheard_of(cls, name: str) -> "Lease":
        """A lease that nobody ever held."""
        return cls(name=name, token=0, holder=None, beat=0)

    def taken_by(self, holder: str) -> "Lease":
        """The lease in the hands of another."""
        return replace(self, token=self.token + 1, holder=holder, beat=self.beat + 1)

    def renewed(self) -> "Lease":
        """The lease with the next beat."""
        return replace(self, beat=self.beat + 1)
