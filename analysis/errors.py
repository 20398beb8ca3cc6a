"""What the analysis raises when it cannot go on.

::

    ValueError
    ├── DataError          a file or array is not what it must be
    └── MeasurementError   a tomogram stands, yet a quantity cannot be measured
"""


class DataError(ValueError):
    """A file or an array is not what it must be.

    The message is one line: which file and dataset, which value, what is allowed and
    what to do.
    """


class MeasurementError(ValueError):
    """A quantity cannot be measured in this tomogram; the message says why."""
