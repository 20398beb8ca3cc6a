"""Errors an operator can act on.

::

    InsituError
    ├── ConfigurationError   the file is wrong: edit it           (exit 2)
    ├── RefusedError         a check says no: look before you go  (exit 3)
    └── RecordError          the record cannot be written: the experiment stops
"""


class InsituError(Exception):
    """What an operator reads as plain lines, never as a traceback."""


class ConfigurationError(InsituError):
    """The experiment's file is not what it must be; one line for each fault."""

    def __init__(self, *faults: str):
        super().__init__("\n".join(faults))
        self.faults = faults


class RefusedError(InsituError):
    """A check refuses to go on; one line for each reason."""

    def __init__(self, *reasons: str):
        super().__init__("\n".join(reasons))
        self.reasons = reasons


class RecordError(InsituError):
    """Documents or journal cannot be written; nothing may happen unrecorded."""
