"""caproto's channel types, which it takes for `dtype` but does not annotate so."""

from typing import Any

from caproto import ChannelType

CHAR: Any = ChannelType.CHAR
DOUBLE: Any = ChannelType.DOUBLE
ENUM: Any = ChannelType.ENUM
STRING: Any = ChannelType.STRING
