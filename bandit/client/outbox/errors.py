"""The errors of a reward outbox. A reward that was passed to a call that raises one of them is not kept.

OutboxError                  the outbox can't do what was asked
├── OutboxFullError          send or drop what it holds first
├── OutboxFileError          look at the file, its disk and its permissions
└── OutboxClosedError        it was closed
"""


class OutboxError(Exception):
    """The outbox can't do what was asked, and has changed nothing."""


class OutboxFullError(OutboxError):
    """The outbox holds as many rewards as it may.

    Attributes:
        path: the file of the outbox.
        n_rewards: how many rewards wait.
        most: how many may.
    """

    def __init__(self, path: str, n_rewards: int, most: int) -> None:
        super().__init__(path, n_rewards, most)
        self.path = path
        self.n_rewards = n_rewards
        self.most = most

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.n_rewards:,} rewards wait, and max_rewards is {self.most:,}, so nothing was "
            "kept: see last_error for why they are not sent"
        )


class OutboxFileError(OutboxError):
    """The file is damaged, is none of an outbox, or can't be read or written.

    Attributes:
        path: the file.
        problem: what is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class OutboxClosedError(OutboxError):
    """The outbox was closed.

    Attributes:
        path: the file of the outbox.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: the outbox is closed"
