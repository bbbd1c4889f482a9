"""What every part of the store on a SQL database goes by."""

from abc import ABC, abstractmethod

from server.store.dialect import Dialect


class SqlPart(ABC):
    """A part of a store, in the database of `_dialect`."""

    @property
    @abstractmethod
    def _dialect(self) -> Dialect:
        """The database; StoreUnavailableError until it is known to be of this version's schema."""
